#!/usr/bin/env python3
"""The benchmark suite of `./dev bench`: fathom and its rivals on the same data, with DRAM as an axis.

For each set and engine a record goes to bench/results as soon as it is measured, and
docs/BENCHMARKS.md with its pictures is made from all records there. A suite that was ended half way
goes on with --resume. Parts can be run again by themselves; --quick is a short look whose records
and page go to the work folder. Whatever happens to one engine on one set is told in its record and
costs no other. Needs bench in PYTHONPATH, and python3-matplotlib.
"""

import argparse
import shutil
import sys
import time
import traceback
from pathlib import Path

import document
import fathom_runs
import outside
import records
import rival_runs
import sets
import timetable
from progress import NothingToResume, Progress
from programs import ProgramFailed, Programs, die_on_terminate

ALL = ("fathom", *rival_runs.ENGINES)
STANDARD = {name: ALL for name in sets.STANDARD}
QUICK = {"wordnet": ("fathom", "hnswlib", "faiss", "diskann")}
PACE = {"repeats": 3, "seconds": 0.2, "load_seconds": 1.6}
QUICK_MINUTES = 9
QUICK_PACE = {"repeats": 1, "seconds": 0.2, "load_seconds": 1}


class Suite:
    def __init__(self, options, parts, progress, absent=None, spent_seconds=0):
        """absent: {engine: why it cannot be had here}. spent_seconds: of this run already, before
        anything is measured."""
        self.bin, self.work = options.bin, options.work.absolute()
        self.parts, self.progress, self.pace = parts, progress, pace_of(options)
        self.absent = absent or {}
        quick = self.work / "quick"
        self.results = quick / "results" if options.quick else document.RESULTS
        self.page = quick / "BENCHMARKS.md" if options.quick else document.PAGE
        minutes = options.minutes or (QUICK_MINUTES if options.quick else timetable.MINUTES)
        self.timetable = timetable.Timetable(minutes * 60, progress.spent_seconds + spent_seconds)
        self.skipped = []

    def say(self, text):
        minutes, seconds = divmod(int(self.timetable.spent_seconds()), 60)
        print(f"{minutes:3}:{seconds:02} {text}", flush=True)

    def open_sets(self):
        opened, programs = {}, Programs(self.bin, self.timetable.end())
        for name in self.parts:
            try:
                opened[name] = sets.open_set(name, programs, self.work / name)
            except (sets.Missing, ProgramFailed, OSError) as failure:
                self.skip(name, str(failure))
        return opened

    def run(self):
        opened = self.open_sets()
        todo = timetable.order([(data, engine) for name, data in opened.items()
                                for engine in self.parts[name]])
        for data, engine in todo:
            if not self.progress.has(data["name"], engine):
                self.measure(data, engine, self.timetable.until(data, engine))
        document.write(self.results, self.page)
        self.progress.finish()
        self.say(f"records in {self.results}, page in {self.page}")
        for what, why in self.skipped:
            self.say(f"skipped: {what}: {why}")

    def skip(self, what, why):
        self.skipped.append((what, why))
        self.say(f"{what}: skipped: {why}")

    def measure(self, data, engine, until):
        others, begin = outside.Others(), self.timetable.spent_seconds()
        part = self.part(data, engine, until)
        part["others_cpu"] = others.share()
        part["seconds"] = self.timetable.spent_seconds() - begin
        records.write(self.results, records.make(data, engine, part, self.progress, self.pace))
        self.progress.add(data["name"], engine, self.timetable.spent_seconds())
        if part["status"] != "measured":
            self.skip(f"{data['name']}: {engine}", f"{part['status']}: {part['reason']}")

    def part(self, data, engine, until):
        """What is the engine's of a record. That it failed is a result too, however it did."""
        work = self.work / data["name"]
        refusal = self.absent.get(engine) or self.timetable.refusal(data, engine)
        if refusal:
            return {"status": "absent", "reason": refusal, "variants": []}
        try:
            if engine == "fathom":
                programs = Programs(self.bin, until, fathom_runs.PROGRAM_SECONDS)
                return fathom_runs.measure(data, programs, work, self.pace, self.say)
            return rival_runs.measure(engine, data, work, self.work / "venvs", self.pace,
                                      self.progress.machine, until, self.say)
        except Exception as failure:  # of any kind: an hour of other parts hangs on it
            if not isinstance(failure, ProgramFailed):
                traceback.print_exc()
            return {"status": "failed", "reason": fathom_runs.told(failure, work), "variants": []}


def pace_of(options):
    return QUICK_PACE if options.quick else PACE


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
    return {name: list(engines or standard.get(name, ALL)) for name in names or standard}


def parse_options():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--bin", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    # What building fathom took of the time.
    parser.add_argument("--spent-seconds", type=float, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--sets", metavar="NAME,...", help=f"of {', '.join(sets.TITLES)}")
    parser.add_argument("--engines", metavar="NAME,...", help=f"of {', '.join(ALL)}")
    parser.add_argument("--quick", action="store_true", help="a short look, not for the page")
    parser.add_argument("--minutes", type=float, metavar="M",
                        help=f"be over after this long ({timetable.MINUTES:g}; {QUICK_MINUTES} with --quick)")
    parser.add_argument("--resume", action="store_true",
                        help="go on with the suite that was ended half way")
    parser.add_argument("--fresh", action="store_true",
                        help="forget the rivals' indexes of earlier runs, and build them again")
    parser.add_argument("--install", action="store_true",
                        help="measure nothing: install the rivals, and tell which cannot be had")
    parser.add_argument("--page", action="store_true",
                        help="measure nothing: make the page from the records there are")
    return parser.parse_args()


def run(options):
    parts = choose(options)
    for name in parts if options.fresh and not options.resume else ():
        shutil.rmtree(options.work / name, ignore_errors=True)
    options.work.mkdir(parents=True, exist_ok=True)
    outside.remove_groups_of_the_dead()
    asked = {"parts": parts, "pace": pace_of(options)}
    begin, path = time.monotonic() - options.spent_seconds, options.work / "suite.json"
    progress = Progress.resume(path, asked) if options.resume else Progress.begin(path, asked)
    absent = rival_runs.install_all(sorted(set(sum(parts.values(), []))),
                                    options.work.absolute() / "venvs")
    Suite(options, parts, progress, absent, time.monotonic() - begin).run()


def main():
    options = parse_options()
    if options.page:
        document.write(document.RESULTS, document.PAGE)
        return
    if options.install:
        sys.exit(1 if rival_runs.install_all(ALL, options.work.absolute() / "venvs") else 0)
    die_on_terminate()
    try:
        run(options)
    except (ProgramFailed, NothingToResume) as failure:
        sys.exit(f"\nbench: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
