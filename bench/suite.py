#!/usr/bin/env python3
"""The benchmark suite of `./dev bench`: fathom and its rivals on the same data, with DRAM as an axis.

For each set and engine a record goes to bench/results, and docs/BENCHMARKS.md with its pictures is
made from all records there. Parts can be run again by themselves; --quick is a short look whose
records and page go to the work folder. Needs bench in PYTHONPATH, and python3-matplotlib.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

import document
import fathom_runs
import outside
import records
import rival_runs
import sets
from programs import ProgramFailed, Programs, die_on_terminate

FEW = ("fathom", "hnswlib", "faiss", "diskann")
ALL = ("fathom", *rival_runs.ENGINES)
# Which engines are run where: all of them on one real set, the strongest on the others. The page
# says so.
STANDARD = {name: ALL if name == "sift128" else FEW for name in sets.STANDARD}
QUICK = {"wordnet": ("fathom", "hnswlib", "faiss")}
PACE = {"repeats": 3, "seconds": 0.3, "load_seconds": 3}
QUICK_PACE = {"repeats": 1, "seconds": 0.2, "load_seconds": 1}


class Suite:
    def __init__(self, options):
        self.programs, self.work = Programs(options.bin), options.work.absolute()
        self.pace = QUICK_PACE if options.quick else PACE
        self.begin, self.limit_seconds = time.monotonic(), options.minutes * 60
        quick = self.work / "quick"
        self.results = quick / "results" if options.quick else document.RESULTS
        self.page = quick / "BENCHMARKS.md" if options.quick else document.PAGE
        self.machine = records.describe_machine(self.work)
        self.skipped = []

    def say(self, text):
        minutes, seconds = divmod(int(time.monotonic() - self.begin), 60)
        print(f"{minutes:3}:{seconds:02} {text}", flush=True)

    def run(self, parts):
        """fathom everywhere first: should time run out, it is the rivals' older records that
        stay."""
        opened = {}
        for name in parts:
            try:
                opened[name] = sets.open_set(name, self.programs, self.work / name)
            except sets.Missing as missing:
                self.skip(name, str(missing))
        order = [(name, engine) for name in opened for engine in parts[name]]
        for name, engine in sorted(order, key=lambda part: part[1] != "fathom"):
            if time.monotonic() - self.begin > self.limit_seconds:
                self.skip(f"{name}: {engine}", "no time left (--minutes)")
                continue
            self.measure(opened[name], engine)
        document.write(self.results, self.page)
        self.say(f"records in {self.results}, page in {self.page}")
        for what, why in self.skipped:
            self.say(f"skipped: {what}: {why}")

    def skip(self, what, why):
        self.skipped.append((what, why))
        self.say(f"{what}: skipped: {why}")

    def measure(self, data, engine):
        work, others = self.work / data["name"], outside.Others()
        if engine == "fathom":
            part = self.measure_fathom(data, work)
        else:
            venvs = self.work / "venvs"
            part = rival_runs.measure(engine, data, work, venvs, self.pace, self.say)
        part["others_cpu"] = others.share()
        records.write(self.results, records.make(data, engine, part, self.machine, self.pace))
        if part["status"] != "measured":
            self.say(f"{data['name']}: {engine}: {part['status']}: {part['reason']}")


    def measure_fathom(self, data, work):
        """A set that fathom fails on is a result too."""
        try:
            return fathom_runs.measure(data, self.programs, work, self.pace, self.say)
        except ProgramFailed as failure:
            return {"status": "failed", "reason": str(failure).splitlines()[-1], "variants": [],
                    "load": None}


def choose(options):
    """{set: engines}, as the options say."""
    names = options.sets.split(",") if options.sets else None
    engines = options.engines.split(",") if options.engines else None
    for name in names or ():
        if name not in sets.TITLES:
            sys.exit(f"bench: no set '{name}'; there are {', '.join(sets.TITLES)}")
    for engine in engines or ():
        if engine not in ALL:
            sys.exit(f"bench: no engine '{engine}'; there are {', '.join(ALL)}")
    standard = QUICK if options.quick else STANDARD
    return {name: engines or standard.get(name, FEW) for name in names or standard}


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--bin", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--sets", metavar="NAME,...", help=f"of {', '.join(sets.TITLES)}")
    parser.add_argument("--engines", metavar="NAME,...", help=f"of {', '.join(ALL)}")
    parser.add_argument("--quick", action="store_true", help="a short look, not for the page")
    parser.add_argument("--minutes", type=float, default=55, metavar="M",
                        help="begin no part after this long (55)")
    parser.add_argument("--fresh", action="store_true",
                        help="forget the rivals' indexes of earlier runs, and build them again")
    parser.add_argument("--page", action="store_true",
                        help="measure nothing: make the page from the records there are")
    options = parser.parse_args()
    if options.page:
        document.write(document.RESULTS, document.PAGE)
        return
    parts = choose(options)
    for name in parts if options.fresh else ():
        shutil.rmtree(options.work / name, ignore_errors=True)
    options.work.mkdir(parents=True, exist_ok=True)
    die_on_terminate()
    try:
        Suite(options).run(parts)
    except ProgramFailed as failure:
        sys.exit(f"\nbench: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
