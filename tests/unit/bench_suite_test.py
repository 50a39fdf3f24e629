"""The suite of ./dev bench without its engines: memory seen from outside, what is read off records,
the page that is made of them, and recall as fathom-bench counts it."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

SOURCE = Path(os.environ["FATHOM_SOURCE"])
sys.path[:0] = [str(SOURCE / "bench"), str(SOURCE / "bench" / "rivals")]

import common  # noqa: E402
import document  # noqa: E402
import outside  # noqa: E402
import records  # noqa: E402
import rival_runs  # noqa: E402
import suite  # noqa: E402

MIB = 1 << 20


def run(recall, qps, **more):
    return {"params": {"x": 1}, "recall": recall, "qps": qps, "qps_min": qps * 0.9, "qps_max": qps,
            "cpu_us_per_query": 10, "reads_per_query": 2,
            "alone_us": {"p50": 5, "p95": 6, "p99": 7}, **more}


def variant(name, dram, *runs, **more):
    return {"name": name, "dram_bytes_per_vector": dram, "build_seconds": 1.5,
            "build_peak_rss_bytes": 3 * MIB, "index_bytes": 2 * MIB, "runs": list(runs), **more}


def record(engine, *variants, **more):
    return {"schema": records.SCHEMA, "engine": engine, "status": "measured", "version": "1.0",
            "set": {"name": "wordnet", "rows": 1000, "dim": 10, "dtype": "f32", "metric": "l2",
                    "k": 10},
            "date": "2026-01-01", "commit": "abc", "threads": 2, "pace": {"repeats": 3, "seconds": 0.3},
            "machine": {"cpu": "a CPU", "cpus": 2, "memory_bytes": 1 << 30, "kernel": "Linux 6",
                        "device": "/dev/x ext4"},
            "variants": list(variants), "failed": [], "others_cpu": 0.01, **more}


def fathom_record(*variants):
    own = {"navigator": "cells", "budget_bytes": MIB, "ledger": {"total": MIB},
           "dram": {"anon_bytes": MIB, "page_cache_bytes": 0}, "page_cache_bytes": 0,
           "io_engine": "uring"}
    for each in variants:
        each.update(own)
        for one in each["runs"]:
            one["params"] = {"search_list": 10}
    return record("fathom", *variants, cpu_level="avx2", load=None)


class Outside(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def watch(self, program, **more):
        with open(os.devnull, "wb") as log, outside.Watched(
            [sys.executable, "-c", program, "{pipe}"], self.folder, os.environ, log, pipe=True, **more
        ) as process:
            ready = process.wait_for("ready")
            process.start_counting(more.get("limited") and 64 * MIB)
            process.go()
            done = process.wait_for("done")
            dram = process.dram()
        return ready, done, dram

    STATIONS = (
        "import os, sys; pipe = os.fdopen(int(sys.argv[1]), 'w')\n"
        "def stop(name): print(name, file=pipe, flush=True); sys.stdin.readline()\n"
    )

    def test_memory_is_counted_from_ready_to_its_peak(self):
        ready, done, dram = self.watch(
            self.STATIONS + "before = bytearray(100 << 20); stop('ready')\n"
            "import time; after = bytearray(b'x') * (40 << 20); time.sleep(0.2); stop('done')"
        )
        self.assertTrue(ready and done)
        self.assertGreaterEqual(dram["baseline_bytes"], 100 * MIB)
        self.assertGreaterEqual(dram["anon_bytes"], 40 * MIB)
        self.assertLess(dram["anon_bytes"], 50 * MIB)
        self.assertEqual(dram["page_cache_bytes"], 0)

    def test_pages_of_the_index_in_the_cache_are_memory(self):
        path = self.folder / "index"
        path.write_bytes(os.urandom(8 * MIB))
        outside.drop_cache(self.folder)
        if outside.cached_bytes(self.folder):
            self.skipTest("this file system keeps all in memory")
        _, done, dram = self.watch(
            self.STATIONS + f"stop('ready'); data = open({str(path)!r}, 'rb').read(4 << 20); stop('done')"
        )
        self.assertTrue(done)
        self.assertGreaterEqual(dram["page_cache_bytes"], 4 * MIB)
        self.assertLessEqual(dram["page_cache_bytes"], 8 * MIB)

    def test_mincore_counts_as_cachestat_does(self):
        path = self.folder / "file"
        path.write_bytes(bytes(3 * MIB + 5))
        with open(path, "rb") as file:
            self.assertEqual(outside.pages_by_mincore(file.fileno()) * outside.PAGE,
                             outside.cached_bytes_of(path))

    def test_others_are_told_from_our_own(self):
        spin = "import time; end = time.monotonic() + 1\nwhile time.monotonic() < end: pass"
        ours = outside.Others()
        subprocess.run([sys.executable, "-c", spin], check=True)
        own_before = outside.Others.own_seconds()
        self.assertGreaterEqual(own_before - ours.own, 0.2)
        self.assertLessEqual(ours.share(), 1)
        theirs = outside.Others()
        child = subprocess.Popen([sys.executable, "-c", spin])  # not waited for: not counted as ours
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.assertGreater(theirs.share(), 0.1 / os.cpu_count())
        child.wait()

    def test_a_process_that_ends_early_is_seen(self):
        ready, done, _ = self.watch("raise SystemExit(3)")
        self.assertFalse(ready or done)

    def test_a_limit_holds_or_is_refused(self):
        greedy = (self.STATIONS + "stop('ready')\n"
                  "import time; more = bytearray(b'x') * (400 << 20); stop('done')")
        try:
            _, done, _ = self.watch(greedy, limited=True)
        except outside.NoLimit as refusal:
            self.skipTest(str(refusal))
        self.assertFalse(done)

    def test_a_run_that_takes_too_long_is_ended(self):
        with open(os.devnull, "wb") as log:
            code, peak, seconds = outside.run_and_measure(
                [sys.executable, "-c", "import time; time.sleep(60)"], os.environ, log, limit_seconds=0.5)
        self.assertLess(code, 0)
        self.assertGreater(peak, MIB)
        self.assertLess(seconds, 30)


class Records(unittest.TestCase):
    def test_the_best_run_is_a_measured_one_that_reaches_the_recall(self):
        one = variant("v", 10, run(0.94, 500), run(0.951, 300), run(0.97, 350))
        self.assertEqual(records.best_run(one, 0.95)["qps"], 350)
        self.assertIsNone(records.best_run(one, 0.98))

    def test_the_front_keeps_what_nothing_else_beats(self):
        points = [(10, {"qps": 5}), (20, {"qps": 4}), (30, {"qps": 9}), (30, {"qps": 8})]
        self.assertEqual(records.front(points), [(10, {"qps": 5}), (30, {"qps": 9})])

    def test_within_so_much_memory(self):
        one = record("faiss", variant("small", 10, run(0.96, 100)), variant("large", 50, run(0.96, 900)))
        self.assertIsNone(records.best_within(one, 0.95, 9))
        self.assertEqual(records.best_within(one, 0.95, 10)[0], 100)
        self.assertEqual(records.best_within(one, 0.95, 50)[0], 900)

    def test_what_is_written_is_read_back(self):
        with tempfile.TemporaryDirectory() as folder:
            one = record("faiss", variant("a", 1.23456789, run(0.5, 1)), variant("b", 2, run(0.6, 2)))
            records.write(Path(folder), one)
            records.write(Path(folder), record("absent", status="absent"))
            back = records.read_all(folder)
        self.assertEqual(list(back), ["wordnet"])
        self.assertEqual(list(back["wordnet"]), ["faiss"])  # engines that nobody knows are not shown
        self.assertEqual(back["wordnet"]["faiss"], records.rounded(one))
        self.assertEqual(records.rounded(1.23456789), 1.23457)


class Page(unittest.TestCase):
    def page(self, *made):
        with tempfile.TemporaryDirectory() as folder:
            results, page = Path(folder, "results"), Path(folder, "docs", "BENCHMARKS.md")
            for each in made:
                records.write(results, each)
            with mock.patch.dict(sys.modules, {"plots": mock.Mock()}):
                document.write(results, page)
            return page.read_text(encoding="utf-8")

    def test_who_wins_is_told_with_the_lead(self):
        text = self.page(
            fathom_record(variant("8% of raw", 4, run(0.96, 1000))),
            record("hnswlib", variant("M", 30, run(0.96, 3000))),
        )
        row = next(line for line in text.splitlines() if line.startswith("| wordnet (40 B)"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        # 5% of 40 bytes is 2, 10% is 4, 100% is 40
        self.assertEqual(cells[1:3], ["none", "**fathom** 1,000"])
        self.assertEqual(cells[6], "hnswlib 3,000, 3.0x fathom")
        self.assertNotIn("{{", text)

    def test_speeds_that_others_disturbed_are_marked(self):
        calm = fathom_record(variant("8% of raw", 4, run(0.96, 1000)))
        self.assertIn("Nobody else used the machine", self.page(calm))
        text = self.page({**calm, "others_cpu": 0.4})
        self.assertIn("too low and not to be compared", text)
        self.assertIn("fathom on wordnet (40%)", text)
        self.assertIn("| wordnet (40 B) | not measured alone |", text)

    def test_what_is_absent_is_told_with_the_reason(self):
        text = self.page(
            fathom_record(variant("8% of raw", 4, run(0.96, 1000))),
            record("diskann", status="absent", reason="no wheel | for /somewhere/deep/python9"),
        )
        self.assertIn("| DiskANN on wordnet | absent: no wheel / for python9 |", text)
        self.assertIn("| LanceDB on wordnet | not part of what was run |", text)
        self.assertIn("| sift128 | no records", text)


class Recall(unittest.TestCase):
    def test_ties_with_the_last_place_are_right_too(self):
        truth = np.array([[1, 2, 3, 4]]), np.array([[0.1, 0.2, 0.2, 0.3]], np.float32)
        self.assertEqual(common.recall(np.array([[1, 3]]), truth, 2), 1)
        self.assertEqual(common.recall(np.array([[1, 4]]), truth, 2), 0.5)
        self.assertEqual(common.recall(np.array([[1, 1]]), truth, 2), 0.5)


class Rivals(unittest.TestCase):
    def test_each_engine_is_pinned_and_has_an_adapter(self):
        for engine in rival_runs.ENGINES:
            wanted = (rival_runs.HERE / "requirements" / f"{engine}.txt").read_text().split()
            self.assertTrue(wanted and all("==" in each for each in wanted), engine)
            self.assertTrue((rival_runs.HERE / "engines" / f"{engine}.py").exists(), engine)
            self.assertIn(engine, records.TITLES)

    def test_what_cannot_be_installed_is_absent_with_the_reason(self):
        with tempfile.TemporaryDirectory() as folder:
            python = Path(folder, "venv", "bin", "python")

            def install(command, **_):
                if "venv" in command:
                    python.parent.mkdir(parents=True)
                    return subprocess.CompletedProcess(command, 0, "", "")
                return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: no such wheel\n")

            with mock.patch.object(rival_runs.subprocess, "run", install), self.assertRaisesRegex(
                rival_runs.Absent, "no such wheel"
            ):
                rival_runs.install("hnswlib", Path(folder, "venv"))


class Choice(unittest.TestCase):
    def choose(self, **more):
        options = {"sets": None, "engines": None, "quick": False, **more}
        return suite.choose(mock.Mock(**options))

    def test_parts_can_be_chosen(self):
        self.assertEqual(self.choose(sets="sift128", engines="fathom"), {"sift128": ["fathom"]})
        self.assertEqual(set(self.choose()), set(suite.STANDARD))
        self.assertEqual(self.choose(quick=True), suite.QUICK)

    def test_what_nobody_knows_is_refused(self):
        for wrong in ({"sets": "nowhere"}, {"engines": "nothing"}):
            with self.assertRaises(SystemExit):
                self.choose(**wrong)


if __name__ == "__main__":
    unittest.main()
