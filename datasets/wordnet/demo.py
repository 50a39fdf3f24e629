#!/usr/bin/env python3
"""The demo: a dictionary searched backwards, from an embedding file to answers over TCP.

    base.npy -> fathom-build -> index -> fathom-check verify -> fathom-server -> Python client

then the same index measured: recall against exact search, speed, reads and memory. `./dev demo`
runs it; all that it makes goes to build/demo/. Needs numpy and msgpack, and
client/python and bench in PYTHONPATH.
"""

import argparse
import csv
import gzip
import shutil
import sys
import textwrap
import time
from pathlib import Path

import numpy as np

from fathom_client import Client
from page import Page, format_bytes
from programs import ProgramFailed, Programs, die_on_terminate

HERE = Path(__file__).resolve().parent
INDEX = "wordnet"
QUESTIONS = 12
ANSWERS = 3
K = 10
THREADS, INFLIGHT = 2, 16
SEARCH_LISTS = "10,20,40,80"
LOAD_QPS, LOAD_SECONDS, LOAD_CONNECTIONS = 1000, 4, 8


class Demo:
    def __init__(self, page, programs, work, budget):
        self.page, self.programs, self.work, self.budget = page, programs, work, budget
        self.index, self.truth = work / "wordnet.index", work / "truth.bin"
        self.step_number = 0

    def step(self, what, run, tell):
        """One step on one line: what is done, how long it took, and what came of it."""
        self.step_number += 1
        begin = time.monotonic()
        result = run()
        took = time.monotonic() - begin
        label = f"{self.step_number}. {what}".ljust(46)
        self.page.line(f"  {label}{took:6.1f} s   {self.page.faint(tell(result))}")
        return result

    # --- from the file to an index ---

    def prepare(self):
        for old in (self.index, self.truth):
            if old.is_dir():
                shutil.rmtree(old)
            old.unlink(missing_ok=True)
        self.step(
            "build an index of 84,000 definitions",
            lambda: self.programs.json(
                "fathom-build", "build", input=HERE / "base.npy", out=self.index, metric="cos"
            ),
            lambda _: f"{format_bytes(folder_bytes(self.index))} on disk",
        )
        self.step(
            "verify every page and reference of it",
            lambda: self.programs.json("fathom-check", "verify", self.index, deep=True),
            lambda found: f"{found['pages']:,} pages, {found['references']:,} references, sound",
        )
        self.step(
            "search exactly, to have the truth",
            lambda: self.programs.json(
                "fathom-data",
                "gt",
                base=HERE / "base.npy",
                query=HERE / "query.npy",
                metric="cos",
                k=100,
                out=self.truth,
            ),
            lambda _: "1,000 held-out definitions, 100 neighbours each",
        )

    # --- questions ---

    def ask(self, client):
        questions = [row[0] for row in read_table(HERE / "questions.tsv")][:QUESTIONS]
        vectors = np.load(HERE / "questions.npy")[:QUESTIONS]
        senses = read_table(HERE / "base.tsv.gz")
        begin = time.monotonic()
        answers = client.search(INDEX, vectors, k=ANSWERS, exact_distances=True)
        took = time.monotonic() - begin
        self.page.head(
            f"{len(questions)} questions, asked in one request over TCP, answered in "
            f"{took * 1e3:.1f} ms"
        )
        self.page.line(
            self.page.faint(
                "  each with its nearest definitions: 1 - cosine, the words, "
                "part of speech, definition"
            )
        )
        for question, ids, distances in zip(questions, answers.ids, answers.distances):
            self.page.line()
            self.page.line("  " + self.page.bold(question + "?"))
            for row, distance in zip(ids, distances):
                self.show_sense(distance, senses[row])

    def show_sense(self, distance, sense):
        words, part, _, definition = sense
        word_width = 30
        indent = 4 + 5 + 2 + word_width + 2 + 5
        word_lines = textwrap.wrap(words, word_width, break_on_hyphens=False)
        if len(word_lines) > 2:
            word_lines = word_lines[:1] + [textwrap.shorten(" ".join(word_lines[1:]), word_width)]
        text_lines = self.page.wrap(definition, indent)
        for i in range(max(len(word_lines), len(text_lines))):
            number = f"{distance:.3f}" if i == 0 else ""
            word = word_lines[i] if i < len(word_lines) else ""
            text = text_lines[i] if i < len(text_lines) else ""
            self.page.line(
                f"    {number:5}  {self.page.paint('36', word.ljust(word_width))}  "
                f"{self.page.faint((part if i == 0 else '').ljust(5))}{text}".rstrip()
            )

    # --- figures ---

    def measure(self, server):
        search = self.programs.json(
            "fathom-bench",
            "search",
            index=self.index,
            query=HERE / "query.npy",
            gt=self.truth,
            k=K,
            search_list=SEARCH_LISTS,
            dram_budget=self.budget,
            threads=THREADS,
            inflight=INFLIGHT,
            seconds=2,
        )
        load = self.programs.json(
            "fathom-bench",
            "load",
            server=server.address,
            index=INDEX,
            query=HERE / "query.npy",
            gt=self.truth,
            k=K,
            rate=LOAD_QPS,
            seconds=LOAD_SECONDS,
            connections=LOAD_CONNECTIONS,
        )
        self.show_search(search["runs"])
        self.show_load(load)
        self.show_memory(search, search["runs"][0])

    def show_search(self, runs):
        one = runs[0]
        self.page.head(
            f"In process: {one['threads']} threads, {one['inflight']} queries in flight each "
            f"({one['io_engine']}, {one['cpu_level']}, {one['navigator']} navigator)"
        )
        self.page.table(
            (
                "search list",
                f"recall@{K}",
                "QPS",
                "p50 us",
                "p99 us",
                "reads/query",
                "CPU us/query",
            ),
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
                for run in runs
            ],
        )

    def show_load(self, load):
        latency = load["latency_us"]
        self.page.head(
            f"Over TCP: {load['rate']:,.0f} requests a second on {load['connections']} "
            "connections, at their times whatever happens"
        )
        self.page.table(
            ("answered", f"recall@{K}", "QPS", "p50 us", "p99 us", "max us"),
            [
                (
                    f"{load['answered']:,} of {load['due']:,}",
                    f"{load['recall']:.4f}",
                    f"{load['qps']:,.0f}",
                    f"{latency['p50']:,.0f}",
                    f"{latency['p99']:,.0f}",
                    f"{latency['max']:,.0f}",
                )
            ],
        )

    def show_memory(self, search, run):
        dram, as_f32 = run["dram_bytes"], search["rows"] * search["dim"] * 4
        parts = [(name, count) for name, count in dram.items() if name not in ("total", "index")]
        large = sorted(
            (part for part in parts if part[1] >= dram["total"] / 100), key=lambda part: -part[1]
        )
        others = dram["total"] - sum(count for _, count in large)
        self.page.head("Memory and disk")
        rows = [(f"DRAM (budget {self.budget})", dram["total"])]
        rows += [(f"  {name}", count) for name, count in (*large, ("others", others))]
        rows += [
            ("index on disk", run["index_bytes"]),
            (f"raw vectors as {search['dtype']}", run["raw_bytes"]),
            ("raw vectors as f32", as_f32),
        ]
        self.page.table(
            ("", "size", "bytes/row", "of raw f32"),
            [
                (
                    name,
                    format_bytes(count),
                    f"{count / search['rows']:.1f}",
                    f"{count / as_f32:.1%}",
                )
                for name, count in rows
            ],
        )

    # --- the whole ---

    def run(self):
        self.page.line(
            self.page.bold("A dictionary, searched backwards: describe the thing, get the word")
        )
        self.page.line()
        self.prepare()
        with self.programs.server(
            self.work, {INDEX: self.index}, dram_budget=self.budget
        ) as server:
            self.step(
                f"serve it within {self.budget} of memory",
                server.start,
                lambda address: f"listening on {address}",
            )
            with Client(server.address) as client:
                self.ask(client)
            self.measure(server)


def read_table(path):
    """The rows of a .tsv (or .tsv.gz) behind its header line."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]


def folder_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--bin", type=Path, required=True, metavar="DIR", help="where the programs are"
    )
    parser.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="where the files go"
    )
    parser.add_argument(
        "--dram-budget",
        default="20MiB",
        metavar="SIZE",
        help="bound of the index's memory (default: %(default)s)",
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    die_on_terminate()
    try:
        Demo(Page(sys.stdout), Programs(options.bin), options.work, options.dram_budget).run()
    except ProgramFailed as failure:
        sys.exit(f"\ndemo: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
