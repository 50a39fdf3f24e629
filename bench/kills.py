#!/usr/bin/env python3
"""What a build loses when it is killed, and how soon it stops when it is asked to: one build of many
rows is ended again and again, by SIGTERM and by SIGKILL in turn, and each time gone on with by
--resume. `./dev kills` runs it.

    moments   spread over what the build is predicted to take, two in each stage at the least, and two
              when all is measured and the index is verified; each waits a little, so that none follows
              a save by rule.
    stopped   seconds from SIGTERM until the process is gone. More than 2, or an exit code other than
              75, is a failure.
    checked   CPU seconds of the next build until it works: reading the input for its hash, and what was
              saved.
    again     CPU seconds from there until it is where the other was ended, and those that the other had
              taken since it last told where it was. What is loaded in a stage counts, so that this is
              never too little. More than 60 is a failure.

CPU seconds are of all threads, so that what runs beside it matters little. Times to stop want a quiet
machine. The table goes to stdout, all figures to kills.json in the work folder."""

import argparse
import filecmp
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from programs import ProgramFailed, Programs, die_on_terminate

INTERRUPTED = 75
STOP_SECONDS, AGAIN_SECONDS = 2, 60
LOST_SECONDS = 120  # until a build that does not stop is killed
POLL_SECONDS = 0.01
CHECK = "check"  # the phase that is no stage: the input is read for its hash
PUBLISHING = 0.995  # of the last stage: what follows is verification
PUBLISHING_WAIT = 0.3


class Failed(Exception):
    """What was to be kept was not, or the build failed."""


class Moment(NamedTuple):
    place: tuple  # rank of the phase, share of it
    wait: float  # the most that is waited there, in seconds


class Mark(NamedTuple):
    place: tuple
    cpu: float


def spread(stages, seconds, count):
    """Moments of a build whose stages are predicted to take these CPU seconds, and wall seconds."""
    total, places, before = sum(stages.values()), [], 0
    for rank, cpu in enumerate(stages.values(), 1):
        spots = [(i + 0.5) * total / count - before for i in range(count)]
        shares = [spot / cpu for spot in spots if 0 <= spot < cpu]
        places += [(rank, share) for share in (shares if len(shares) > 1 else (1 / 3, 2 / 3))]
        before += cpu
    gap = sum(seconds.values()) / (2 * len(places))
    waits = [min(each / 3, gap) for each in seconds.values()]
    moments = [Moment(place, waits[place[0] - 1]) for place in places]
    return moments + 2 * [Moment((len(stages), PUBLISHING), PUBLISHING_WAIT)]


def when_back(marks, place):
    """(checked, again) of a build that goes on: its CPU seconds until it works, and from there to this
    place; None where it is not there yet. Where even the input is read anew, all was done again."""
    there = next((mark for mark in marks if mark.place >= place), None)
    if there is None:
        return None
    working = next((mark for mark in marks if mark.place[0] > 0), there)
    checked = 0 if working.place[0] == 1 else min(working.cpu, there.cpu)
    return checked, there.cpu - checked


class Build:
    """A run of fathom-build that is watched: where it has been, and the CPU seconds that led there."""

    def __init__(self, command, ranks, report):
        self.ranks, self.marks, self.notes = ranks, [], []
        self.exit, self.cpu_at_end = None, 0
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=report, stderr=subprocess.PIPE, text=True
        )
        self.usage_path = Path(f"/proc/{self.process.pid}/stat")
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            if not line.startswith("{"):
                self.notes.append(line.strip())
                continue
            event = json.loads(line)
            known = self.marks[-1].place[0] if self.marks else 0
            rank = self.ranks.get(event["phase"], known)
            self.marks.append(Mark((rank, event["share"]), self.cpu()))

    def cpu(self):
        """Seconds of all its threads; those of the last mark when it has ended."""
        try:
            fields = self.usage_path.read_text(encoding="ascii").rsplit(")", 1)[1].split()
        except OSError:
            return self.marks[-1].cpu if self.marks else 0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def mark(self):
        return self.marks[-1] if self.marks else Mark((0, 0), 0)

    def ended(self):
        """Whether it has; then exit is its code, below 0 the signal that ended it."""
        if self.exit is None:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid == 0:
                return False
            self.exit = self.process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_at_end = usage.ru_utime + usage.ru_stime
            self.reader.join()
            self.process.stderr.close()
        return True

    def stop(self, number):
        """Sends a signal; the seconds until the process is gone."""
        begin = time.monotonic()
        os.kill(self.process.pid, number)
        while not self.ended():
            if time.monotonic() - begin > LOST_SECONDS:
                os.kill(self.process.pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS / 10)
        return time.monotonic() - begin


class Kills:
    def __init__(self, programs, work, options):
        self.programs, self.work, self.options = programs, work, options
        self.random = random.Random(options.seed)
        self.out = work / "killed"
        self.base = work / f"{options.rows}x{options.dim}.u8bin"
        self.shape = {"threads": options.threads}
        if options.memory_budget:
            self.shape["memory_budget"] = options.memory_budget
        self.kills = []
        self.total_cpu = 0

    def make_data(self):
        if not self.base.exists():
            self.programs.json(
                "fathom-data", "synth", count=self.options.rows, dim=self.options.dim, out=self.base
            )

    def predict(self):
        """Moments, and the rank of each phase."""
        estimate = self.programs.json("fathom-build", "estimate", input=self.base, metric="l2", **self.shape)
        stages = estimate["stage_cpu_seconds"]
        self.moments = spread(stages, estimate["stage_seconds"], self.options.kills)
        self.phases = [CHECK, *stages]

    def command(self, out, **more):
        return self.programs.command(
            "fathom-build", "build", input=self.base, metric="l2", out=out, progress="json", json=True,
            **self.shape, **more,
        )  # fmt: skip

    def start(self):
        more = {"resume": True} if self.kills else {}
        ranks = {phase: rank for rank, phase in enumerate(self.phases)}
        with open(self.work / "report.json", "wb") as report:
            return Build(self.command(self.out, **more), ranks, report)

    def run(self):
        """One build from its beginning to its end, however often it is ended on its way."""
        shutil.rmtree(self.out, ignore_errors=True)
        while not self.follow(self.start()):
            pass

    def follow(self, build):
        """Watches a build until it is through (True) or was ended at its moment."""
        try:
            while not build.ended():
                if self.is_back(build) and self.is_due(build):
                    time.sleep(self.random.uniform(0, self.moments.pop(0).wait))
                    self.end(build)
                    break
                time.sleep(POLL_SECONDS)
        finally:
            if build.exit is None:
                build.stop(signal.SIGKILL)
        self.total_cpu += build.cpu_at_end
        if build.exit in (INTERRUPTED, -signal.SIGKILL):
            return False
        if build.exit != 0:
            raise Failed(f"a build ended with {build.exit}: {' '.join(build.notes[-3:])}")
        if self.kills and self.kills[-1]["again_cpu_seconds"] is None:
            self.note_back(0, build.cpu_at_end)
        return True

    def is_due(self, build):
        return bool(self.moments) and build.mark().place >= self.moments[0].place

    def is_back(self, build):
        """Whether a build is as far as the one that it goes on from. Notes at once what that took."""
        if not self.kills or self.kills[-1]["again_cpu_seconds"] is not None:
            return True
        back = when_back(list(build.marks), self.kills[-1]["place"])
        if back:
            self.note_back(*back)
        return back is not None

    def note_back(self, checked, again):
        kill = self.kills[-1]
        kill["checked_cpu_seconds"] = checked
        kill["again_cpu_seconds"] = again + kill.pop("tail")

    def end(self, build):
        number = (signal.SIGTERM, signal.SIGKILL)[len(self.kills) % 2]
        mark, cpu = build.mark(), build.cpu()
        seconds = build.stop(number)
        if build.exit == 0:
            return  # it was faster
        self.kills.append({
            "stage": self.phases[mark.place[0]], "share": mark.place[1], "place": mark.place,
            "signal": number.name, "exit": build.exit, "stop_seconds": seconds,
            "tail": cpu - mark.cpu, "checked_cpu_seconds": None, "again_cpu_seconds": None,
            "resume_line": any("go on with: " in note for note in build.notes),
        })  # fmt: skip
        print(f"{len(self.kills)}: {number.name} in {self.phases[mark.place[0]]}", file=sys.stderr)

    def compare(self):
        """Builds without a kill, and holds the bytes against each other."""
        whole = self.work / "whole"
        shutil.rmtree(whole, ignore_errors=True)
        done = self.programs.run(
            self.command(whole), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        name = "index.fathom"
        same = done.returncode == 0 and filecmp.cmp(whole / name, self.out / name, shallow=False)
        shutil.rmtree(whole, ignore_errors=True)
        return same

    def document(self):
        report = json.loads((self.work / "report.json").read_text(encoding="utf-8"))
        for kill in self.kills:
            kill.pop("place", None)
        return {"rows": self.options.rows, "dim": self.options.dim, **self.shape, "kills": self.kills,
                "moments_missed": len(self.moments), "cpu_seconds": self.total_cpu,
                "parts": report["parts"], "index_bytes": report["index_bytes"]}  # fmt: skip


def table(kills):
    """Lines: what happened to each, CPU seconds but for the time to stop."""
    lines = [f"{'':>3} {'stage':8} {'at':>5}  {'signal':8} {'exit':>4} {'stopped':>9} {'checked':>8} {'again':>8}"]
    for number, kill in enumerate(kills, 1):
        lines.append(
            f"{number:3} {kill['stage']:8} {kill['share']:5.0%}  {kill['signal']:8} {kill['exit']:4} "
            f"{kill['stop_seconds']:7.2f} s {kill['checked_cpu_seconds']:8.1f} {kill['again_cpu_seconds']:8.1f}"
        )
    return lines


def faults(kills):
    """What was to be kept and was not, in words."""
    found = []
    for number, kill in enumerate(kills, 1):
        if kill["again_cpu_seconds"] > AGAIN_SECONDS:
            found.append(f"kill {number}: {kill['again_cpu_seconds']:.1f} CPU s were done again")
        if kill["signal"] != "SIGTERM":
            continue
        if kill["exit"] != INTERRUPTED or not kill["resume_line"]:
            found.append(f"kill {number}: exit {kill['exit']}, or no line that says how to go on")
        if kill["stop_seconds"] > STOP_SECONDS:
            found.append(f"kill {number}: stopped after {kill['stop_seconds']:.2f} s")
    return found


def measure(options):
    kills = Kills(Programs(options.bin), options.work, options)
    kills.make_data()
    kills.predict()
    kills.run()
    same = kills.compare() if options.compare else None
    document = kills.document()
    document["same_bytes"] = same
    (options.work / "kills.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(kills.out, ignore_errors=True)
    print("\n".join(table(kills.kills)))
    worst = max((kill["again_cpu_seconds"] for kill in kills.kills), default=0)
    stop = max((kill["stop_seconds"] for kill in kills.kills if kill["signal"] == "SIGTERM"), default=0)
    print(
        f"{options.rows} rows, parts: {document['parts']}, {len(kills.kills)} kills: at most {worst:.1f} CPU s "
        f"done again, stopped within {stop:.2f} s; {document['moments_missed']} moments passed by; "
        f"{kills.total_cpu:.0f} CPU s in all"
    )
    found = faults(kills.kills) + (["the index is not that of a build without a kill"] if same is False else [])
    if found:
        raise Failed("; ".join(found))


def main():
    parser = argparse.ArgumentParser(
        prog="./dev kills", description="What a build loses by being killed, and how soon it stops."
    )
    parser.add_argument("--bin", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=1000000, metavar="N", help="of u8 (1000000)")
    parser.add_argument("--dim", type=int, default=128, metavar="D", help="(128)")
    parser.add_argument("--kills", type=int, default=16, metavar="N",
                        help="spread over the build; short stages add theirs (16)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="T")
    parser.add_argument("--memory-budget", metavar="SIZE", help="of the build (none)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the waits at moments (1)")
    parser.add_argument("--compare", action="store_true",
                        help="build once more without a kill: the bytes are the same")  # fmt: skip
    options = parser.parse_args()
    die_on_terminate()
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        measure(options)
    except (Failed, ProgramFailed) as error:
        print(f"kills: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
