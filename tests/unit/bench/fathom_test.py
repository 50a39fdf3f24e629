"""What holds for the suite's measuring of fathom, without its programs: which budgets, how many
queries in flight, which points, and what is kept of what the programs say."""

import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

SOURCE = Path(os.environ["FATHOM_SOURCE"])
sys.path[:0] = [str(SOURCE / "bench"), str(SOURCE / "bench" / "rivals")]

import common  # noqa: E402
import fathom_runs  # noqa: E402
import outside  # noqa: E402
import sets  # noqa: E402


class Fathom(unittest.TestCase):
    DATA = {"name": "x", "rows": 1000, "dim": 10, "metric": "l2", "k": 10, "query": "q", "truth": "t"}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.programs = mock.Mock()
        self.fathom = fathom_runs.Fathom(self.DATA, self.programs, Path(folder.name),
                                         {"repeats": 1, "seconds": 1, "load_seconds": 1})

    def test_a_budget_is_held_by_the_kernel_where_it_can_be(self):
        asked = []

        def watched(_, limit):
            asked.append(limit)
            if limit is not None and refused:
                raise outside.NoLimit("no")
            return {}, {}

        held = 4000 + fathom_runs.LIMIT_ROOM_BYTES
        with mock.patch.object(self.fathom, "watched", watched):
            refused = False
            self.assertEqual(self.fathom.search(0.1, 16, [0.9])[2], held)
            self.assertIsNone(self.fathom.search(None, 16, [0.9])[2])
            refused = True
            self.assertIsNone(self.fathom.search(0.1, 16, [0.9])[2])
        self.assertEqual(asked, [held, None, held, None])
        self.assertEqual(self.programs.command.call_args.kwargs["dram_budget"], "10%")

    def test_how_many_queries_are_in_flight_the_index_says_itself(self):
        def planned(*_, **words):
            self.assertEqual((words["threads"], words["query"], words["dram_budget"]), (3, "one", "2%"))
            self.assertNotIn("inflight", words)
            return {"runs": [{"inflight": 7}]}

        self.programs.json = planned
        with mock.patch.object(sets, "write_some_queries", lambda *_: "one"):
            self.assertEqual(self.fathom.in_flight(0.02, 3), 7)

    def test_a_point_that_several_recalls_come_to_is_measured_once(self):
        works = [(1, 10), (2, 10), (2, 10), (2, 11), (2, 11)]
        self.programs.json.return_value = {"runs": [
            {"target_recall": target, "reads_per_query": reads, "bytes_per_query": 0,
             "hops_per_query": hops, "distances_per_query": 9, "qps": qps}
            for target, (reads, hops), qps in zip((0.9, 0.95, 0.96, 0.98, 0.99), works, (5, 4, 3, 2, 1))]}
        with mock.patch.object(sets, "write_some_queries", lambda *_: "few"):
            self.assertEqual(self.fathom.points(0.1, 16), ([0.9, 0.95, 0.98], fathom_runs.SLOW_QUERIES))
            for run in self.programs.json.return_value["runs"]:
                run["qps"] = 1000
            self.assertEqual(self.fathom.points(0.1, 16)[1], fathom_runs.QUERIES)

    def test_what_the_client_was_and_took_is_kept(self):
        told = {"rate": 1, "qps": 1, "due": 1, "answered": 1, "failed": 0, "recall": 1,
                "latency_us": {}, "late_us": {}, "client_urgency": "slice",
                "client_cpu_us_per_request": 9, "more": 1}
        self.programs.json.return_value = {"runs": [told]}
        kept = self.fathom.load_runs(mock.Mock(address="a"), [100])[0]
        self.assertEqual(kept, {name: told[name] for name in told if name != "more"})

    def test_in_process_the_open_loop_has_the_part_of_the_peak_that_the_server_has(self):
        at_part = {"rate": 60, "urgency": "slice", "qps": 60, "recall": 1, "latency_us": {},
                   "late_us": {}, "more": 1}
        self.programs.json.return_value = {"runs": [{"qps": 100, "open_loop": [at_part]}]}
        with mock.patch.object(self.fathom, "in_flight", lambda _: 16):
            found = self.fathom.load_in_process()
        self.assertEqual((found["peak_qps"], found["at_peak_part"]["rate"]), (100, 60))
        self.assertNotIn("more", found["in_real_time"])
        slices, real_time = (call.kwargs for call in self.programs.json.call_args_list[-2:])
        self.assertEqual((slices["rate"], slices["urgency"]), ("60%", "slice"))
        self.assertEqual((real_time["rate"], real_time["urgency"]), ("60", "realtime"))
        self.assertEqual(slices["target_recall"], str(fathom_runs.LOAD_RECALL))

    def test_a_build_that_hangs_is_ended(self):
        program = self.fathom.work / "fathom-build"
        program.write_text("#!/bin/sh\nexec sleep 3600\n", encoding="ascii")
        program.chmod(0o755)
        self.programs.command.return_value = [str(program)]
        self.programs.seconds_left.return_value = 0.5
        self.fathom.data = {**self.DATA, "base": "b"}
        with self.assertRaisesRegex(fathom_runs.ProgramFailed, "fathom-build took more than"):
            self.fathom.build()

    def test_they_name_no_folder_of_this_machine(self):
        work = Path(os.devnull).with_name("work")
        said = f"fathom-bench search: {work}/index.fathom: too small"
        self.assertEqual(fathom_runs.told(RuntimeError("first\n" + said), work),
                         "fathom-bench search: index.fathom: too small")
        self.assertEqual(fathom_runs.told(MemoryError(), work), "MemoryError")


class SomeQueries(unittest.TestCase):
    def test_the_truth_of_some_queries_is_that_of_all(self):
        ids = np.arange(12, dtype=np.uint32).reshape(4, 3)
        distances = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
        with tempfile.TemporaryDirectory() as folder:
            whole, some = Path(folder, "whole.bin"), Path(folder, "some.bin")
            with open(whole, "wb") as file:
                for part in (np.array([4, 3], np.uint32), ids, distances):
                    part.tofile(file)
            for count, found in ((2, [0, 2]), (3, [0, 1, 2]), (9, [0, 1, 2, 3])):
                sets.write_some_truth({"truth": whole}, some, count)
                truth = common.Data.truth(mock.Mock(paths={"truth": some}))
                np.testing.assert_array_equal(truth[0], ids[found])
                np.testing.assert_array_equal(truth[1], distances[found])


if __name__ == "__main__":
    unittest.main()
