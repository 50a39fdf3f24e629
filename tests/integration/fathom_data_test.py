"""fathom-data as a user meets it: files in, files out, judged by numpy and by plain reading of the bytes.

Needs numpy (skips itself without). With FATHOM_REAL_DATA set to a folder of real sets (each with base.npy,
query.npy and gt100.bin), their ground truth is compared too.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import numpy as np
except ImportError:
    np = None

PROGRAM = str(Path(os.environ.get("FATHOM_BIN", "build/release/bin"), "fathom-data"))
REAL_DATA = os.environ.get("FATHOM_REAL_DATA", "")
# Instrumented programs take several times as long: the figure is that of the release.
STOP_CPU_SECONDS = 10 if os.environ.get("FATHOM_SANITIZE") else 2
REAL_SETS = {"sift128": "l2", "fashion784": "l2", "word100": "cos", "passages256": "cos",
             "bible1024": "cos"}


def run(*arguments, code=0):
    """Runs fathom-data; any other exit code than the one expected fails with what it said."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}: {done.stderr}"
    return done


def cpu_of_ended():
    """Seconds of all children that were waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def cpu_of(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_json(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


def read_bin(path, dtype):
    rows, dim = np.fromfile(path, "<u4", 2)
    return np.fromfile(path, dtype, offset=8).reshape(rows, dim)


def read_truth(path, id_type="<u4"):
    queries, k = (int(n) for n in np.fromfile(path, "<u4", 2))
    ids = np.fromfile(path, id_type, queries * k, offset=8).reshape(queries, k)
    distances = np.fromfile(path, "<f4", offset=8 + ids.nbytes).reshape(queries, k)
    return ids, distances


def distances_of(metric, queries, base):
    """float64, all pairs."""
    q, b = queries.astype("f8"), base.astype("f8")
    dots = q @ b.T
    if metric == "l2":
        return (q * q).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * dots
    if metric == "ip":
        return -dots
    return 1 - dots / np.sqrt((q * q).sum(1)[:, None] * (b * b).sum(1)[None, :])


@unittest.skipIf(np is None, "numpy is not installed")
class DataTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def path(self, name):
        return self.folder / name

    def names(self):
        return sorted(entry.name for entry in self.folder.iterdir())


class Synth(DataTest):
    def synth(self, out, *more):
        return run_json("synth", "--count", 3000, "--dim", 20, "--intrinsic", 8, "--seed", 5,
                        "--out", self.path(out), *more)

    def test_a_seed_gives_the_same_bytes_for_any_number_of_threads(self):
        self.synth("a.fbin", "--threads", 1)
        self.synth("b.fbin", "--threads", 2)
        self.assertEqual(self.path("a.fbin").read_bytes(), self.path("b.fbin").read_bytes())
        run("synth", "--count", 3000, "--dim", 20, "--intrinsic", 8, "--seed", 6, "--out",
            self.path("c.fbin"))
        self.assertNotEqual(self.path("a.fbin").read_bytes(), self.path("c.fbin").read_bytes())

    def test_queries_are_drawn_apart_and_leave_the_base_alone(self):
        self.synth("a.fbin")
        report = self.synth("b.fbin", "--queries", 50, "--query-out", self.path("q.fbin"))
        self.assertEqual(self.path("a.fbin").read_bytes(), self.path("b.fbin").read_bytes())
        self.assertEqual(report["queries"]["rows"], 50)
        base, queries = read_bin(self.path("b.fbin"), "<f4"), read_bin(self.path("q.fbin"), "<f4")
        self.assertEqual(queries.shape, (50, 20))
        self.assertGreater(distances_of("l2", queries, base).min(), 1)

    def test_the_types_follow_the_extension(self):
        for name, dtype in (("a.npy", "f4"), ("a.f16bin", "f2"), ("a.u8bin", "u1"), ("a.i8bin", "i1")):
            self.synth(name)
        floats = np.load(self.path("a.npy"))
        self.assertTrue((read_bin(self.path("a.f16bin"), "<f2") == floats.astype("f2")).all())
        bytes_ = read_bin(self.path("a.u8bin"), "u1").astype(int)
        self.assertTrue((bytes_ - 128 == read_bin(self.path("a.i8bin"), "i1")).all())
        self.assertLessEqual(abs(bytes_ - 128 - np.clip(floats / 2, -128, 127)).max(), 0.501)

    def test_the_intrinsic_dimension_is_small(self):
        rows = self.synth("a.npy") and np.load(self.path("a.npy")).astype("f8")
        nearest = np.sqrt(np.partition(distances_of("l2", rows[:200], rows), 1)[:, 1])
        typical = np.sqrt(np.median(distances_of("l2", rows[:200], rows)))
        self.assertLess(np.median(nearest) / typical, 0.6)

    def test_usage_errors_exit_with_2_and_write_nothing(self):
        out = self.path("a.fbin")
        for arguments in (("--dim", 4, "--out", out), ("--count", 4, "--out", out),
                          ("--count", 4, "--dim", 4), ("--count", 0, "--dim", 4, "--out", out),
                          ("--count", 4, "--dim", 4097, "--out", out),
                          ("--count", 4, "--dim", 4, "--out", out, "--queries", 3),
                          ("--count", 4, "--dim", 4, "--out", out, "--queries", 3, "--query-out", out),
                          ("--count", 4, "--dim", 4, "--out", self.path("a.hdf5")),
                          ("--count", 4, "--dim", 4, "--out", out, "--queries", 3, "--query-out",
                           self.path("a.xyz"))):
            self.assertTrue(run("synth", *arguments, code=2).stderr)
        self.assertEqual(self.names(), [])

    def start_endless(self):
        process = subprocess.Popen(
            [PROGRAM, "synth", "--count", "100000000", "--dim", "64", "--threads", "2", "--progress", "json",
             "--out", str(self.path("a.fbin"))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        while json.loads(process.stderr.readline())["done"] == 0:
            pass
        return process

    def test_an_interrupt_exits_with_75_and_leaves_nothing(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process = self.start_endless()
            before = cpu_of_ended() + cpu_of(process)
            process.send_signal(number)
            self.assertEqual(process.wait(), 75)
            self.assertLess(cpu_of_ended() - before, STOP_CPU_SECONDS)  # which no other work lengthens
            self.assertEqual(self.names(), [])

    def test_the_debris_of_a_killed_run_is_removed_by_the_next(self):
        process = self.start_endless()
        process.kill()
        process.wait()
        self.assertEqual(self.names(), [f"a.fbin.tmp-{process.pid}"])
        self.synth("a.fbin")
        self.assertEqual(self.names(), ["a.fbin"])


class Convert(DataTest):
    def save(self, name, array, **more):
        np.save(self.path(name), array, **more)
        return self.path(name)

    def test_vectors_pass_through_every_format(self):
        rows = np.arange(240, dtype="u1").reshape(40, 6)
        chain = ["a.npy", "b.bvecs", "c.u8bin", "d.fvecs", "e.fbin", "f.f16bin", "g.u8bin", "h.npy"]
        self.save(chain[0], rows)
        for source, target in zip(chain, chain[1:]):
            run("convert", self.path(source), self.path(target))
        self.assertTrue((np.load(self.path("h.npy")) == rows).all())
        self.assertEqual(np.load(self.path("h.npy")).dtype, "u1")
        fvecs = np.fromfile(self.path("d.fvecs"), "<i4").reshape(40, 7)
        self.assertTrue((fvecs[:, 0] == 6).all())
        self.assertTrue((fvecs[:, 1:].copy().view("<f4") == rows).all())

    def test_type_casts_into_npy(self):
        rows = np.linspace(-3, 3, 60, dtype="f4").reshape(10, 6)
        source = self.save("a.npy", rows)
        run("convert", source, self.path("b.npy"), "--type", "f16")
        self.assertTrue((np.load(self.path("b.npy")) == rows.astype("f2")).all())
        report = run_json("convert", source, self.path("c.npy"), "--type", "i8", "--round")
        self.assertTrue((np.load(self.path("c.npy")) == np.trunc(rows + np.copysign(0.5, rows))).all())
        self.assertEqual(report["rounded"], int((rows != np.trunc(rows)).sum()))
        self.assertEqual(report["clamped"], 0)

    def test_what_does_not_fit_is_named_and_nothing_is_written(self):
        rows = np.zeros((5000, 300), "f4")
        rows[4321, 123] = 0.25
        source = self.save("a.npy", rows)
        said = run("convert", source, self.path("b.u8bin"), code=4).stderr
        self.assertIn("a.npy: row 4321, column 123 is 0.25", said)
        rows[4321, 123] = np.nan
        self.save("a.npy", rows)
        said = run("convert", source, self.path("b.fbin"), code=4).stderr
        self.assertIn("row 4321, column 123 is NaN", said)
        self.assertEqual(self.names(), ["a.npy"])

    def test_what_numpy_writes_is_read_or_refused_with_advice(self):
        rows = np.arange(12, dtype="f4").reshape(4, 3)
        for version in ((1, 0), (2, 0), (3, 0)):
            with open(self.path("a.npy"), "wb") as file:
                np.lib.format.write_array(file, rows, version)
            run("convert", self.path("a.npy"), self.path("b.fbin"))
            self.assertTrue((read_bin(self.path("b.fbin"), "<f4") == rows).all())
        for array, advice in ((np.asfortranarray(rows), "np.ascontiguousarray"),
                              (rows.astype(">f4"), "big-endian"), (rows.astype("f8"), "astype('<f4')"),
                              (rows.ravel(), "1 axis"), (rows[:0], "no rows")):
            self.save("a.npy", array)
            self.assertIn(advice, run("convert", self.path("a.npy"), self.path("c.fbin"), code=4).stderr)
        self.assertFalse(self.path("c.fbin").exists())

    def test_ids_become_ivecs(self):
        ids = np.arange(20, dtype="<u8").reshape(5, 4)
        run("convert", self.save("a.npy", ids), self.path("b.ivecs"))
        self.assertTrue((np.fromfile(self.path("b.ivecs"), "<i4").reshape(5, 5)[:, 1:] == ids).all())

    def test_exit_codes_tell_usage_from_io(self):
        rows = self.save("a.npy", np.ones((2, 2), "f4"))
        self.assertIn("none.npy", run("convert", self.path("none.npy"), self.path("b.fbin"), code=3).stderr)
        run("convert", rows, code=2)
        run("convert", rows, self.path("b.fbin"), "extra", code=2)
        run("convert", rows, self.path("b.fbin"), "--type", "f64", code=2)
        run("convert", rows, self.path("b.fbin"), "--type", "u8", code=2)
        run("convert", rows, self.path("b.txt"), code=2)
        run("convert", rows, self.path("missing") / "b.fbin", code=3)
        os.mkfifo(self.path("pipe.fbin"))
        self.assertIn("pipe.fbin", subprocess.run(
            [PROGRAM, "convert", str(self.path("pipe.fbin")), str(self.path("b.fbin"))],
            capture_output=True, text=True, timeout=300).stderr)


class GroundTruth(DataTest):
    def save(self, **arrays):
        for name, array in arrays.items():
            np.save(self.path(name + ".npy"), array)

    def gt(self, *more, code=0):
        return run("gt", "--base", self.path("base.npy"), "--query", self.path("query.npy"), "--out",
                   self.path("gt.bin"), *more, code=code)

    def test_every_metric_agrees_with_numpy(self):
        random = np.random.default_rng(1)
        self.save(base=random.normal(size=(3000, 33)).astype("f4"),
                  query=random.normal(size=(150, 33)).astype("f2"))
        base, queries = np.load(self.path("base.npy")), np.load(self.path("query.npy"))
        for metric in ("l2", "ip", "cos"):
            self.gt("--metric", metric, "--k", 30)
            ids, distances = read_truth(self.path("gt.bin"))
            exact = distances_of(metric, queries, base)
            self.assertTrue((ids == np.argsort(exact, 1, kind="stable")[:, :30]).all())
            np.testing.assert_allclose(distances, np.take_along_axis(exact, ids.astype(int), 1), 1e-5, 1e-6)

    def test_integers_with_ties_are_ranked_by_number(self):
        random = np.random.default_rng(2)
        self.save(base=random.integers(0, 3, (4000, 8)).astype("u1"),
                  query=random.integers(0, 3, (60, 8)).astype("u1"))
        base, queries = np.load(self.path("base.npy")), np.load(self.path("query.npy"))
        self.gt("--metric", "l2", "--ids64")
        ids, distances = read_truth(self.path("gt.bin"), "<u8")
        exact = distances_of("l2", queries, base)
        self.assertTrue((ids == np.argsort(exact, 1, kind="stable")[:, :100]).all())
        self.assertTrue((distances == np.sort(exact, 1)[:, :100]).all())

    def test_zero_rows_under_cos_are_refused_or_listed(self):
        base = np.eye(6, 4, dtype="f4")
        self.save(base=base, query=base[:4])
        said = self.gt("--metric", "cos", "--k", 4, code=4).stderr
        self.assertIn("base.npy: row 4 is all zeros", said)
        self.assertEqual(self.names(), ["base.npy", "query.npy"])
        done = self.gt("--metric", "cos", "--k", 4, "--zero-rows", "skip", "--json")
        self.assertEqual(json.loads(done.stdout)["zero_rows"], {"base": [4, 5], "query": []})
        self.assertIn("2 rows of zeros left out: 4 5", done.stderr)
        self.assertEqual(read_truth(self.path("gt.bin"))[0].tolist(),
                         [[0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3], [3, 0, 1, 2]])
        self.gt("--metric", "l2", "--k", 4)

    def test_wrong_requests_exit_with_2(self):
        self.save(base=np.ones((5, 4), "f4"), query=np.ones((2, 4), "f4"), other=np.ones((2, 3), "f4"))
        self.assertIn("5 rows", self.gt("--metric", "l2", "--k", 6, code=2).stderr)
        self.assertIn("--metric", self.gt(code=2).stderr)
        self.assertIn("hamming", self.gt("--metric", "hamming", code=2).stderr)
        run("gt", "--base", self.path("base.npy"), "--query", self.path("other.npy"), "--metric", "l2",
            "--k", 1, "--out", self.path("gt.bin"), code=2)
        self.assertFalse(self.path("gt.bin").exists())

    def test_an_output_that_cannot_be_is_told_before_anything_is_computed(self):
        np.save(self.path("base.npy"), np.ones((5, 4), np.float32))
        said = run("gt", "--base", self.path("base.npy"), "--query", self.path("base.npy"), "--metric", "l2", "--k", 2,
                   "--out", self.path("none/gt.bin"), "--progress", "json", code=3).stderr
        self.assertIn("its folder does not exist", said)
        self.assertNotIn('"phase"', said)

    def test_real_sets_have_the_truth_that_came_with_them(self):
        sets = [name for name in REAL_SETS if Path(REAL_DATA, name, "gt100.bin").is_file()]
        if not REAL_DATA or not sets:
            self.skipTest("FATHOM_REAL_DATA names no folder of real sets")
        for name in sets:
            folder = Path(REAL_DATA, name)
            run("gt", "--base", folder / "base.npy", "--query", folder / "query.npy", "--metric",
                REAL_SETS[name], "--k", 100, "--zero-rows", "skip", "--out", self.path("gt.bin"))
            ids, distances = read_truth(self.path("gt.bin"))
            theirs, their_distances = read_truth(folder / "gt100.bin")
            # Their cosines come from vectors normalised in float32: the last digits of a distance differ, and with
            # them the order of rows that are nearer to each other than that.
            np.testing.assert_allclose(distances, their_distances, rtol=0 if REAL_SETS[name] == "l2" else 1e-5,
                                       atol=0 if REAL_SETS[name] == "l2" else 3e-7)
            for row in np.flatnonzero((ids != theirs).any(1)):
                for place in np.flatnonzero(ids[row] != theirs[row]):
                    gap = distances[row, place] - distances[row, np.flatnonzero(ids[row] == theirs[row, place])]
                    self.assertTrue(gap.size == 0 or abs(gap).max() < 6e-7, (name, row, place))


class Info(DataTest):
    def test_a_file_is_described_as_json_and_as_text(self):
        rows = np.arange(600, dtype="f2").reshape(100, 6)
        rows[7] = rows[3]
        rows[8] = 0
        np.save(self.path("a.npy"), rows)
        told = run_json("info", self.path("a.npy"))
        self.assertEqual((told["rows"], told["dim"], told["dtype"], told["format"], told["bytes"]),
                         (100, 6, "f16", "npy", self.path("a.npy").stat().st_size))
        self.assertEqual((told["sample"]["rows"], told["sample"]["zero_rows"], told["sample"]["duplicates"]),
                         (100, 1, 1))
        self.assertEqual((told["sample"]["min"], told["sample"]["max"]), (0, 599))
        self.assertAlmostEqual(told["sample"]["norm_mean"],
                               np.linalg.norm(rows.astype("f8"), axis=1).mean(), 6)
        said = run("info", self.path("a.npy")).stdout
        self.assertIn("100 vectors, dimension 6, f16", said)

    def test_nan_is_counted_not_refused(self):
        rows = np.ones((50, 4), "f4")
        rows[20, 1] = np.inf
        np.save(self.path("a.npy"), rows)
        sample = run_json("info", self.path("a.npy"))["sample"]
        self.assertEqual((sample["non_finite_rows"], sample["first_non_finite_row"]), (1, 20))

    def test_truth_sets_are_described(self):
        np.save(self.path("a.npy"), np.eye(8, dtype="f4"))
        run("gt", "--base", self.path("a.npy"), "--query", self.path("a.npy"), "--metric", "l2", "--k", 3,
            "--out", self.path("gt.bin"))
        told = run_json("info", self.path("gt.bin"))
        self.assertEqual((told["kind"], told["query_count"], told["k"], told["ids64"]), ("truth", 8, 3, False))

    def test_broken_files_exit_with_4_and_missing_ones_with_3(self):
        self.path("a.fbin").write_bytes(b"\x05\0\0\0\x02\0\0\0" + bytes(39))
        self.assertIn("truncated", run("info", self.path("a.fbin"), code=4).stderr)
        self.path("gt.bin").write_bytes(b"12345")
        self.assertIn("truth set", run("info", self.path("gt.bin"), code=4).stderr)
        run("info", self.path("none.fbin"), code=3)
        run("info", code=2)


class Program(DataTest):
    def test_help_and_version_and_verbs(self):
        self.assertRegex(run("--version").stdout, r"^fathom-data \d+\.\d+\.\d+\n$")
        for verb in ("synth", "convert", "gt", "info"):
            self.assertIn(verb, run("--help").stdout)
            said = run(verb, "--help").stdout
            self.assertIn("Usage: fathom-data " + verb, said)
            self.assertIn("Examples:", said)
            run(verb, "--no-such-flag", code=2)
        self.assertIn("did you mean 'convert'", run("convret", code=2).stderr)

    def test_progress_is_silent_on_a_pipe_and_json_when_asked(self):
        def synth(*more):
            return run("synth", "--count", 100, "--dim", 4, "--out", self.path("a.fbin"), *more)
        self.assertEqual(synth().stderr, "")
        lines = [json.loads(line) for line in synth("--progress", "json").stderr.splitlines()]
        states = [line["state"] for line in lines]
        self.assertEqual(states[0], "running")
        self.assertLessEqual(set(states[:-1]), {"running"})  # another each tenth of a second, on a busy machine
        self.assertEqual(states[-1], "done")
        self.assertEqual(lines[-1]["done"], 100)


if __name__ == "__main__":
    if not Path(PROGRAM).exists():
        sys.exit(f"{PROGRAM} is not there: set FATHOM_BIN to the folder of the programs")
    unittest.main()
