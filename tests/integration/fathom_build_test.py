"""fathom-build as a user meets it: indexes that fathom-check finds sound and fathom-bench finds the neighbours in,
exit codes and messages, interruption, and two builds at once. Needs nothing but the programs.

With FATHOM_REAL_DATA set to a folder of real sets, each is built and its recall compared with a threshold.
"""

import json
import os
import resource
import signal
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

BIN = Path(os.environ.get("FATHOM_BIN", "build/release/bin"))
REAL_DATA = os.environ.get("FATHOM_REAL_DATA", "")
# name -> metric and the recall@10 at a search list of 64 that an index without a budget must reach
REAL_SETS = {"sift128": ("l2", 0.985), "fashion784": ("l2", 0.995), "word100": ("cos", 0.97),
             "passages256": ("cos", 0.965), "bible1024": ("cos", 0.97)}
# Instrumented programs take several times the memory and the time: the figures are those of the release.
SANITIZED = bool(os.environ.get("FATHOM_SANITIZE"))
STOP_CPU_SECONDS = 10.0 if SANITIZED else 2.0


def run(program, *arguments, code=0, file_limit=resource.RLIM_INFINITY):
    done = subprocess.run([str(BIN / program), *map(str, arguments)], capture_output=True, text=True, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY)))
    assert done.returncode == code, f"{program} {arguments}: exit {done.returncode}: {done.stderr}"
    return done


def run_json(program, *arguments):
    return json.loads(run(program, *arguments, "--json").stdout)


def write_fbin(path, rows):
    dim = len(rows[0])
    data = struct.pack("<II", len(rows), dim)
    path.write_bytes(data + b"".join(struct.pack(f"<{dim}f", *row) for row in rows))


class BuildTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.out = self.folder / "out.fathom"

    def path(self, name):
        return self.folder / name

    def synth(self, count, dim=24, name="base.fbin", queries=0):
        more = ("--queries", queries, "--query-out", self.path("query.fbin")) if queries else ()
        run("fathom-data", "synth", "--count", count, "--dim", dim, "--intrinsic", 8, "--seed", 3, "--out",
            self.path(name), *more)
        return self.path(name)

    def build(self, base, *more, metric="l2", **how):
        return run("fathom-build", "build", "--input", base, "--metric", metric, "--out", self.out, *more, **how)

    def names(self):
        return sorted(entry.name for entry in self.out.iterdir())


class Build(BuildTest):
    def test_an_index_is_sound_and_finds_the_neighbours(self):
        base = self.synth(6000, queries=100)
        for metric in ("l2", "ip", "cos"):
            with self.subTest(metric=metric):
                self.build(base, metric=metric)
                self.assertEqual(self.names(), ["index.fathom"])
                run("fathom-check", "verify", self.out, "--deep")
                run("fathom-data", "gt", "--base", base, "--query", self.path("query.fbin"), "--metric", metric, "--k",
                    10, "--out", self.path("gt.bin"))
                found = run_json("fathom-bench", "search", "--index", self.out, "--query", self.path("query.fbin"),
                                 "--gt", self.path("gt.bin"), "--k", 10, "--search-list", 64)
                self.assertGreater(found["runs"][0]["recall"], 0.97)

    def test_what_was_chosen_and_why_is_in_report_and_manifest(self):
        base = self.synth(3000)
        for more, why in (((), "of 48 places"), (("--degree", 20), "given")):
            report = run_json("fathom-build", "build", "--input", base, "--metric", "l2", "--out", self.out, *more)
            chosen = run_json("fathom-check", "inspect", self.out)["provenance"]["chosen"]
            self.assertEqual((chosen["degree"], chosen["build_list"]), (report["degree"], report["build_list"]))
            self.assertEqual(chosen["reason"], report["degree_reason"])
            self.assertIn(f"R {report['degree']}", chosen["reason"])
            self.assertIn(why, chosen["reason"])
            self.assertIn(f"R {report['degree']}, L {report['build_list']}: ", self.build(base, *more).stdout)

    def test_a_budget_to_serve_from_may_be_a_share_of_the_vectors_as_f32(self):
        base = self.synth(3000)
        rows, dim = (run_json("fathom-data", "info", base)[what] for what in ("rows", "dim"))
        self.build(base, "--dram-budget", "12.5%")
        options = run_json("fathom-check", "inspect", self.out)["provenance"]["options"]
        self.assertEqual(options["dram_budget"], rows * dim * 4 // 8)
        self.assertIn("write it like", self.build(base, "--dram-budget", "5 %", code=2).stderr)

    def test_the_json_document_has_what_the_line_says_and_the_stages(self):
        base = self.synth(500)
        document = run_json("fathom-build", "build", "--input", base, "--metric", "l2", "--out", self.out)
        self.assertEqual(document["rows"], 500)
        self.assertEqual(document["index_bytes"], (self.out / "index.fathom").stat().st_size)
        self.assertEqual(document["path"], str(self.out))
        for stage in ("read", "cells", "order", "graph", "train", "encode", "write"):
            self.assertGreaterEqual(document["stage_seconds"][stage], 0)
            self.assertGreaterEqual(document["stage_cpu_seconds"][stage], 0)
        self.assertGreater(document["stage_cpu_seconds"]["graph"], 0)
        predicted = document["predicted"]
        self.assertEqual(predicted["stage_cpu_seconds"].keys(), document["stage_cpu_seconds"].keys())
        self.assertAlmostEqual(sum(predicted["stage_seconds"].values()), predicted["seconds"], places=6)
        self.assertGreater(document["peak_memory_bytes"], 0)
        lines = self.build(base).stdout.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertIn("500 rows in", lines[0])
        self.assertIn(str(self.out), lines[0])
        self.assertRegex(lines[1], r"^predicted and actual: memory .*, .*; index .*, .*; work files .*, .*; time .*, ")

    def test_any_number_of_threads_gives_the_same_bytes(self):
        base = self.synth(4000)
        seen = set()
        for threads in (1, 2, 4):
            self.build(base, "--threads", threads)
            seen.add((self.out / "index.fathom").read_bytes())
        self.assertEqual(len(seen), 1)

    def test_the_same_vectors_under_another_name_and_form_are_the_same_generation(self):
        base = self.synth(300)
        run("fathom-data", "convert", base, self.path("other.npy"))
        first = run_json("fathom-build", "build", "--input", base, "--metric", "l2", "--out", self.out)
        second = run_json("fathom-build", "build", "--input", self.path("other.npy"), "--metric", "l2", "--out", self.out)
        self.assertEqual(first["generation"], second["generation"])

    def test_external_ids_are_what_a_search_returns(self):
        base = self.synth(200)
        ids = self.path("ids.txt")
        ids.write_text("".join(f"{10**12 + 7 * row}\n" for row in range(200)))
        self.build(base, "--ids", ids)
        run("fathom-check", "verify", self.out, "--deep")
        ids.write_text("1\n" * 200)
        self.assertIn("appears more than once", self.build(base, "--ids", ids, code=4).stderr)

    def test_points_are_measured_on_queries_that_are_given(self):
        base = self.synth(3000, queries=150)
        query = self.path("query.fbin")
        self.build(base)
        by_rows = run_json("fathom-check", "inspect", self.out)
        self.assertEqual(by_rows["operating_points"]["measured_on"], "rows")
        self.assertNotIn("queries", by_rows["provenance"])
        self.assertIn("operating points, measured on rows", run("fathom-check", "inspect", self.out).stdout)
        usual = by_rows["usual"]
        self.assertEqual(sorted(usual), ["cell", "row"])
        self.assertTrue(0 < usual["row"] and 0 < usual["cell"], usual)
        self.assertIn(f"a row within {usual['row']:.6g} ", run("fathom-check", "inspect", self.out).stdout)
        self.build(base, "--query", query)
        run("fathom-check", "verify", self.out, "--deep")
        inspected = run_json("fathom-check", "inspect", self.out)
        self.assertEqual(inspected["operating_points"]["measured_on"], "queries")
        self.assertNotEqual(inspected["usual"], usual)
        self.assertGreater(inspected["operating_points"]["count"], 100)
        queries = inspected["provenance"]["queries"]
        self.assertEqual((queries["name"], queries["rows"], queries["dtype"]), ("query.fbin", 150, "f32"))
        self.assertRegex(queries["scalars_xxh3_128"], "^[0-9a-f]{32}$")
        self.assertIn("measured on queries of query.fbin (150)", run("fathom-check", "inspect", self.out).stdout)
        run("fathom-data", "convert", query, self.path("other.npy"))
        first = (self.out / "index.fathom").read_bytes()
        self.build(base, "--query", self.path("other.npy"), "--threads", 1)
        same = run_json("fathom-check", "inspect", self.out)
        self.assertEqual(same["generation"], inspected["generation"])
        self.assertEqual(len((self.out / "index.fathom").read_bytes()), len(first))

    def test_an_index_that_does_not_know_what_is_usual_says_so(self):
        few = self.synth(300)
        self.build(few)
        inspected = run_json("fathom-check", "inspect", self.out)
        self.assertIsNone(inspected["operating_points"])
        self.assertIsNone(inspected["usual"])
        self.assertIn("  no operating points", run("fathom-check", "inspect", self.out).stdout)
        try:
            import xxhash
        except ImportError:
            self.skipTest("no xxhash, to seal a page with")
        self.build(self.synth(2500))
        with open(self.out / "index.fathom", "r+b") as file:  # as an earlier version left it: FORMAT.md, page 0
            page = bytearray(file.read(4096))
            page[136:144] = bytes(8)
            page[:8] = xxhash.xxh3_64_digest(page[8:], seed=xxhash.xxh3_64_intdigest(bytes(24)))[::-1]
            file.seek(0)
            file.write(page)
        self.assertIsNone(run_json("fathom-check", "inspect", self.out)["usual"])
        self.assertIn("by an earlier version, so queries unlike those", run("fathom-check", "inspect", self.out).stdout)

    def test_queries_that_cannot_be_measured_on_are_refused_by_place(self):
        base = self.synth(2500, dim=3)
        query = self.path("query.fbin")
        write_fbin(query, [[1.0, 2.0, 3.0], [1.0, 2.0, float("nan")]])
        self.assertIn("query.fbin: row 1, column 2 is NaN", self.build(base, "--query", query, code=4).stderr)
        write_fbin(query, [[1.0, 2.0]])
        wrong = "queries have 2 dimensions, and the vectors 3"
        self.assertIn(wrong, self.build(base, "--query", query, code=2).stderr)
        self.assertIn(wrong, run("fathom-build", "estimate", "--input", base, "--query", query, code=2).stderr)
        write_fbin(query, [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
        self.assertIn("row 1 is all zero", self.build(base, "--query", query, metric="cos", code=4).stderr)
        noted = self.build(base, "--query", query, "--zero-rows", "skip", metric="cos").stderr
        self.assertIn("measured on only 1 queries", noted)
        query.write_bytes(b"")
        self.build(base, "--query", query, code=4)
        self.build(base, "--query", self.path("missing.npy"), code=3)
        self.assertIn("no operating points", self.build(self.synth(100, name="few.fbin", queries=5), "--query", query).stderr)

    def test_resume_says_that_there_is_nothing_to_resume(self):
        self.assertIn("nothing to resume", self.build(self.synth(50), "--resume").stderr)

    def test_zero_rows_are_refused_or_left_out_by_name(self):
        rows = [[float(i % 7 + 1), float(i % 5), 1.0] for i in range(60)]
        rows[11] = rows[40] = [0.0, 0.0, 0.0]
        write_fbin(self.path("zero.fbin"), rows)
        refused = self.build(self.path("zero.fbin"), metric="cos", code=4)
        self.assertIn("row 11", refused.stderr)
        self.assertFalse((self.out / "index.fathom").exists())
        skipped = self.build(self.path("zero.fbin"), "--zero-rows", "skip", metric="cos")
        self.assertIn("2 zero rows: 11 40", skipped.stderr)
        self.assertIn("58 rows", skipped.stdout)

    def test_one_row_is_not_one_rows(self):
        write_fbin(self.path("one.fbin"), [[1.0, 2.0, 3.0]])
        self.assertTrue(self.build(self.path("one.fbin")).stdout.startswith("1 row in "))
        self.assertIn("  1 row x 3 f32", run("fathom-check", "inspect", self.out).stdout)

    def test_progress_is_json_lines_on_demand_and_nothing_on_a_pipe(self):
        base = self.synth(3000)
        self.assertEqual(self.build(base).stderr, "")
        lines = self.build(base, "--progress", "json").stderr.splitlines()
        lines = [json.loads(line) for line in lines]
        phases = [line["phase"] for line in lines]
        for phase in ("read", "cells", "graph", "encode", "write"):
            self.assertIn(phase, phases)
        for line in lines[1:]:  # the whole is foreseen from when the input is open
            self.assertTrue(0 <= line["overall_share"] <= 1 and line["overall_eta_seconds"] >= 0, line)
        self.assertGreater(lines[1]["overall_eta_seconds"], 0)
        self.assertEqual((lines[-1]["overall_share"], lines[-1]["overall_eta_seconds"]), (1, 0))

    def test_an_estimate_says_what_each_stage_takes(self):
        estimate = run_json("fathom-build", "estimate", "--count", 1000000, "--dim", 128, "--type", "f32")
        stages = estimate["stage_seconds"]
        self.assertEqual(list(stages), ["read", "cells", "order", "graph", "train", "encode", "write", "measure"])
        self.assertTrue(all(seconds > 0 for seconds in stages.values()))
        self.assertAlmostEqual(sum(stages.values()), estimate["seconds"], places=6)


class Refusals(BuildTest):
    def test_what_is_wrong_with_the_command_line_is_usage(self):
        base = self.synth(20)
        for arguments in (("--degree", 3), ("--alpha", 0.5), ("--code-bits", 9), ("--metric", "hamming"),
                          ("--threads", 0), ("--nonsense",)):
            with self.subTest(arguments=arguments):
                self.build(base, *arguments, code=2)
        run("fathom-build", "build", "--input", base, "--out", self.out, code=2)
        run("fathom-build", "build", "--metric", "l2", "--out", self.out, code=2)
        run("fathom-build", "build", "--metric", "l2", "--input", base, code=2)

    def test_a_memory_budget_that_is_too_small_names_the_need(self):
        refused = self.build(self.synth(20), "--memory-budget", "8MiB", code=2)
        self.assertIn("needs about", refused.stderr)
        self.assertFalse(self.out.exists())
        for line in (["--input", self.synth(20), "--metric", "l2"], ["--count", 20, "--dim", 16, "--type", "f32"]):
            with self.subTest(estimate=line):
                foreseen = run("fathom-build", "estimate", *line, "--memory-budget", "8MiB", code=2)
                self.assertIn("needs about", foreseen.stderr)
                self.assertEqual(foreseen.stdout, "")
                if line[0] == "--input":
                    self.assertEqual(foreseen.stderr, refused.stderr)

    def test_inputs_that_cannot_be_read_leave_nothing_behind(self):
        os.mkfifo(self.path("fifo.npy"))
        self.path("short.fbin").write_bytes(struct.pack("<IIf", 5, 3, 1.0))
        self.path("empty.npy").write_bytes(b"")
        for name, code in (("fifo.npy", 3), ("short.fbin", 4), ("empty.npy", 4), ("missing.npy", 3)):
            with self.subTest(name=name):
                self.assertIn(name, self.build(self.path(name), code=code).stderr)
        self.assertFalse(self.out.exists())

    def test_an_output_that_cannot_be_is_named(self):
        base = self.synth(20)
        self.out.write_text("a file")
        self.assertIn("not a directory", self.build(base, code=3).stderr)
        self.assertEqual(self.out.read_text(), "a file")

    def test_an_output_that_cannot_be_published_is_named_before_the_work(self):
        base = self.synth(3000)
        (self.out / "index.fathom").mkdir(parents=True)
        refused = self.build(base, "--progress", "json", code=3).stderr
        self.assertIn(f"{self.out}/index.fathom: is a directory", refused)
        self.assertNotIn("progress", refused)
        (self.out / "index.fathom").rmdir()
        for owner in ((), ("su", "nobody", "-s", "/bin/sh", "-c")):
            if os.getuid() == 0 and not owner:
                continue  # nothing is forbidden to root
            self.out.chmod(0o555)
            self.folder.chmod(0o755)
            self.addCleanup(self.out.chmod, 0o755)
            command = [str(BIN / "fathom-build"), "build", "--input", str(base), "--metric", "l2", "--out",
                       str(self.out), "--progress", "json"]
            done = subprocess.run([*owner, " ".join(command)] if owner else command, capture_output=True, text=True,
                                  check=False)
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertIn(f"{self.out}: nothing can be written here: Permission denied", done.stderr)
            self.assertNotIn("progress", done.stderr)
            break

    def test_names_need_not_be_utf8(self):
        base = self.synth(3000)
        odd = Path(os.fsdecode(bytes(self.folder) + b"/in\xfe.fbin"))
        base.rename(odd)
        self.out = Path(os.fsdecode(bytes(self.folder) + b"/out\xff"))
        document = json.loads(self.build(odd, "--json").stdout)
        self.assertEqual(document["path"], f"{self.folder}/out\\xff")
        shown = json.loads(run("fathom-check", "inspect", self.out, "--json").stdout)
        self.assertEqual(shown["provenance"]["input"]["name"], "in\\xfe.fbin")
        self.assertTrue(json.loads(run("fathom-check", "verify", self.out, "--json").stdout)["sound"])
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([str(BIN / "fathom-check"), "verify", str(self.out), "--json"], stdout=full,
                                  stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 3)  # who reads the document has none

    def test_a_file_that_may_not_grow_is_an_io_error_and_keeps_the_old_index(self):
        base = self.synth(3000)
        self.build(base)
        before = (self.out / "index.fathom").read_bytes()
        refused = self.build(base, "--seed", 7, code=3, file_limit=100 << 10).stderr
        self.assertIn("File too large", refused)
        self.assertIn(str(self.out), refused)
        self.assertEqual(self.names(), ["index.fathom"])
        self.assertEqual((self.out / "index.fathom").read_bytes(), before)

    @unittest.skipIf(SANITIZED, "instrumented programs want terabytes of address space")
    def test_a_limit_of_address_space_is_an_error_or_is_kept(self):
        """OpenBLAS asks for 128 MiB a thread for ever, and its own threads do before anything else runs."""
        base = self.synth(3000)

        def limited(mebibytes, program, *arguments):
            limit = mebibytes << 20
            return subprocess.run([str(BIN / program), *map(str, arguments)], capture_output=True, text=True, check=False,
                                  timeout=300, env={k: v for k, v in os.environ.items() if "_NUM_THREADS" not in k},
                                  preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))

        done = limited(110, "fathom-data", "info", base)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        build = ("build", "--input", base, "--metric", "l2", "--out", self.out, "--threads")
        for arguments in (("fathom-build", *build, 4), ("fathom-data", "gt", "--base", base, "--query", base, "--metric", "l2",
                                                        "--out", self.path("gt.bin"), "--threads", 4)):
            done = limited(300, *arguments)
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertIn("128 MiB of address space for each of 4 threads", done.stderr)
        done = limited(300, "fathom-build", "build", "--input", self.path("none.npy"), *build[3:], 4)
        self.assertIn("none.npy", done.stderr)  # what is wrong whatever the limit comes first
        done = limited(1200, "fathom-build", *build, 4)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_failed_build_keeps_the_old_index(self):
        self.build(self.synth(100))
        before = (self.out / "index.fathom").read_bytes()
        write_fbin(self.path("nan.fbin"), [[1.0, 2.0], [float("nan"), 1.0]])
        self.assertIn("row 1", self.build(self.path("nan.fbin"), code=4).stderr)
        self.assertEqual((self.out / "index.fathom").read_bytes(), before)


def cpu_of_ended():
    """Seconds of all children that were waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def cpu_of(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Interruption(BuildTest):
    def start(self, base, *more):
        arguments = ["build", "--input", base, "--metric", "l2", "--out", self.out, *more]
        child = subprocess.Popen([str(BIN / "fathom-build"), *map(str, arguments)], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stderr.close)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def wait_for(self, child, phase):
        """Until the progress of child says that a phase has begun."""
        for line in child.stderr:
            if json.loads(line)["phase"] == phase:
                return
        self.fail(f"the build ended before {phase}")

    def interrupt(self, base, phase, number):
        """A build that ends by a signal in a phase, or soon after it: (it, CPU seconds from there to its end). On a
        machine so busy that the build had ended before it was sent the signal, another one."""
        for _ in range(20):
            child = self.start(base, "--progress", "json", "--threads", 2)
            self.wait_for(child, phase)
            before = cpu_of_ended() + cpu_of(child)
            child.send_signal(number)
            if child.wait() != 0:
                break
        self.assertEqual(child.returncode, 75)
        return child, cpu_of_ended() - before

    def assert_no_debris(self):
        """Nothing is left, or on a machine that took long enough to save, what --resume goes on from."""
        left = self.names()
        if "build.tmp-state" in left:
            left = [name for name in left if not name.startswith(("build.tmp-", "index.fathom.tmp-"))
                    or name.endswith(".part")]
        self.assertEqual(left, [])

    def test_a_signal_ends_a_build_in_time_without_debris(self):
        base = self.synth(60000, dim=64)
        for phase, number in (("cells", signal.SIGINT), ("graph", signal.SIGTERM), ("encode", signal.SIGINT)):
            with self.subTest(phase=phase):
                child, seconds = self.interrupt(base, phase, number)
                self.assertLess(seconds, STOP_CPU_SECONDS)  # which other work on the machine does not lengthen
                self.assertRegex(child.stderr.read(), r"go on with: \S+ build --input .* --progress json .*--resume\n")
                self.assert_no_debris()

    def test_a_signal_while_operating_points_are_measured_is_an_interruption_too(self):
        self.interrupt(self.synth(20000, dim=64), "measure", signal.SIGINT)
        self.assert_no_debris()

    def test_a_second_build_in_the_same_directory_is_refused(self):
        base = self.synth(60000, dim=64)
        child = self.start(base, "--progress", "json")
        self.wait_for(child, "cells")
        child.send_signal(signal.SIGSTOP)  # so that it is still there, however busy the machine is
        self.assertIn("another build", self.build(base, code=3).stderr)
        child.kill()
        child.wait()
        self.build(self.synth(100, name="small.fbin"))  # a killed build holds no lock
        self.assertEqual(self.names(), ["index.fathom"])


class Points(BuildTest):
    """An index that is there is measured anew."""

    def points(self, *more, **how):
        return run("fathom-build", "points", self.out, *more, **how)

    def inspect(self):
        return run_json("fathom-check", "inspect", self.out)

    def index(self):
        return (self.out / "index.fathom").read_bytes()

    def test_the_time_left_is_foreseen_from_when_a_copy_begins(self):
        self.build(self.synth(3000))
        lines = [json.loads(line) for line in self.points("--progress", "json").stderr.splitlines()]
        self.assertIn("measure", [line["phase"] for line in lines])
        foreseen = [line for line in lines if line["phase"] in ("write", "measure")]
        for line in foreseen:
            self.assertTrue(0 <= line["overall_share"] <= 1 and line["overall_eta_seconds"] >= 0, line)
        self.assertGreater(foreseen[0]["overall_eta_seconds"], 0)
        self.assertEqual((lines[-1]["overall_share"], lines[-1]["overall_eta_seconds"]), (1, 0))

    def test_points_are_measured_on_other_queries_without_a_new_build(self):
        base = self.synth(3000, queries=150)
        query = self.path("query.fbin")
        self.build(base)
        before = self.inspect()
        report = run_json("fathom-build", "points", self.out, "--query", query, "--threads", 2)
        run("fathom-check", "verify", self.out, "--deep")
        after = self.inspect()
        self.assertEqual(self.names(), ["index.fathom"])
        self.assertEqual((report["previous_generation"], report["generation"]),
                         (before["generation"], after["generation"]))
        self.assertNotEqual(before["generation"], after["generation"])
        self.assertEqual(report["operating_points"], after["operating_points"])
        self.assertEqual(after["operating_points"]["measured_on"], "queries")
        self.assertEqual((report["rows"], report["queries"], report["index_bytes"], report["path"]),
                         (3000, 150, after["index_bytes"], str(self.out)))
        points = after["provenance"].pop("points")
        self.assertEqual(after["provenance"], before["provenance"])
        self.assertEqual((points["queries"]["name"], points["queries"]["rows"]), ("query.fbin", 150))
        self.assertIn("measured on queries of query.fbin (150)", run("fathom-check", "inspect", self.out).stdout)
        self.assertIn("operating points measured on 150 queries in", self.points("--query", query).stdout)
        self.assertEqual(self.inspect()["generation"], after["generation"])

    def test_points_are_those_of_a_build_with_these_queries(self):
        base = self.synth(3000, queries=150)
        query = self.path("query.fbin")
        self.build(base, "--query", query)
        built = self.points_section()
        self.points()
        by_rows = self.points_section()
        self.assertNotEqual(built, by_rows)
        self.assertIn("operating points, measured on rows\n", run("fathom-check", "inspect", self.out).stdout)
        self.assertEqual(self.inspect()["provenance"]["queries"]["name"], "query.fbin")  # which lists' heat is by
        self.points("--query", query)
        self.assertEqual(built, self.points_section())
        self.build(base)
        self.assertEqual(by_rows, self.points_section())

    def points_section(self):
        """Its payload."""
        data, found = self.index(), [s for s in self.inspect()["sections"] if s["name"] == "points"]
        first, pages, size = (found[0][what] for what in ("first_page", "pages", "bytes"))
        return b"".join(data[4096 * page + 8 : 4096 * (page + 1)] for page in range(first, first + pages))[:size]

    def test_what_is_wrong_is_refused_and_changes_nothing(self):
        self.build(self.synth(2500, dim=3), metric="cos")
        before, query = self.index(), self.path("query.fbin")
        write_fbin(query, [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
        self.assertIn("row 1 is all zero", self.points("--query", query, code=4).stderr)
        write_fbin(query, [[1.0, 2.0]])
        self.assertIn("2 dimensions, and the vectors 3", self.points("--query", query, code=2).stderr)
        self.points("--query", self.path("missing.npy"), code=3)
        self.assertIn("raise --memory-budget", self.points("--memory-budget", "2MiB", code=2).stderr)
        self.points("--degree", 8, code=2)
        self.assertIn("one argument too many", self.points("other", code=2).stderr)
        self.assertIn("name an index directory", run("fathom-build", "points", code=2).stderr)
        self.assertIn("File too large", self.points(code=3, file_limit=100 << 10).stderr)
        self.assertEqual((self.index(), self.names()), (before, ["index.fathom"]))
        self.out = self.path("nowhere")
        self.assertIn("nowhere", self.points(code=3).stderr)
        self.assertFalse(self.out.exists())

    def test_zero_queries_may_be_left_out(self):
        self.build(self.synth(2500, dim=3), metric="cos")
        query = self.path("query.fbin")
        write_fbin(query, [[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
        done = self.points("--query", query, "--zero-rows", "skip")
        self.assertIn("measured on only 1 queries", done.stderr)
        self.assertIn("measured on 1 query in", done.stdout)

    def test_a_damaged_index_is_named_and_left(self):
        self.build(self.synth(3000))
        damaged = bytearray(self.index())
        damaged[len(damaged) // 2] ^= 1
        (self.out / "index.fathom").write_bytes(damaged)
        self.assertIn("checksum mismatch in page", self.points(code=4).stderr)
        self.assertEqual((self.index(), self.names()), (damaged, ["index.fathom"]))

    def test_a_signal_ends_it_in_time_and_leaves_the_index(self):
        self.build(self.synth(20000, dim=64))
        before = self.index()
        for phase in ("write", "measure"):
            for _ in range(20):  # as for builds: it may be over before
                child = subprocess.Popen([str(BIN / "fathom-build"), "points", str(self.out), "--progress", "json"],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                self.addCleanup(child.stderr.close)
                self.addCleanup(child.kill)
                for line in child.stderr:
                    if json.loads(line)["phase"] == phase:
                        break
                spent = cpu_of_ended() + cpu_of(child)
                child.send_signal(signal.SIGTERM)
                if child.wait() != 0:
                    break
                (self.out / "index.fathom").write_bytes(before)
            self.assertEqual(child.returncode, 75)
            self.assertLess(cpu_of_ended() - spent, STOP_CPU_SECONDS)
            self.assertIn("the index is as it was", child.stderr.read())
            self.assertEqual((self.index(), self.names()), (before, ["index.fathom"]))


class Budget(BuildTest):
    BUDGET = 48 << 20

    def test_a_budget_is_kept_by_a_graph_in_parts(self):
        base = self.synth(60000, dim=64)
        arguments = ["build", "--input", base, "--metric", "l2", "--out", self.out, "--memory-budget", self.BUDGET]
        report = run_json("fathom-build", *arguments)
        self.assertGreater(report["parts"], 1)
        if not SANITIZED:
            self.assertLess(report["peak_memory_bytes"], 1.05 * self.BUDGET)
        run("fathom-check", "verify", self.out, "--deep")
        if SANITIZED:
            return  # a minute for each build; that threads do not matter is seen without
        first = (self.out / "index.fathom").read_bytes()
        run_json("fathom-build", *arguments, "--threads", 1)
        self.assertEqual((self.out / "index.fathom").read_bytes(), first)

    @unittest.skipIf(SANITIZED, "instrumented programs take several times the memory")
    def test_a_budget_below_the_8_bit_rows_is_kept_as_seen_from_outside(self):
        rows, dim, budget = 760000, 128, 88 << 20
        self.assertLess(budget, rows * dim)
        base = self.synth(rows, dim=dim)
        arguments = ["build", "--input", base, "--metric", "l2", "--out", self.out, "--memory-budget", budget,
                     "--degree", 8, "--build-list", 16, "--json"]  # what takes time adds nothing to the rows
        with subprocess.Popen([str(BIN / "fathom-build"), *map(str, arguments)], stdout=subprocess.PIPE, text=True) as child:
            report = json.loads(child.stdout.read())
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(child.returncode, 0)
        self.assertGreater(report["parts"], 1)
        peak = usage.ru_maxrss * 1024
        self.assertLessEqual(peak, 1.05 * budget)
        self.assertGreater(peak, 0.6 * budget)  # most of it is of the rows, not of the program
        for name, actual in (("disk_bytes", "index_bytes"), ("temporary_bytes", "temporary_bytes")):
            self.assertLess(abs(report["predicted"][name] - report[actual]), 0.1 * report[actual], name)


class Estimate(BuildTest):
    def test_an_estimate_is_near_what_a_build_takes(self):
        base = self.synth(20000, dim=96)
        memory = [] if SANITIZED else [("peak_memory_bytes", "peak_memory_bytes")]
        for threads in (2,) if SANITIZED else (1, 2):  # not as many as this machine has
            what = "--input", base, "--metric", "l2", "--threads", threads
            estimate = run_json("fathom-build", "estimate", *what)
            report = run_json("fathom-build", "build", *what, "--out", self.out)
            self.assertEqual(estimate["rows"], 20000)
            for name, actual in [("disk_bytes", "index_bytes"), *memory]:
                for predicted in (estimate, report["predicted"]):
                    self.assertLess(abs(predicted[name] - report[actual]), 0.1 * report[actual], name)
            self.assertEqual(estimate["degree"], report["degree"])

    def test_a_shape_does_for_an_input(self):
        shape = run_json("fathom-build", "estimate", "--count", 1000000, "--dim", 768, "--type", "f16")
        self.assertGreater(shape["disk_bytes"], 10**6 * 768 * 3)
        run("fathom-build", "estimate", "--count", 10, code=2)
        run("fathom-build", "estimate", "--count", 10, "--dim", 4, "--type", "f64", code=2)


@unittest.skipUnless(REAL_DATA, "FATHOM_REAL_DATA is not set")
class RealSets(BuildTest):
    def test_recall_of_every_set(self):
        for name, (metric, least) in REAL_SETS.items():
            folder = Path(REAL_DATA, name)
            if not folder.exists():
                continue
            with self.subTest(name=name):
                self.build(folder / "base.npy", "--zero-rows", "skip", metric=metric)
                found = run_json("fathom-bench", "search", "--index", self.out, "--query", folder / "query.npy", "--gt",
                                 folder / "gt100.bin", "--k", 10, "--search-list", 64)
                self.assertGreaterEqual(found["runs"][0]["recall"], least)


if __name__ == "__main__":
    unittest.main()
