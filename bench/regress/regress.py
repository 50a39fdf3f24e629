#!/usr/bin/env python3
"""A small fixed benchmark whose figures are free of noise, held against a stored baseline, so that a
slower commit is seen on any machine: reads, bytes, distances, memory, index size, recall, and
instructions as valgrind counts them. No clock is read.

    regress.py --bin DIR --work DIR                      compare; exit 1 when something got worse
    regress.py --bin DIR --work DIR --accept "reason"    store what is measured as the baseline

The data are fathom-data's own, the CPU level and OpenBLAS's kernels are pinned, searches run on one
thread with pread: what is left is the same on every machine with AVX2. Instructions also depend on
compiler and libc; they are compared where these are those of the baseline, and within a tolerance.
Profiles stay in the work folder, for callgrind_annotate.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
PINNED = {"FATHOM_CPU_MAX": "avx2", "OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "1"}
QUERIES, K, IN_FLIGHT, SEED = 100, 10, 4, 5

# name, rows, dim, intrinsic, format, metric, then runs: name, DRAM budget, navigator, search list
SETS = [
    ("l2 f32", 20000, 64, 16, "fbin", "l2", [
        ("8-bit rows and graph", "0", "graph", 40),
        ("codes and graph", "2MiB", "graph", 40),
        ("cells", "1.3MiB", "cells", 40),
        ("codes on SSD", "550KiB", "cells", 40)]),
    ("cos f16", 6000, 256, 24, "f16bin", "cos", [
        ("codes and graph", "1.1MiB", "graph", 40),
        ("cells", "700KiB", "cells", 40)]),
]
BUILD_ROWS = 400  # of the build that valgrind counts, which it slows some fifty times

# figure -> (which way is worse, tolerance as a share of the baseline). Only instructions have one:
# the order of a sort hangs on latencies, and a libc may differ in its patch level.
UP, DOWN = 1, -1
FIGURES = {
    "recall": (DOWN, 0),
    "reads_per_query": (UP, 0),
    "code_reads_per_query": (UP, 0),
    "bytes_per_query": (UP, 0),
    "hops_per_query": (UP, 0),
    "rounds_per_query": (UP, 0),
    "distances_per_query": (UP, 0),
    "full_distances_per_query": (UP, 0),
    "dram_index_bytes": (UP, 0),
    "dram_scratch_bytes": (UP, 0),
    "index_bytes": (UP, 0),
    "list_bytes": (UP, 0),
    "instructions_per_query": (UP, 0.01),
    "instructions_per_row": (UP, 0.01),
}
INSTRUCTIONS = ("instructions_per_query", "instructions_per_row")


class Failed(Exception):
    """A program exited with something else than 0."""


def cpu_can():
    """Whether the pinned CPU level is there."""
    return bool(re.search(r"^flags\s*:.*\bavx2\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE))


def toolchain(programs):
    """What instructions depend on beside the source: the compiler, and the libc that is loaded."""
    read = subprocess.run(
        ["readelf", "-p", ".comment", programs / "fathom-bench"],
        capture_output=True, text=True, check=False,
    )
    compilers = sorted(set(re.findall(r"\]\s+(.*\S)", read.stdout)))
    return "; ".join([*compilers, " ".join(platform.libc_ver())])


class Measurement:
    """Runs the programs and gathers {run: {figure: value}}."""

    def __init__(self, programs, work):
        self.programs, self.work, self.figures = programs, work, {}
        self.valgrind = shutil.which("valgrind")
        self.built = False  # a build has been counted; one is enough, they are slow

    def execute(self, command):
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True, text=True, check=False, env={**os.environ, **PINNED},
        )
        if done.returncode:
            raise Failed(f"{' '.join(map(str, command))}\nexit {done.returncode}: {done.stderr}")
        return done.stdout, done.stderr

    def json(self, program, *arguments):
        return json.loads(self.execute([self.programs / program, *arguments, "--json"])[0])

    def instructions(self, name, program, *arguments):
        """What a whole run of a program executes."""
        profile = self.work / (re.sub(r"\W+", "-", name) + ".callgrind")
        command = [self.valgrind, "--tool=callgrind", f"--callgrind-out-file={profile}"]
        _, log = self.execute([*command, self.programs / program, *arguments])
        return int(re.search(r"Collected : (\d+)", log).group(1))

    def run(self):
        for each in SETS:
            self.measure_set(*each)
        return self.figures

    def make_data(self, rows, dim, intrinsic, kind, metric):
        base, query, truth = (self.work / f"{name}.{kind}" for name in ("base", "query", "truth"))
        self.execute([
            self.programs / "fathom-data", "synth", "--count", rows, "--dim", dim,
            "--intrinsic", intrinsic, "--seed", SEED, "--out", base,
            "--queries", QUERIES, "--query-out", query,
        ])
        self.json("fathom-data", "gt", "--base", base, "--query", query, "--metric", metric,
                  "--k", K, "--out", truth)
        return base, query, truth

    def measure_set(self, name, rows, dim, intrinsic, kind, metric, runs):
        base, query, truth = self.make_data(rows, dim, intrinsic, kind, metric)
        index = self.work / "index"
        shutil.rmtree(index, ignore_errors=True)
        built = self.json("fathom-build", "build", "--input", base, "--out", index,
                          "--metric", metric, "--threads", 2)
        self.figures[f"{name}: build"] = {
            "index_bytes": built["index_bytes"], "list_bytes": built["list_bytes"],
        }
        if self.valgrind and not self.built:
            self.measure_build(name, dim, intrinsic, kind, metric)
        for run_name, budget, navigator, search_list in runs:
            search = [
                "search", "--index", index, "--query", query, "--gt", truth, "--k", K,
                "--threads", 1, "--inflight", IN_FLIGHT, "--io", "pread", "--warm-up", "0s",
                "--dram-budget", budget, "--navigator", navigator, "--search-list", search_list,
            ]
            self.measure_search(f"{name}: {run_name}", search)

    def measure_build(self, name, dim, intrinsic, kind, metric):
        """Instructions per row between two sizes: what starting up costs is in both."""
        counts = []
        for rows in (BUILD_ROWS, 2 * BUILD_ROWS):
            base, index = self.work / f"small.{kind}", self.work / "small.index"
            shutil.rmtree(index, ignore_errors=True)
            self.execute([
                self.programs / "fathom-data", "synth", "--count", rows, "--dim", dim,
                "--intrinsic", intrinsic, "--seed", SEED, "--out", base,
            ])
            counts.append(self.instructions(
                f"{name} build", "fathom-build", "build", "--input", base, "--out", index,
                "--metric", metric, "--threads", 1,
            ))
        self.built = True
        per_row = (counts[1] - counts[0]) / BUILD_ROWS
        self.figures[f"{name}: build"]["instructions_per_row"] = round(per_row)

    def measure_search(self, name, search):
        run = self.json("fathom-bench", *search, "--passes", 1)["runs"][0]
        figures = {figure: run[figure] for figure in FIGURES if figure in run}
        figures["dram_index_bytes"] = run["dram_bytes"]["index"]
        figures["dram_scratch_bytes"] = run["dram_bytes"]["scratch"]
        del figures["index_bytes"]  # the build's
        if self.valgrind:
            once, twice = (
                self.instructions(name, "fathom-bench", *search, "--passes", passes)
                for passes in (1, 2)
            )
            figures["instructions_per_query"] = round((twice - once) / QUERIES)
        self.figures[name] = figures


def compare(baseline, figures, with_instructions=True):
    """Yields (run, figure, before, now, verdict); verdict is same, better, worse, gone or new."""
    for run in sorted(baseline.keys() | figures.keys()):
        before, now = baseline.get(run, {}), figures.get(run, {})
        for figure in sorted(before.keys() | now.keys()):
            if figure in INSTRUCTIONS and not with_instructions:
                continue
            yield run, figure, before.get(figure), now.get(figure), judge(
                figure, before.get(figure), now.get(figure)
            )


def judge(figure, before, now):
    if before is None or now is None:
        return "new" if before is None else "gone"
    worse_way, tolerance = FIGURES[figure]
    change = (now - before) * worse_way
    if abs(change) <= abs(before) * tolerance:
        return "same"
    return "worse" if change > 0 else "better"


def show(verdicts, stream):
    """One line for each figure that is not the same; all that was compared is counted."""
    verdicts = list(verdicts)
    for run, figure, before, now, verdict in verdicts:
        if verdict != "same":
            change = f" ({now / before - 1:+.2%})" if before and now else ""
            print(f"{verdict:7}{run}: {figure} {before} -> {now}{change}", file=stream)
    same = sum(verdict == "same" for *_, verdict in verdicts)
    print(f"{same} of {len(verdicts)} figures are as in the baseline", file=stream)


def commit():
    done = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def accept(measurement, programs, reason, path=BASELINE):
    if not measurement.valgrind:
        raise Failed("a baseline has instructions in it: install valgrind")
    document = {
        "reason": reason, "commit": commit(), "toolchain": toolchain(programs),
        "figures": measurement.run(),
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--bin", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("--accept", metavar="REASON", help="store a new baseline")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    baseline = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    measurement = Measurement(options.bin, options.work)
    try:
        if options.accept:
            document = accept(measurement, options.bin, options.accept)
            show(compare(baseline.get("figures", {}), document["figures"]), sys.stdout)
            return 0
        same_tools = measurement.valgrind and toolchain(options.bin) == baseline["toolchain"]
        verdicts = list(compare(baseline["figures"], measurement.run(), same_tools))
    except Failed as failure:
        sys.exit(f"regress: {failure}")
    show(verdicts, sys.stdout)
    if not same_tools:
        print("instructions were not compared: no valgrind, or not the compiler of the baseline")
    return 1 if any(verdict in ("worse", "gone") for *_, verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
