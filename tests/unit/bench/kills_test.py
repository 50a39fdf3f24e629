"""./dev kills without a build: moments, what is read off progress, what is found too much, and the whole
with a program that plays a build and waits to be ended."""

import argparse
import os
import signal
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["FATHOM_SOURCE"])
sys.path.insert(0, str(SOURCE / "bench"))

import kills  # noqa: E402
from kills import Mark  # noqa: E402
from programs import Programs  # noqa: E402

# As fathom-build is called and answers. Its first runs end only when they are made to.
PLAYED = '''#!{python}
import json, os, pathlib, signal, sys, time

def tell(phase, share):
    print(json.dumps({{"phase": phase, "share": share}}), file=sys.stderr, flush=True)

def leave(*_):
    os.write(2, b"fathom-build: go on with: fathom-build build --resume\\n")
    os._exit(75)

words = sys.argv[1:]
if words[0] == "estimate":
    print(json.dumps({{"stage_cpu_seconds": {stages}, "stage_seconds": {stages}}}))
    sys.exit()
signal.signal(signal.SIGTERM, leave)
out = pathlib.Path(words[words.index("--out") + 1])
out.mkdir(exist_ok=True)
with open(out / "runs", "a") as runs:
    runs.write("+" if "--resume" in words else "-")
if "--resume" in words:
    tell("check", 1)
for stage in {stages}:
    for share in (0, 0.5, 1):
        tell(stage, share)
while out.name == "killed" and (out / "runs").stat().st_size <= {killed}:
    time.sleep(0.01)
(out / "index.fathom").write_bytes(b"same")
print(json.dumps({{"parts": 3, "index_bytes": 4}}))
'''


class Moments(unittest.TestCase):
    def test_they_are_spread_and_no_stage_is_left_out(self):
        moments = kills.spread({"read": 1, "graph": 98, "measure": 1}, {"read": 1, "graph": 49, "measure": 1}, 10)
        places = [moment.place for moment in moments]
        self.assertEqual(places, sorted(places))
        self.assertEqual([sum(rank == stage for rank, _ in places) for stage in (1, 2, 3)], [2, 10, 4])
        self.assertTrue(all(0 < share < 1 for _, share in places))
        self.assertEqual(places[2:4], [(2, (5 - 1) / 98), (2, (15 - 1) / 98)])
        self.assertTrue(all(0 <= moment.wait <= 51 / 20 for moment in moments))


class Back(unittest.TestCase):
    MARKS = [Mark((0, 0), 1), Mark((0, 1), 2), Mark((3, 0), 2.5), Mark((3, 0.5), 4), Mark((3, 0.6), 5)]

    def test_what_is_checked_is_not_done_again(self):
        self.assertEqual(kills.when_back(self.MARKS, (3, 0.5)), (2.5, 1.5))
        self.assertEqual(kills.when_back(self.MARKS, (2, 1)), (2.5, 0))

    def test_what_is_read_anew_is_done_again(self):
        marks = [Mark((0, 1), 1), Mark((1, 0), 2), Mark((1, 0.5), 3)]
        self.assertEqual(kills.when_back(marks, (1, 0.4)), (0, 3))

    def test_who_is_not_there_is_not_back(self):
        self.assertIsNone(kills.when_back(self.MARKS, (3, 0.7)))
        self.assertIsNone(kills.when_back([], (1, 0)))


def kill(**changes):
    return {"stage": "graph", "share": 0.5, "signal": "SIGTERM", "exit": 75, "stop_seconds": 0.1,
            "checked_cpu_seconds": 1, "again_cpu_seconds": 59, "resume_line": True, **changes}  # fmt: skip


class Faults(unittest.TestCase):
    def test_what_is_kept_is_none(self):
        self.assertEqual(kills.faults([kill(), kill(signal="SIGKILL", exit=-9, resume_line=False)]), [])

    def test_each_is_found(self):
        for change in ({"again_cpu_seconds": 61}, {"stop_seconds": 2.1}, {"exit": -15}, {"resume_line": False}):
            with self.subTest(**change):
                self.assertEqual(len(kills.faults([kill(), kill(**change)])), 1)


class Whole(unittest.TestCase):
    STAGES = {"read": 0.01, "graph": 0.02}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.work = Path(folder.name)
        self.killed = len(kills.spread(self.STAGES, self.STAGES, 2))
        program = self.work / "fathom-build"
        program.write_text(
            PLAYED.format(python=sys.executable, stages=self.STAGES, killed=self.killed), encoding="utf-8"
        )
        program.chmod(0o755)

    def test_a_build_is_ended_at_every_moment_and_gone_on_with(self):
        options = argparse.Namespace(rows=10, dim=2, kills=2, threads=1, memory_budget=None, seed=1)
        (self.work / "10x2.u8bin").touch()
        whole = kills.Kills(Programs(self.work), self.work, options)
        whole.predict()
        whole.run()
        self.assertEqual((self.work / "killed" / "runs").read_text(encoding="ascii"), "-" + self.killed * "+")
        self.assertEqual([each["exit"] for each in whole.kills],
                         [(75, -signal.SIGKILL)[i % 2] for i in range(self.killed)])  # fmt: skip
        self.assertTrue(all(each["again_cpu_seconds"] >= 0 for each in whole.kills))
        self.assertTrue(whole.compare())
        document = whole.document()
        self.assertEqual((document["moments_missed"], document["parts"], document["index_bytes"]), (0, 3, 4))
        self.assertEqual(len(kills.table(whole.kills)), 1 + self.killed)


if __name__ == "__main__":
    unittest.main()
