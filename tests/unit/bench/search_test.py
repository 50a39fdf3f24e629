"""fathom-bench search on a small synthetic index: the record has every field that the interface
names, and its figures agree with one another."""

import json
import os
import re
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

PROGRAMS = os.environ["FATHOM_BIN"]
ROWS, DIM, QUERIES = 4000, 32, 50

RUN_FIELDS = {
    "recall",
    "k",
    "search_list",
    "qps",
    "latency_us",
    "reads_per_query",
    "pages_per_query",
    "bytes_per_query",
    "hops_per_query",
    "distances_per_query",
    "cpu_us_per_query",
    "threads",
    "inflight",
    "io_engine",
    "dram_bytes",
    "dram_bytes_per_vector",
    "peak_rss_bytes",
    "index_bytes",
    "raw_bytes",
    "cpu_level",
    "device",
}
LATENCY_FIELDS = {"mean", "p50", "p95", "p99", "p999"}


def run(*command, expect=0):
    done = subprocess.run(
        [os.path.join(PROGRAMS, command[0]), *map(str, command[1:])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != expect:
        raise AssertionError(f"{command}: exit {done.returncode}, not {expect}: {done.stderr}")
    return done.stdout if expect == 0 else done.stderr


def run_text(index, query, *more):
    return run("fathom-bench", "search", "--index", index, "--query", query, *more)


class Search(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        at = Path(folder.name)
        cls.base, cls.query, cls.truth = at / "base.fbin", at / "query.fbin", at / "truth.bin"
        cls.index, cls.folder = at / "index", at
        run(
            "fathom-data",
            "synth",
            "--count",
            ROWS,
            "--dim",
            DIM,
            "--intrinsic",
            12,
            "--seed",
            1,
            "--out",
            cls.base,
            "--queries",
            QUERIES,
            "--query-out",
            cls.query,
        )
        run(
            "fathom-data",
            "gt",
            "--base",
            cls.base,
            "--query",
            cls.query,
            "--metric",
            "l2",
            "--k",
            20,
            "--out",
            cls.truth,
        )
        run("fathom-build", "build", "--input", cls.base, "--out", cls.index, "--metric", "l2")

    def search(self, *more, expect=0):
        text = run(
            "fathom-bench",
            "search",
            "--index",
            self.index,
            "--query",
            self.query,
            "--gt",
            self.truth,
            "--k",
            10,
            "--passes",
            2,
            "--threads",
            2,
            "--inflight",
            4,
            "--json",
            *more,
            expect=expect,
        )
        return json.loads(text) if expect == 0 else text

    def test_a_record_has_every_field_of_the_interface(self):
        record = self.search("--search-list", 40)["runs"][0]
        self.assertEqual(RUN_FIELDS - record.keys(), set())
        self.assertEqual(LATENCY_FIELDS - record["latency_us"].keys(), set())
        self.assertEqual((record["k"], record["threads"], record["inflight"]), (10, 2, 4))
        self.assertEqual(record["raw_bytes"], ROWS * DIM * 4)
        self.assertIn(record["io_engine"], ("uring", "pread"))
        self.assertGreater(record["qps"], 0)
        self.assertGreater(record["cpu_us_per_query"], 0)
        self.assertGreater(record["peak_rss_bytes"], record["dram_bytes"]["index"])

    def test_search_lists_are_runs_in_their_order_and_recall_rises(self):
        records = self.search("--search-list", "10,400")["runs"]
        self.assertEqual([record["search_list"] for record in records], [10, 400])
        self.assertGreaterEqual(records[1]["recall"], records[0]["recall"])
        self.assertGreaterEqual(records[1]["recall"], 0.95)
        self.assertGreater(records[1]["distances_per_query"], records[0]["distances_per_query"])

    def test_passes_over_the_queries_are_exact(self):
        record = self.search("--search-list", 20)["runs"][0]
        self.assertEqual(record["queries"], 2 * QUERIES)
        latency = record["latency_us"]
        self.assertLessEqual(latency["p50"], latency["p95"])
        self.assertLessEqual(latency["p95"], latency["p99"])
        self.assertLessEqual(latency["p99"], latency["p999"])

    def test_a_sweep_is_a_run_for_each_point(self):
        whole = self.search()["runs"][0]["dram_bytes"]["total"]
        document = self.search(
            "--dram-budget", f"1KiB,{whole},{2 * whole}",
            "--threads", "1,2", "--inflight", "1,4", "--search-list", "10,20",
        )
        points = [
            (run["dram_budget"], run["threads"], run["inflight"], run["search_list"])
            for run in document["runs"]
        ]
        self.assertEqual(
            points,
            [
                (budget, threads, inflight, search_list)
                for budget in (whole, 2 * whole)
                for threads in (1, 2)
                for inflight in (1, 4)
                for search_list in (10, 20)
            ],
        )
        for run in document["runs"]:
            self.assertLessEqual(run["dram_bytes"]["total"], run["dram_budget"])
        self.assertEqual([each["dram_budget"] for each in document["refused"]], [1024] * 4)
        self.assertRegex(document["refused"][0]["message"], "the least is [0-9]+")

    def test_a_budget_may_be_a_share_of_the_vectors_as_f32(self):
        raw = ROWS * DIM * 4
        document = self.search("--dram-budget", "0.1%,400%", "--search-list", "10")
        self.assertEqual([run["dram_budget"] for run in document["runs"]], [4 * raw])
        self.assertEqual([each["dram_budget_share"] for each in document["refused"]], [0.001])
        for wrong in ("0%", "-5%", "5 %", "nan%"):
            self.assertIn("write it like", self.search("--dram-budget", wrong, expect=2))

    def test_repetitions_ask_every_query_once(self):
        """The first all of them, whatever the time; the others as many as it allows."""
        command = ("--search-list", 20, "--seconds", 0, "--threads", 1, "--inflight", 1, "--json")
        once, thrice = (json.loads(run_text(self.index, self.query, "--gt", self.truth, *command,
                                            "--repeat", count))["runs"][0] for count in (1, 3))
        self.assertEqual(once["queries"], QUERIES)
        self.assertIn(thrice["queries"], (1, QUERIES))  # whichever is the median one
        for figure in ("recall", "reads_per_query", "hops_per_query", "distances_per_query"):
            self.assertEqual(once[figure], thrice[figure])

    def test_repetitions_give_a_median_and_the_spread(self):
        run = self.search("--search-list", 20, "--repeat", 5)["runs"][0]
        spread = run["spread"]
        self.assertEqual(spread["repeats"], 5)
        for figure in ("qps", "cpu_us_per_query"):
            self.assertLessEqual(spread[figure]["min"], run[figure])
            self.assertLessEqual(run[figure], spread[figure]["max"])
        self.assertLess(spread["qps"]["min"], spread["qps"]["max"])
        self.assertEqual(run["queries"], 2 * QUERIES)
        once = self.search("--search-list", 20)["runs"][0]
        self.assertEqual(once["spread"]["qps"], {"min": once["qps"], "max": once["qps"]})

    def test_an_open_loop_follows_each_run_at_each_rate(self):
        self.assertIsNone(self.search("--search-list", 10, "--rate", 500)["runs"][0]["open_loop"][0]["stops"])
        runs = self.search("--search-list", "10,40", "--rate", "500,50%", "--watch-cpus")["runs"]
        for run in runs:
            fixed, share = run["open_loop"]
            self.assertEqual(fixed["rate"], 500)
            self.assertAlmostEqual(share["rate"] / run["qps"], 0.5)
            for loop in (fixed, share):
                # --passes counts here too; what comes late is not left out.
                self.assertEqual((loop["queries"], loop["recall"]), (2 * QUERIES, run["recall"]))
                self.assertEqual(LATENCY_FIELDS - loop["latency_us"].keys(), set())
                self.assertGreaterEqual(loop["late_us"]["max"], 0)
                self.assertIn(loop["urgency"], ("normal", "slice"))
                self.assertLess(loop["late_us"]["mean"], loop["latency_us"]["mean"])
                stops = loop["stops"]
                if stops is not None:  # the right to watch in real time is not everybody's
                    self.assertLessEqual(stops["untouched"], loop["queries"])
                    self.assertLessEqual(stops["untouched_latency_us"]["max"], loop["latency_us"]["max"])
                    self.assertLessEqual(stops["max_us"], 1000 * stops["lost_ms"] + 1)
            # The last of 100 queries was due after 99/500 s, and none is sent before its time.
            self.assertLessEqual(fixed["qps"], 100 / (99 / 500))

    def test_how_soon_its_threads_run_is_asked_for_and_told(self):
        for asked, got in (("normal", ("normal",)), ("realtime", ("normal", "slice", "realtime"))):
            for run in self.search("--search-list", "10,40", "--rate", 500, "--urgency", asked)["runs"]:
                self.assertIn(run["open_loop"][0]["urgency"], got)

    def test_an_open_loop_lasts_for_its_seconds(self):
        (run,) = self.search("--seconds", 0.5, "--passes", 1, "--rate", 100)["runs"]
        self.assertEqual(run["open_loop"][0]["queries"], QUERIES)
        text = run_text(self.index, self.query, "--seconds", 0.5, "--rate", 100, "--json")
        self.assertEqual(json.loads(text)["runs"][0]["open_loop"][0]["queries"], 50)

    def test_without_a_rate_there_is_no_open_loop(self):
        self.assertEqual(self.search()["runs"][0]["open_loop"], [])

    def test_every_way_of_reading_has_open_loops(self):
        run = self.search("--io", "pread", "--rate", 500, "--repeat", 3)["runs"][0]
        loop = run["open_loop"][0]
        self.assertEqual((loop["queries"], loop["repeats"]), (2 * QUERIES, 3))
        self.assertLessEqual(loop["p99_us"]["min"], loop["latency_us"]["p99"])
        self.assertLessEqual(loop["latency_us"]["p99"], loop["p99_us"]["max"])

    def test_targets_of_recall_are_runs_too(self):
        records = self.search("--target-recall", "0.8,0.95")["runs"]
        self.assertEqual([record["target_recall"] for record in records], [0.8, 0.95])
        self.assertIsNone(records[0]["search_list"])

    def test_each_target_has_a_plan_of_its_own_unless_one_is_named(self):
        own = self.search("--target-recall", "0.8,0.95")["runs"]
        self.assertEqual([run["plan_recall"] for run in own], [0.8, 0.95])
        for named, plan in ((0.9, 0.9), (0, None)):
            runs = self.search("--target-recall", "0.8,0.95", "--plan-recall", named)["runs"]
            self.assertEqual([run["plan_recall"] for run in runs], [plan, plan])
        self.assertIsNone(self.search("--search-list", 20)["runs"][0]["plan_recall"])
        self.search("--plan-recall", 1, expect=2)

    def test_the_record_names_the_machine_and_shows_that_nothing_is_cached(self):
        document = self.search("--search-list", "20,40", "--dram-budget", "500KiB", "--threads", 1)
        machine = document["machine"]
        self.assertTrue(machine["kernel"].startswith("Linux "), machine)
        self.assertGreater(machine["memory_bytes"], 1 << 26)
        self.assertTrue(machine["cpu"] and machine["cpus"])
        for run in document["runs"]:
            self.assertGreater(run["reads_per_query"], 0)
            if run["direct_io"]:
                self.assertEqual(run["page_cache_bytes"], 0)
            else:  # what is read without O_DIRECT shows
                self.assertGreater(run["page_cache_bytes"], 0)

    def test_memory_adds_up_and_keeps_to_the_budget(self):
        free = self.search()["runs"][0]["dram_bytes"]
        budget = free["scratch"] + free["index"] * 2 // 3
        record = self.search("--dram-budget", budget)["runs"][0]
        dram = record["dram_bytes"]
        parts = sum(
            count for name, count in dram.items() if name not in ("total", "index", "scratch")
        )
        self.assertEqual(dram["index"], parts)
        self.assertEqual(dram["total"], dram["index"] + dram["scratch"])
        self.assertLessEqual(dram["total"], budget)
        self.assertLess(dram["index"], free["index"])
        self.assertAlmostEqual(record["dram_bytes_per_vector"], dram["index"] / ROWS)

    def test_a_budget_that_is_too_small_is_refused_with_the_least_that_would_do(self):
        message = self.search("--dram-budget", "1KiB", expect=2)
        self.assertRegex(message, r"\d")

    def test_a_budget_too_tight_for_the_usual_page_buffers_gets_few(self):
        message = self.search("--dram-budget", "1KiB", expect=2)
        least = int(re.search(r"the least is (\d+)", message).group(1))
        record = self.search("--dram-budget", least)["runs"][0]
        self.assertEqual(record["page_buffers"], 16)
        self.assertLessEqual(record["dram_bytes"]["total"], least)
        self.assertEqual(self.search()["runs"][0]["page_buffers"], 32)

    def test_both_ways_of_reading_find_and_read_the_same(self):
        records = [
            self.search("--io", io, "--search-list", 40)["runs"][0] for io in ("auto", "pread")
        ]
        self.assertEqual(records[1]["io_engine"], "pread")
        for field in (
            "recall",
            "reads_per_query",
            "bytes_per_query",
            "hops_per_query",
            "distances_per_query",
        ):
            self.assertEqual(records[0][field], records[1][field], field)

    def test_exact_distances_cost_reads(self):
        plain, exact = (
            self.search("--search-list", 40, *more)["runs"][0]
            for more in ((), ("--exact-distances",))
        )
        self.assertGreater(exact["reads_per_query"], plain["reads_per_query"])

    def test_recall_follows_external_ids(self):
        ids, index = self.folder / "ids.npy", self.folder / "named"
        header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({ROWS},), }}"
        header = header.ljust(117) + "\n"
        ids.write_bytes(
            b"\x93NUMPY\x01\x00"
            + struct.pack("<H", len(header))
            + header.encode()
            + struct.pack(f"<{ROWS}q", *range(10**12, 10**12 + ROWS))
        )
        run(
            "fathom-build",
            "build",
            "--input",
            self.base,
            "--out",
            index,
            "--metric",
            "l2",
            "--ids",
            ids,
        )
        command = (
            "fathom-bench",
            "search",
            "--index",
            index,
            "--query",
            self.query,
            "--gt",
            self.truth,
            "--passes",
            1,
            "--search-list",
            400,
            "--json",
        )
        self.assertEqual(json.loads(run(*command))["runs"][0]["recall"], 0)
        self.assertGreaterEqual(json.loads(run(*command, "--ids", ids))["runs"][0]["recall"], 0.95)

    def test_without_a_truth_set_recall_is_null(self):
        text = run(
            "fathom-bench",
            "search",
            "--index",
            self.index,
            "--query",
            self.query,
            "--passes",
            1,
            "--json",
        )
        self.assertIsNone(json.loads(text)["runs"][0]["recall"])

    def test_a_watcher_can_look_before_the_index_is_opened(self):
        program = os.path.join(PROGRAMS, "fathom-bench")
        command = [
            program, "search", "--index", str(self.folder / "nowhere"), "--query", str(self.query), "--wait",
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            self.assertEqual(process.stderr.readline(), "ready\n")
            self.assertIsNone(process.poll())
            process.stdin.write("\n")
            process.stdin.close()
            self.assertIn("nowhere", process.stderr.read())
        self.assertEqual(process.returncode, 3)

    def test_people_get_a_table(self):
        text = run(
            "fathom-bench",
            "search",
            "--index",
            self.index,
            "--query",
            self.query,
            "--gt",
            self.truth,
            "--passes",
            1,
            "--search-list",
            "20,40",
        )
        self.assertRegex(text, r"L +recall +QPS")
        self.assertRegex(text, r"\n +20 +[01]\.\d{4} ")
        self.assertRegex(text, r"\n +40 +[01]\.\d{4} ")

    def test_what_cannot_be_is_refused(self):
        self.search("--search-list", "10,x", expect=2)
        self.search("--search-list", 10, "--target-recall", 0.9, expect=2)
        self.search("--io", "mmap", expect=2)
        self.search("--nonsense", expect=2)
        self.search("--rate", 500, "--urgency", "soon", expect=2)
        for rate in ("0", "x", "50%%", "%", "10,", "2000%%", "100000%"):
            self.search("--rate", rate, expect=2)
        self.assertIn("--k 30", self.search("--k", 30, expect=2))
        other = self.folder / "other.fbin"
        run("fathom-data", "synth", "--count", 3, "--dim", 5, "--out", other)
        refused = run("fathom-bench", "search", "--index", self.index, "--query", other, expect=2)
        self.assertIn("other.fbin: its vectors have 5 dimensions", refused)
        self.assertIn(
            "nowhere",
            run(
                "fathom-bench",
                "search",
                "--index",
                self.folder / "nowhere",
                "--query",
                self.query,
                expect=3,
            ),
        )


if __name__ == "__main__":
    unittest.main()
