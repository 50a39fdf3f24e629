#!/usr/bin/env python3
"""The benchmark suite of `./dev bench`: the dictionary of datasets/wordnet under several budgets.

Search in process for each DRAM budget (a share of the raw f32 size) and search list, then latency
over TCP under rising load. Tables on stdout; the records, as fathom-bench printed them, in the work
folder.
Needs bench in PYTHONPATH, and nothing but Python's own library.
"""

import argparse
import json
import sys
from pathlib import Path

from page import Page, format_bytes
from programs import ProgramFailed, Programs, die_on_terminate

DATA = Path(__file__).resolve().parents[1] / "datasets" / "wordnet"
NAME, METRIC, K = "wordnet", "cos", 10
BUDGET_SHARES = (0.06, 0.12, 0.18, 0.30)  # of the raw vectors as f32
SEARCH_LISTS = "10,20,40,80,160"
LOAD_RATES = (500, 1000, 2000, 4000, 8000)
LOAD_CONNECTIONS = 8


class Suite:
    def __init__(self, page, programs, work, quick):
        self.page, self.programs, self.work = page, programs, work
        self.seconds = 1 if quick else 5
        self.rates = LOAD_RATES[::2] if quick else LOAD_RATES
        self.index, self.truth = work / f"{NAME}.index", work / f"{NAME}.truth.bin"
        self.query = DATA / "query.npy"

    def prepare(self):
        self.page.line("building and finding the exact answers")
        self.programs.json(
            "fathom-build", "build", input=DATA / "base.npy", out=self.index, metric=METRIC
        )
        self.programs.json(
            "fathom-data",
            "gt",
            base=DATA / "base.npy",
            query=self.query,
            metric=METRIC,
            k=100,
            out=self.truth,
        )
        info = self.programs.json("fathom-data", "info", DATA / "base.npy")
        return info["rows"] * info["dim"] * 4

    def search(self, budget):
        return self.programs.json(
            "fathom-bench",
            "search",
            index=self.index,
            query=self.query,
            gt=self.truth,
            k=K,
            search_list=SEARCH_LISTS,
            dram_budget=budget,
            seconds=self.seconds,
        )

    def load(self, server, rate):
        return self.programs.json(
            "fathom-bench",
            "load",
            server=server.address,
            index=NAME,
            query=self.query,
            gt=self.truth,
            k=K,
            rate=rate,
            seconds=max(self.seconds, 2),
            connections=LOAD_CONNECTIONS,
        )

    def keep(self, name, record):
        path = self.work / f"{name}.json"
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        return path

    def run_searches(self, raw_bytes):
        records = []
        for share in BUDGET_SHARES:
            budget = int(raw_bytes * share)
            record = self.search(budget)
            records.append(record)
            run = record["runs"][0]
            self.page.head(
                f"Budget {format_bytes(budget)}, {share:.0%} of f32: {run['navigator']} "
                f"navigator, {run['dram_bytes_per_vector']:.1f} bytes a row kept"
            )
            self.page.table(
                ("search list", f"recall@{K}", "QPS", "p50 us", "p99 us", "reads/query", "CPU us"),
                [
                    (
                        str(run["search_list"]),
                        f"{run['recall']:.4f}",
                        f"{run['qps']:,.0f}",
                        f"{run['latency_us']['p50']:,.0f}",
                        f"{run['latency_us']['p99']:,.0f}",
                        f"{run['reads_per_query']:.2f}",
                        f"{run['cpu_us_per_query']:.0f}",
                    )
                    for run in record["runs"]
                ],
            )
        return self.keep("search", records)

    def run_loads(self, raw_bytes):
        budget = int(raw_bytes * BUDGET_SHARES[1])
        with self.programs.server(self.work, {NAME: self.index}, dram_budget=budget) as server:
            server.start()
            records = [self.load(server, rate) for rate in self.rates]
        self.page.head(f"Over TCP, budget {format_bytes(budget)}, {LOAD_CONNECTIONS} connections")
        self.page.table(
            ("requests a second", "answered", f"recall@{K}", "p50 us", "p99 us", "p99.9 us"),
            [
                (
                    f"{record['rate']:,.0f}",
                    f"{record['answered'] / record['due']:.1%}",
                    f"{record['recall']:.4f}",
                    *(f"{record['latency_us'][p]:,.0f}" for p in ("p50", "p99", "p999")),
                )
                for record in records
            ],
        )
        return self.keep("load", records)

    def run(self):
        raw_bytes = self.prepare()
        paths = [self.run_searches(raw_bytes), self.run_loads(raw_bytes)]
        self.page.line()
        self.page.line("records: " + ", ".join(map(str, paths)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--bin", type=Path, required=True, metavar="DIR", help="where the programs are"
    )
    parser.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="where the files go"
    )
    parser.add_argument("--quick", action="store_true", help="shorter runs, for a look")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    die_on_terminate()
    try:
        Suite(Page(sys.stdout), Programs(options.bin), options.work, options.quick).run()
    except ProgramFailed as failure:
        sys.exit(f"\nbench: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
