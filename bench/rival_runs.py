"""Runs the rivals: a virtual environment for each from its pinned requirements, a process for each
phase (rivals/worker.py), and the record. What cannot be had here is recorded as absent, with why."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import outside
import records
import sets

HERE = Path(__file__).resolve().parent / "rivals"
ENGINES = ("hnswlib", "faiss", "usearch", "diskann", "lancedb", "zvec", "qdrant")
THREADS = 2
INSTALL_SECONDS, SWEEP_SECONDS, SEARCH_SECONDS = 600, 20, 150
FEW_ROWS = 1000
SCRATCH_BYTES = 4 << 20  # for queries in flight, beside a limit: fathom has its own as well
BUILT = ("build_seconds", "build_peak_rss_bytes", "build_others_cpu", "build_date")


class Absent(Exception):
    """The engine cannot be installed or started here; says why."""


def environment():
    """Two threads, whatever the engine counts them with; nothing of ours in its path."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "OMP_NUM_THREADS": str(THREADS), "OMP_WAIT_POLICY": "passive",
            "OPENBLAS_NUM_THREADS": str(THREADS),
            "RAYON_NUM_THREADS": str(THREADS),
            "TOKIO_WORKER_THREADS": str(THREADS),
            "PYTHONDONTWRITEBYTECODE": "1"}


def install(engine, folder, limit_seconds=INSTALL_SECONDS):
    """The Python of the engine's environment, made when its requirements have changed."""
    wanted = (HERE / "requirements" / f"{engine}.txt").read_text(encoding="utf-8")
    stamp, python = folder / "requirements.txt", folder / "bin" / "python"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"installing {engine}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", folder],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "-r", HERE / "requirements" / f"{engine}.txt"],
    ):
        try:
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                                  check=False, timeout=limit_seconds)
        except subprocess.TimeoutExpired as error:
            raise Absent(f"installing took more than {limit_seconds:.0f} s") from error
        if done.returncode:
            raise Absent("installing failed: " + last_line(done.stderr or done.stdout))
    stamp.write_text(wanted, encoding="utf-8")
    return python


def install_all(engines, venvs):
    """Before anything is measured, all within the time for one; {engine: why it cannot be had}."""
    missing, end = {}, time.monotonic() + INSTALL_SECONDS
    for engine in engines:
        if engine in ENGINES:
            try:
                install(engine, venvs / engine, max(end - time.monotonic(), 1))
            except (Absent, OSError) as absent:
                print(f"{engine}: {absent}", file=sys.stderr, flush=True)
                missing[engine] = str(absent)
    return missing


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it says nothing"


class Rival:
    """One engine on one set. until: by the monotonic clock, when all of it is to be over."""

    def __init__(self, engine, data, work, venvs, pace, machine, until):
        self.engine, self.data, self.pace = engine, data, pace
        self.machine, self.until = machine, until
        self.work = work / engine
        self.work.mkdir(parents=True, exist_ok=True)
        self.few = {**data, "rows": min(data["rows"], FEW_ROWS)}
        self.python = install(engine, venvs / engine)

    def version(self):
        first = (HERE / "requirements" / f"{self.engine}.txt").read_text(encoding="utf-8")
        return first.split()[0].replace("==", " ")

    def job(self, phase, data, variant=None, folder=None, tiny=None):
        path, result = self.work / f"{phase}.job.json", self.work / f"{phase}.result.json"
        result.unlink(missing_ok=True)
        job = {"engine": self.engine, "phase": phase, "set": data, "variant": variant,
               "folder": str(folder), "result": str(result), "pace": self.pace, "tiny": tiny,
               "limit_seconds": SWEEP_SECONDS, "recall_range": records.RECALL_RANGE}
        path.write_text(json.dumps(job), encoding="utf-8")
        return [str(self.python), str(HERE / "worker.py"), str(path)], result

    def seconds_left(self):
        left = self.until - time.monotonic()
        if left <= 0:
            raise Absent("no time left (--minutes)")
        return left

    def run_phase(self, phase, *details):
        """The result of a phase that is not watched, and its peak memory."""
        limit = self.seconds_left()
        command, result = self.job(phase, *details)
        with open(self.work / f"{phase}.log", "wb") as log:
            code, peak, _ = outside.run_and_measure(command, environment(), log, cwd=self.work,
                                                    limit_seconds=limit)
        if code == -signal.SIGKILL:
            raise Absent(f"its {phase} took more than the {limit:.0f} s that it had, or all memory")
        if code or not result.exists():
            raise Absent(f"its {phase} ended with {code}: " + self.log_tail(phase))
        return sets.load_json(result), peak

    def log_tail(self, phase):
        text = (self.work / f"{phase}.log").read_text(encoding="utf-8", errors="replace")
        return last_line(text)

    def variants(self):
        """Pairs: of the set, and the same of its first rows."""
        return list(zip(*(
            self.run_phase("list", data)[0]["variants"] for data in (self.data, self.few)
        )))

    def build(self, data, variant):
        """The folder of the index; built unless the same is there, made on this machine. Variants
        that differ in their opening alone share one. The note tells when it was built, and whether
        others used the machine."""
        what = {"build": variant["build"], "version": self.version(), "rows": data["rows"],
                "machine": self.machine}
        name = "-".join(map(str, [*variant["build"].values(), data["rows"]]))
        folder = self.work / "".join(c if c.isalnum() else "_" for c in name)
        note = self.work / (folder.name + ".build.json")
        if note.exists() and sets.load_json(note)["what"] == what:
            return folder, sets.load_json(note)
        note.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        others = outside.Others()
        built, peak = self.run_phase("build", data, variant, folder)
        built.update(what=what, build_peak_rss_bytes=peak, build_others_cpu=others.share(),
                     build_date=records.today())
        note.write_text(json.dumps(built), encoding="utf-8")
        return folder, built

    def search(self, variant, folder, tiny):
        command, result = self.job("search", self.data, variant, folder, tiny)
        command.append("{pipe}")
        share = variant["limit_share"]
        limit = None if share is None else int(share * sets.raw_bytes(self.data)) + SCRATCH_BYTES
        limit_seconds = min(SEARCH_SECONDS, self.seconds_left())
        with open(self.work / "search.log", "wb") as log, outside.Watched(
            command, folder, environment(), log, limited=limit is not None, pipe=True,
            limit_seconds=limit_seconds,
        ) as process:
            fine = process.wait_for("ready")
            process.start_counting(limit)
            process.go()
            fine = fine and process.wait_for("opened")
            outside.drop_cache(folder)
            process.go()
            fine = fine and process.wait_for("done")
            dram = process.dram()
            if fine:
                process.go()
                process.process.wait(60)
        if process.timed_out:
            raise Absent(f"its searches took more than the {limit_seconds:.0f} s that they had")
        if not fine or not result.exists():
            killed = limit is not None and process.process.returncode == -signal.SIGKILL
            raise Absent(f"{limit} bytes do not suffice, the system ended it" if killed else
                         "its search ended early: " + self.log_tail("search"))
        return sets.load_json(result), dram, limit

    def measure(self, variant, few_variant):
        folder, built = self.build(self.data, variant)
        tiny, _ = self.build(self.few, few_variant)
        found, dram, limit = self.search(variant, folder,
                                         {"folder": str(tiny), "variant": few_variant,
                                          "set": self.few})
        if not found["runs"]:
            raise Absent(f"no search that was tried reaches recall {records.RECALL_RANGE[0]}; the "
                         f"best had {found['best_recall']:.3f}")
        index_bytes = sum(path.stat().st_size for path in outside.files_in(folder))
        for run in found["runs"]:
            run["reads_per_query"] = run.pop("device_pages_per_query")
        return {
            "name": variant["name"], "build": variant["build"],
            **{name: built[name] for name in BUILT}, "index_bytes": index_bytes,
            "limit_bytes": limit, "dram": dram, "best_recall": found["best_recall"],
            "dram_bytes_per_vector": dram["total_bytes"] / self.data["rows"], "runs": found["runs"],
        }


def measure(engine, data, work, venvs, pace, machine, until, say):
    """The part of a record that is the engine's: status, version, variants."""
    try:
        rival = Rival(engine, data, work, venvs, pace, machine, until)
        wanted = rival.variants()
    except Absent as absent:
        return {"status": "absent", "reason": str(absent), "variants": []}
    measured, failed = [], []
    for variant, few_variant in wanted:
        say(f"{data['name']}: {engine}, {variant['name']}")
        try:
            measured.append(rival.measure(variant, few_variant))
        except (Absent, outside.NoLimit, OSError, subprocess.SubprocessError) as problem:
            failed.append({"name": variant["name"], "reason": str(problem)})
            say(f"{data['name']}: {engine}, {variant['name']}: {problem}")
    return {"status": "measured" if measured else "absent", "version": rival.version(),
            "reason": "" if measured else failed[0]["reason"] if failed else "no variant",
            "variants": measured, "failed": failed}
