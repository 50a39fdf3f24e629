"""The suite of ./dev bench without its engines: memory seen from outside, what is read off records,
the page that is made of them, and recall as fathom-bench counts it."""

import json
import os
import subprocess
import sys
import tempfile
import time
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
import worker  # noqa: E402
from programs import ProgramFailed, Programs  # noqa: E402

MIB = 1 << 20


def run(recall, qps, **more):
    return {"params": {"x": 1}, "recall": recall, "qps": qps, "qps_min": qps * 0.9, "qps_max": qps,
            "cpu_us_per_query": 10, "reads_per_query": 2,
            "alone_us": {"p50": 5, "p95": 6, "p99": 7}, **more}


def variant(name, dram, *runs, **more):
    return {"name": name, "dram_bytes_per_vector": dram, "build_seconds": 1.5,
            "build_peak_rss_bytes": 3 * MIB, "index_bytes": 2 * MIB, "build_others_cpu": 0.01,
            "build_date": "2026-01-01", "runs": list(runs), **more}


def record(engine, *variants, **more):
    return {"schema": records.SCHEMA, "engine": engine, "status": "measured", "version": "1.0",
            "set": {"name": "wordnet", "rows": 100000000, "dim": 10, "dtype": "f32", "metric": "l2",
                    "k": 10},
            "run": "2026-01-01T10:00:00Z", "date": "2026-01-01", "commit": "abc", "threads": 2, "pace": {"repeats": 3, "seconds": 0.3},
            "machine": {"cpu": "a CPU", "cpus": 2, "memory_bytes": 1 << 30, "kernel": "Linux 6",
                        "device": "/dev/x ext4"},
            "variants": list(variants), "failed": [], "others_cpu": 0.01, **more}


def fathom_record(*variants):
    own = {"navigator": "cells", "budget_bytes": MIB, "ledger": {"total": MIB, "scratch": MIB // 2},
           "inflight": 16, "share": 0.08,
           "dram": {"anon_bytes": MIB, "page_cache_bytes": 0}, "page_cache_bytes": 0,
           "io_engine": "uring"}
    for each in variants:
        each.update(own)
        for one in each["runs"]:
            one["params"] = {"target_recall": 0.95}
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
        """By CPU time, of which a second is a second however busy the machine is."""
        spin = "import time\nwhile time.process_time() < 1: pass"
        ours = outside.Others()
        subprocess.run([sys.executable, "-c", spin], check=True)
        self.assertGreaterEqual(outside.Others.own_seconds() - ours.own, 0.9)
        self.assertLessEqual(ours.share(), 1)
        theirs = outside.Others()
        child = subprocess.Popen([sys.executable, "-c", spin])  # not waited for: not counted as ours
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        share, seconds = theirs.share(), time.monotonic() - theirs.begin
        self.assertGreaterEqual(share * seconds * os.cpu_count(), 0.8)
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

    def test_a_process_that_hangs_is_ended_wherever_it_is(self):
        hanging = self.STATIONS + "import time; time.sleep(3600)"
        for before in ("", "stop('ready');"):
            with open(os.devnull, "wb") as log, outside.Watched(
                [sys.executable, "-c", hanging.replace("import time", before + "import time"), "{pipe}"],
                self.folder, os.environ, log, pipe=True, limit_seconds=1,
            ) as process:
                if process.wait_for("ready"):
                    process.start_counting()
                    process.go()
                self.assertFalse(process.wait_for("done"))
                self.assertTrue(process.timed_out)

    def test_a_program_that_takes_too_long_is_ended_and_named(self):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "fathom-slow")
            program.write_text("#!/bin/sh\nexec sleep 3600\n", encoding="ascii")
            program.chmod(0o755)
            with self.assertRaisesRegex(ProgramFailed, "fathom-slow took more than the 1 s"):
                Programs(Path(folder), limit_seconds=1).json("fathom-slow")
            with self.assertRaisesRegex(ProgramFailed, "no time left"):
                Programs(Path(folder), until=time.monotonic() - 1).json("fathom-slow")
        self.assertIsNone(Programs(Path(folder)).seconds_left())
        self.assertLessEqual(Programs(Path(folder), time.monotonic() + 5, 9).seconds_left(), 5)

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

    def test_what_is_a_little_above_a_column_still_belongs_to_it(self):
        one = record("usearch", variant("v", 10.04, run(0.96, 100)), variant("w", 10.06, run(0.96, 900)))
        self.assertEqual(records.best_within(one, 0.95, 10)[0], 100)
        few = {**one, "set": {**one["set"], "rows": 1000000}}  # half a MiB is half a byte for each
        self.assertEqual(records.best_within(few, 0.95, 10)[0], 900)
        self.assertIsNone(records.best_within(few, 0.95, 9.4))

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
        self.assertEqual(cells[1:6], ["none"] * 4 + ["**fathom** 1,000"])
        self.assertEqual(cells[9], "hnswlib 3,000, 3.0x fathom")
        self.assertNotIn("{{", text)

    def test_speeds_that_others_disturbed_are_marked(self):
        calm = fathom_record(variant("8% of raw", 4, run(0.96, 1000)))
        self.assertIn("Nobody else used the machine", self.page(calm))
        text = self.page({**calm, "others_cpu": 0.4})
        self.assertIn("too low and not to be compared", text)
        self.assertIn("fathom on wordnet (40%)", text)
        self.assertIn("| wordnet (40 B) | not measured alone |", text)

    def test_an_index_that_was_built_beside_others_is_marked(self):
        text = self.page(fathom_record(variant("8% of raw", 4, run(0.96, 1000))),
                         record("hnswlib", variant("M", 30, run(0.96, 3000), build_others_cpu=0.3)))
        self.assertIn("| hnswlib | 1.5 (others: 30% of the CPUs) |", text)
        self.assertIn("| fathom | 1.5 |", text)

    def test_records_of_one_run_are_said_to_be(self):
        own = fathom_record(variant("8% of raw", 4, run(0.96, 1000)))
        rival = record("hnswlib", variant("M", 30, run(0.96, 3000)))
        self.assertIn("All records are of one run of the suite, 2026-01-01T10:00:00Z on commit abc.",
                      self.page(own, rival))
        text = self.page({**own, "run": "2026-01-02T10:00:00Z", "commit": "def"}, rival)
        self.assertIn("Records of more than one run", text)
        self.assertIn("newest are of the run of 2026-01-02T10:00:00Z on commit def", text)
        self.assertIn("of the run of 2026-01-01T10:00:00Z on commit abc: hnswlib on wordnet", text)
        self.assertIn("3.0x fathom", text)  # the same machine: to be compared
        self.assertEqual(document.engines_on_sets({"a": ["x", "y"], "b": ["x"], "c": ["x", "y"]}), "a, c on x, y; b on x")

    def test_what_another_machine_measured_is_not_compared(self):
        own = fathom_record(variant("8% of raw", 4, run(0.96, 1000)))
        rival = record("hnswlib", variant("M", 30, run(0.96, 3000)))
        text = self.page({**own, "run": "2026-01-02T10:00:00Z"},
                         {**rival, "machine": {**rival["machine"], "cpu": "another CPU"}})
        self.assertIn("**Of another machine**, and left out of the tables above: hnswlib on wordnet",
                      text)
        self.assertNotIn("x fathom", text)

    def test_latency_is_told_at_a_part_of_the_most_that_was_answered(self):
        own = fathom_record(variant("8% of raw", 4, run(0.96, 1000)))
        at = {"rate": 600, "due": 10, "answered": 10, "recall": 0.96, "qps": 1000,
              "latency_us": {"p50": 250, "p99": 1230, "p999": 2000}}
        load = {"runs": [at], "peak_qps": 1000, "peak_part": 0.6, "at_peak_part": at,
                "share": 0.2, "inflight": 4, "connections": 8, "target_recall": 0.95}
        self.assertIn("answered is 1,000 requests a second; at 60% of that, p50 is 0.25 ms and p99 "
                      "**1.23 ms**", self.page({**own, "load": load}))

    def test_the_client_and_the_open_loop_in_process_are_told_where_they_were_measured(self):
        own = fathom_record(variant("8% of raw", 4, run(0.96, 1000)))
        at = {"rate": 600, "due": 10, "answered": 10, "recall": 0.96, "qps": 1000,
              "latency_us": {"p50": 250, "p99": 1230, "p999": 2000}}
        load = {"runs": [at], "peak_qps": 1000, "peak_part": 0.6, "at_peak_part": at,
                "share": 0.2, "inflight": 4, "connections": 8, "target_recall": 0.95}
        older = self.page({**own, "load": load})
        self.assertNotIn("The client ran", older)
        self.assertNotIn("In process, without", older)
        asked = {**at, "client_urgency": "realtime", "client_cpu_us_per_request": 37.72}
        inside = {"inflight": 8, "peak_qps": 32000, "peak_part": 0.6, "at_peak_part": {
            **at, "rate": 19200, "latency_us": {"p50": 210, "p99": 520, "p999": 900}}}
        text = self.page({**own, "load": {**load, "at_peak_part": asked, "in_process": inside}})
        self.assertIn("The client ran as realtime and took 37.7 us of CPU a request.", text)
        self.assertIn("32,000 queries a second; in an open loop at 60% of that (19,200/s, recall "
                      "0.9600), p50 is 0.21 ms and p99 **0.52 ms**.", text)
        fast = {**at, "urgency": "realtime", "latency_us": {"p50": 190, "p99": 310, "p999": 500}}
        for urgency, words in (("realtime", "**0.52 ms**, in real time (`--urgency realtime`) "
                                            "0.19 ms and **0.31 ms**."), ("slice", "**0.52 ms**.")):
            hurried = {**inside, "in_real_time": {**fast, "urgency": urgency}}
            self.assertIn(words, self.page({**own, "load": {**load, "in_process": hurried}}))
        self.assertIn("--inflight 8 --target-recall 0.95 --dram-budget 20% --rate 60%", text)
        self.assertIn("--workers 2 --inflight 4 --dram-budget 20% &", text)

    def test_rows_of_zeros_are_skipped_by_hand_as_by_the_suite(self):
        own = fathom_record(variant("8% of raw", 4, run(0.96, 1000)))
        self.assertNotIn("--zero-rows", self.page(own))
        self.assertIn("--zero-rows skip", self.page({**own, "set": {**own["set"], "metric": "cos"}}))

    def test_by_hand_each_number_of_queries_in_flight_is_a_command(self):
        own = fathom_record(variant("2% of raw", 1, run(0.96, 800)), variant("3% of raw", 2, run(0.96, 900)),
                            variant("no budget", 40, run(0.97, 1000)))
        for each, share, inflight in zip(own["variants"], (0.02, 0.03, None), (4, 16, 16)):
            each.update(share=share, inflight=inflight)
        own["variants"][0]["runs"][0]["params"] = {"target_recall": 0.9}
        text = self.page(own)
        self.assertIn("--inflight 4 --target-recall 0.9,0.95 --dram-budget 2%\n", text)
        self.assertIn("--inflight 16 --target-recall 0.9,0.95 --dram-budget 3%,0\n", text)

    def test_budgets_that_the_kernel_held_too_are_counted(self):
        own = fathom_record(variant("3% of raw", 2, run(0.96, 900)),
                            variant("8% of raw", 4, run(0.96, 1000), limit_bytes=5 * MIB))
        self.assertIn("1 of its 2 sweeps", " ".join(self.page(own).split()))

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


    def test_rows_of_zeros_are_left_out_under_cosine_and_numbers_lead_back(self):
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder, "base.npy")
            np.save(base, np.array([[1, 0], [0, 0], [0, 2], [3, 0]], np.float32))
            paths = {"base": str(base), "rows": 4, "dim": 2, "k": 1, "dtype": "f32"}
            cos, l2 = (common.Data({**paths, "metric": metric}) for metric in ("cos", "l2"))
            self.assertEqual((cos.rows, l2.rows), (3, 4))
            np.testing.assert_array_equal(cos.base(), [[1, 0], [0, 1], [1, 0]])
            none = 2**64 - 1
            self.assertEqual(cos.row_numbers(np.array([[2, 1, none]], np.uint64)).tolist(),
                             [[3, 2, -1]])
            self.assertEqual(l2.row_numbers(np.array([[3, 1, -1]])).tolist(), [[3, 1, -1]])


class Sweep(unittest.TestCase):
    """worker.sweep() with an engine that finds the first so many of ten."""

    class Engine:
        def search(self, queries, k, threads=2, right=0):
            self.calls = [*getattr(self, "calls", []), right]
            found = np.arange(1000, 1000 + k)
            found[:right] = np.arange(right)
            return np.tile(found, (len(queries), 1))

    def sweep(self, *rights):
        data = mock.Mock(k=10, row_numbers=lambda found: found)
        truth = np.tile(np.arange(10), (40, 1)), np.tile(np.arange(10, dtype=np.float32), (40, 1))
        engine = self.Engine()
        job = {"recall_range": (0.8, 0.99), "limit_seconds": 60,
               "pace": {"repeats": 1, "seconds": 0.001},
               "variant": {"searches": [{"right": right} for right in rights]}}
        found = worker.sweep(engine, data, np.zeros((40, 2)), truth, job)
        return [run["recall"] for run in found["runs"]], found["best_recall"], set(engine.calls)

    def test_only_what_is_drawn_is_timed(self):
        self.assertEqual(self.sweep(1, 5, 8, 9)[:2], ([0.8, 0.9], 0.9))

    def test_it_ends_above_the_highest_recall(self):
        recalls, _, tried = self.sweep(8, 10, 9)
        self.assertEqual(recalls, [0.8, 1.0])
        self.assertNotIn(9, tried)

    def test_it_ends_where_recall_no_longer_rises(self):
        self.assertEqual(self.sweep(8, 9, 9, 9, 9, 9)[0], [0.8, 0.9, 0.9, 0.9])

    def test_what_reaches_too_little_has_no_run(self):
        self.assertEqual(self.sweep(2, 3, 4)[:2], ([], 0.4))


class Pass(unittest.TestCase):
    def test_a_slow_engine_is_asked_other_queries_each_time(self):
        passes = worker.in_turn(np.arange(5), 2)
        self.assertEqual([next(passes).tolist() for _ in range(4)], [[0, 1], [2, 3], [4, 0], [1, 2]])
        whole = worker.in_turn(np.arange(3), 3)
        self.assertEqual([next(whole).tolist() for _ in range(2)], [[0, 1, 2]] * 2)

    def test_a_pass_is_a_second_or_longer_for_as_many_queries_as_recall_needs(self):
        for qps, count in ((5000, 5000), (500, 500), (300, 400), (200, 400), (100, 200), (2, 20)):
            self.assertEqual(worker.pass_queries(1 / qps), count)


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


    def test_all_are_installed_within_the_time_for_one(self):
        """A network that hangs must not take the hour: what is left of the time is the limit."""
        clock, limits = [1000.0], []

        def install(engine, _, limit_seconds):
            limits.append(limit_seconds)
            clock[0] += min(limit_seconds, 500)
            if engine != "usearch":
                raise rival_runs.Absent("no such wheel")

        with mock.patch.object(rival_runs, "install", install), \
             mock.patch.object(rival_runs.time, "monotonic", lambda: clock[0]):
            missing = rival_runs.install_all(["fathom", "hnswlib", "usearch", "zvec"], Path("venvs"))
        self.assertEqual(missing, {"hnswlib": "no such wheel", "zvec": "no such wheel"})
        self.assertEqual(limits, [rival_runs.INSTALL_SECONDS, rival_runs.INSTALL_SECONDS - 500, 1])

if __name__ == "__main__":
    unittest.main()
