"""How a run of ./dev bench goes, without its engines: what is chosen, in which order and within which
time, that it goes on where it was ended, and that what fails costs nothing else."""

import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

SOURCE = Path(os.environ["FATHOM_SOURCE"])
sys.path[:0] = [str(SOURCE / "bench"), str(SOURCE / "bench" / "rivals")]

import document  # noqa: E402
import fathom_runs  # noqa: E402
import records  # noqa: E402
import rival_runs  # noqa: E402
import sets  # noqa: E402
import suite  # noqa: E402
import timetable  # noqa: E402
from programs import ProgramFailed  # noqa: E402
from progress import NothingToResume, Progress  # noqa: E402


class Choice(unittest.TestCase):
    def choose(self, **more):
        options = {"sets": None, "engines": None, "quick": False, **more}
        return suite.choose(mock.Mock(**options))

    def test_parts_can_be_chosen(self):
        self.assertEqual(self.choose(sets="sift128", engines="fathom"), {"sift128": ["fathom"]})
        self.assertEqual(set(self.choose()), set(suite.STANDARD))
        self.assertEqual(self.choose(quick=True),
                         {name: list(engines) for name, engines in suite.QUICK.items()})

    def test_what_nobody_knows_is_refused(self):
        for wrong in ({"sets": "nowhere"}, {"engines": "nothing"}):
            with self.assertRaises(SystemExit):
                self.choose(**wrong)


class Orphans(unittest.TestCase):
    def test_a_worker_ends_with_the_suite_that_started_it(self):
        worker_of = ("import sys; sys.path.insert(0, sys.argv[1])\n"
                     "import worker, time; worker.end_with_parent()\n"
                     "print('ready', flush=True); time.sleep(3600)")
        suite_of = ("import subprocess, sys\n"
                    "subprocess.run([sys.executable, '-c', sys.argv[2], sys.argv[1]])")
        parent = subprocess.Popen(
            [sys.executable, "-c", suite_of, str(SOURCE / "bench" / "rivals"), worker_of],
            stdout=subprocess.PIPE, text=True)
        self.assertEqual(parent.stdout.readline(), "ready\n")
        parent.kill()
        parent.wait()
        self.assertEqual(parent.stdout.read(), "")  # ends when nobody holds the pipe any more
        parent.stdout.close()


class Resuming(unittest.TestCase):
    ASKED = {"parts": {"wordnet": ["fathom", "hnswlib"]}, "pace": {"repeats": 3}}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "suite.json")

    def test_a_run_goes_on_behind_what_is_done(self):
        begun = Progress.begin(self.path, self.ASKED)
        begun.add("wordnet", "fathom", 90)
        again = Progress.resume(self.path, self.ASKED)
        self.assertEqual((again.run, again.spent_seconds), (begun.run, 90))
        self.assertTrue(again.has("wordnet", "fathom"))
        self.assertFalse(again.has("wordnet", "hnswlib"))

    def test_what_is_finished_or_never_began_cannot_go_on(self):
        with self.assertRaisesRegex(NothingToResume, "no run was ended"):
            Progress.resume(self.path, self.ASKED)
        Progress.begin(self.path, self.ASKED).finish()
        with self.assertRaisesRegex(NothingToResume, "no run was ended"):
            Progress.resume(self.path, self.ASKED)

    def test_another_program_machine_or_question_is_another_run(self):
        Progress.begin(self.path, self.ASKED)
        with self.assertRaisesRegex(NothingToResume, "its asked was another"):
            Progress.resume(self.path, {**self.ASKED, "pace": {"repeats": 1}})
        for what in ("commit", "describe_machine"):
            with mock.patch.object(records, what, lambda *_: "another"), self.assertRaisesRegex(
                NothingToResume, "begin a new one"
            ):
                Progress.resume(self.path, self.ASKED)

    def test_the_suite_skips_what_is_done_and_keeps_each_record(self):
        """Ended in the third of four parts, and gone on with."""
        engines = ["fathom", "hnswlib", "usearch", "zvec"]
        data = {"name": "wordnet", "rows": 1000, "dim": 10, "dtype": "i8", "metric": "cos", "k": 10}
        _, first, second, third = (engine for _, engine in timetable.order(
            [(data, engine) for engine in engines]))
        options = mock.Mock(quick=True, minutes=None, work=self.path.parent, bin=Path("bin"))
        asked, measured = {"parts": {"wordnet": engines}, "pace": suite.QUICK_PACE}, []

        def measure(engine, *_):
            measured.append(engine)
            if len(measured) == 2:
                raise KeyboardInterrupt
            return dict(part)

        part = {"status": "measured", "version": "1", "reason": "", "variants": []}
        with mock.patch.object(sets, "open_set", lambda *_: data), \
             mock.patch.object(fathom_runs, "measure", lambda *_: dict(part)), \
             mock.patch.object(suite.Suite, "say"), \
             mock.patch.object(rival_runs, "measure", measure), \
             mock.patch.object(document, "write"):
            with self.assertRaises(KeyboardInterrupt):
                suite.Suite(options, asked["parts"], Progress.begin(self.path, asked)).run()
            results = self.path.parent / "quick" / "results"
            self.assertEqual(sorted(path.name for path in results.iterdir()),
                             ["wordnet.fathom.json", f"wordnet.{first}.json"])
            again = Progress.resume(self.path, asked)
            suite.Suite(options, asked["parts"], again).run()
        self.assertEqual(measured, [first, second, second, third])
        found = records.read_all(results)["wordnet"]
        self.assertEqual({each["run"] for each in found.values()}, {again.run})
        self.assertEqual(sorted(found), sorted(engines))
        self.assertFalse(self.path.exists())


class Failing(unittest.TestCase):
    """Whatever happens to one part, the others are measured."""

    DATA = {"name": "wordnet", "rows": 1000, "dim": 10, "dtype": "i8", "metric": "cos", "k": 10}
    GOOD = {"status": "measured", "version": "1", "reason": "", "variants": []}

    def records_of(self, engines, fathom=None, rival=None, absent=None, open_set=None):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        work = Path(folder.name)
        options = mock.Mock(quick=True, minutes=None, work=work, bin=Path("bin"))
        parts = {name: engines for name in ("word100", "wordnet")}
        progress = Progress.begin(work / "suite.json", {"parts": parts})
        with mock.patch.object(sets, "open_set", open_set or (lambda name, *_: {**self.DATA, "name": name})), \
             mock.patch.object(fathom_runs, "measure", fathom or (lambda *_: dict(self.GOOD))), \
             mock.patch.object(rival_runs, "measure", rival or (lambda *_: dict(self.GOOD))), \
             mock.patch.object(suite.Suite, "say"), mock.patch.object(suite.traceback, "print_exc"), \
             mock.patch.object(document, "write"):
            suite.Suite(options, parts, progress, absent).run()
        self.assertFalse((work / "suite.json").exists())
        return {f"{name}.{engine}": (each["status"], each["reason"])
                for name, found in records.read_all(work / "quick" / "results").items()
                for engine, each in found.items()}

    def test_what_raises_is_told_as_failed(self):
        def fathom(data, *_):
            if data["name"] == "wordnet":
                raise ProgramFailed("fathom-build\nexited with 4")
            return dict(self.GOOD)

        def rival(engine, data, *_):
            if (engine, data["name"]) == ("zvec", "word100"):
                raise MemoryError
            return dict(self.GOOD)

        found = self.records_of(["fathom", "hnswlib", "zvec"], fathom, rival)
        self.assertEqual(found.pop("wordnet.fathom"), ("failed", "exited with 4"))
        self.assertEqual(found.pop("word100.zvec"), ("failed", "MemoryError"))
        self.assertEqual(set(found.values()), {("measured", "")})
        self.assertEqual(len(found), 4)

    def test_what_could_not_be_installed_is_not_tried_for_each_set(self):
        asked = []

        def rival(engine, *_):
            asked.append(engine)
            return dict(self.GOOD)

        found = self.records_of(["hnswlib", "zvec"], rival=rival, absent={"zvec": "no such wheel"})
        self.assertEqual(asked, ["hnswlib"] * 2)
        self.assertEqual(found["wordnet.zvec"], ("absent", "no such wheel"))

    def test_a_set_that_cannot_be_made_costs_no_other(self):
        def open_set(name, *_):
            if name == "word100":
                raise ProgramFailed("fathom-data\nexited with 3")
            return self.DATA

        self.assertEqual(set(self.records_of(["fathom"], open_set=open_set)), {"wordnet.fathom"})

    def test_what_was_spent_on_building_is_of_the_hour(self):
        options = mock.Mock(quick=False, minutes=58, work=Path("."), bin=Path("bin"))
        made = suite.Suite(options, {}, mock.Mock(spent_seconds=100), {}, 40)
        self.assertGreaterEqual(made.timetable.spent_seconds(), 140)


class Time(unittest.TestCase):
    def part(self, engine, rows=100000, dim=128):
        return {"name": f"s{rows}", "rows": rows, "dim": dim}, engine

    def test_fathom_comes_first_then_the_quickest(self):
        parts = [self.part("usearch", 10), self.part("diskann", 1000000), self.part("hnswlib"),
                 self.part("fathom", 1000000), self.part("fathom")]
        ordered = [(engine, data["rows"]) for data, engine in timetable.order(parts)]
        self.assertEqual(ordered, [("fathom", 100000), ("fathom", 1000000), ("usearch", 10),
                                   ("hnswlib", 100000), ("diskann", 1000000)])

    def test_of_the_long_ones_a_second_index_of_one_kind_comes_last(self):
        parts = [self.part("qdrant", 1000000), self.part("zvec", 1000000), self.part("diskann", 1000000),
                 self.part("zvec", 400000)]
        self.assertEqual([(engine, data["rows"]) for data, engine in timetable.order(parts)],
                         [("zvec", 400000), ("diskann", 1000000), ("zvec", 1000000), ("qdrant", 1000000)])

    def test_what_there_is_not_the_time_for_is_not_begun(self):
        with mock.patch.object(timetable.time, "monotonic", lambda: 1000.0):
            part = self.part("diskann", 1000000)
            expected = timetable.expected_seconds(*part)
            self.assertIsNone(timetable.Timetable(expected).refusal(*part))
            self.assertIsNone(timetable.Timetable(0.95 * expected).refusal(*part))
            self.assertRegex(timetable.Timetable(0.5 * expected).refusal(*part), "^no time left: it takes")
            self.assertRegex(timetable.Timetable(0, 7).refusal(*part), "and 0 s were left")

    def test_the_standard_suite_is_expected_to_be_over_in_time(self):
        """From nothing, with two minutes to build fathom and install the rivals, and half a minute to
        make syn1m and its truth; but for Qdrant on the large sets."""
        large = ("sift128", "syn1m")
        total = sum(timetable.expected_seconds({"name": name}, engine) for name in sets.STANDARD
                    for engine in suite.ALL if engine != "qdrant" or name not in large)
        self.assertLess(150 + total, 60 * timetable.MINUTES)

    def test_a_part_has_some_times_what_is_expected_but_never_more_than_is_left(self):
        with mock.patch.object(timetable.time, "monotonic", lambda: 1000.0):
            part = self.part("hnswlib", 1000000)
            expected = timetable.expected_seconds(*part)
            plenty = timetable.Timetable(10 * expected)
            self.assertEqual(plenty.until(*part), 1000 + timetable.PATIENCE * expected)
            short = timetable.Timetable(100, spent_seconds=93)
            self.assertEqual(short.until(*part), 1007)
            quick = {"name": sets.STANDARD[0]}, "fathom"
            with mock.patch.dict(timetable.MEASURED, fathom=(10,)):
                self.assertEqual(timetable.Timetable(900).until(*quick), 1070)  # a minute more, not 15 s

    def test_a_build_that_trains_takes_longer_with_more_dimensions_on_few_rows_too(self):
        """784 dimensions of 60,000 rows were cut at 144 s where 384 of 84,000 had taken 112."""
        few, many = self.part("lancedb", 60000, 784), self.part("lancedb", 800000, 128)
        self.assertGreater(timetable.expected_seconds(*few), timetable.expected_seconds(*many))

    def test_every_engine_has_an_expectation(self):
        self.assertEqual(set(timetable.ROUGHLY), set(suite.ALL))
        self.assertEqual(set(timetable.MEASURED), set(suite.ALL))
        self.assertEqual(set(timetable.STANDARD), set(sets.STANDARD))
        self.assertEqual({len(row) for row in timetable.MEASURED.values()}, {len(sets.STANDARD)})

if __name__ == "__main__":
    unittest.main()
