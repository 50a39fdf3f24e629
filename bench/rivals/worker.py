#!/usr/bin/env python3
"""One phase of one variant of one engine, in a process of its own: `worker.py JOB.json [PIPE]`.

The job names the engine, the phase (list, build or search), the set and the variant; the result
goes to a file that it names too. The parent measures this process from outside. For that the
search phase stops at its stations: it writes a line to the pipe of that number and waits for a
line on stdin. At "ready" the engine has been tried on an index of a few rows that is closed again,
and queries and truth are in memory, but nothing of the index; at "opened" it can answer; at "done" all
searches are over.

A sweep goes through the searches from cheap to dear. Those below the lowest recall that is drawn are
not timed. It ends above the highest recall that anybody asks for, where recall no longer rises, or
when the time that the job allows is over: what has been measured by then is the result.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import THREADS, Data, recall  # noqa: E402

ALONE_QUERIES, ALONE_SECONDS = 300, 0.15
# A pass that recall is counted in: so long, or longer for as many queries as recall needs.
FEW_QUERIES, PASS_SECONDS, PASS_QUERIES, PASS_SECONDS_MAX = 20, 1, 400, 2
RECALL_STEP, FLAT_STEPS = 0.0005, 2
PR_SET_PDEATHSIG = 1


def read_bytes():
    """What the kernel has read from block devices for this process."""
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        name, value = line.split(": ")
        if name == "read_bytes":
            return int(value)
    return 0


class Station:
    def __init__(self, fd):
        self.pipe = os.fdopen(fd, "w")

    def stop(self, name):
        print(name, file=self.pipe, flush=True)
        if not sys.stdin.readline():
            os._exit(1)  # the suite has died


def timed_pass(engine, queries, k, options):
    """Seconds and CPU seconds that these queries take."""
    cpu, begin = time.process_time(), time.perf_counter()
    engine.search(queries, k, **options)
    return time.perf_counter() - begin, time.process_time() - cpu


def in_turn(queries, size):
    """So many queries at a time, on and on: a slow engine that were asked the same few again and again
    would have their pages in the page cache."""
    begin = 0
    while True:
        yield queries[np.arange(begin, begin + size) % len(queries)]
        begin += size


def measure_throughput(engine, queries, k, options, pace, query_seconds):
    """QPS of a few repetitions of at least so many seconds each, of passes over as many queries as
    that allows; figures are those of the median one."""
    least_seconds = pace["seconds"]
    size = min(len(queries), max(THREADS * 10, int(least_seconds / query_seconds)))
    passes, repeats = in_turn(queries, size), []
    for _ in range(pace["repeats"]):
        count = seconds = cpu = 0
        bytes_before = read_bytes()
        while seconds < least_seconds:
            pass_seconds, pass_cpu = timed_pass(engine, next(passes), k, options)
            count, seconds, cpu = count + size, seconds + pass_seconds, cpu + pass_cpu
        repeats.append({
            "qps": count / seconds, "cpu_us_per_query": cpu / count * 1e6,
            "device_pages_per_query": (read_bytes() - bytes_before) / 4096 / count,
        })
    repeats.sort(key=lambda repeat: repeat["qps"])
    rates = [repeat["qps"] for repeat in repeats]
    return {**repeats[len(repeats) // 2], "qps_min": rates[0], "qps_max": rates[-1]}


def measure_alone(engine, queries, k, options):
    """Latency of one query at a time on one thread, the call from Python included."""
    times, limit = [], time.perf_counter() + ALONE_SECONDS
    for row in range(min(ALONE_QUERIES, len(queries))):
        begin = time.perf_counter()
        engine.search(queries[row : row + 1], k, threads=1, **options)
        times.append(time.perf_counter() - begin)
        if time.perf_counter() > limit:
            break
    return {f"p{p}": float(np.percentile(times, p) * 1e6) for p in (50, 95, 99)}


def pass_queries(query_seconds):
    """How many queries a pass is to have, when one takes so long."""
    within = [int(seconds / max(query_seconds, 1e-9)) for seconds in (PASS_SECONDS, PASS_SECONDS_MAX)]
    return max(FEW_QUERIES, within[0], min(PASS_QUERIES, within[1]))


def queries_in_time(engine, queries, k, options):
    """As many of the queries as a pass is to have, to judge by the first few, asked for the second
    time."""
    few = queries[:FEW_QUERIES]
    timed_pass(engine, few, k, options)
    seconds, _ = timed_pass(engine, few, k, options)
    return pass_queries(seconds / len(few))


def try_search(engine, data, queries, truth, options):
    """The recall of a search over as many queries as a pass is to have, and the seconds that each
    took."""
    queries = queries[: queries_in_time(engine, queries, data.k, options)]
    begin = time.perf_counter()
    found = engine.search(queries, data.k, **options)
    seconds = time.perf_counter() - begin
    found = data.row_numbers(found)
    truth = [part[: len(queries)] for part in truth]
    return seconds / len(queries), {"params": options, "recall": recall(found, truth, data.k),
                              "queries": len(queries)}


def sweep(engine, data, queries, truth, job):
    """The runs that are worth drawing, and the best recall of all that was tried."""
    lowest, enough = job["recall_range"]
    runs, best, flat, end = [], 0, 0, time.monotonic() + job["limit_seconds"]
    for options in job["variant"]["searches"]:
        seconds, run = try_search(engine, data, queries, truth, options)
        flat = flat + 1 if run["recall"] < best + RECALL_STEP else 0
        best = max(best, run["recall"])
        if run["recall"] >= lowest:
            run.update(measure_throughput(engine, queries, data.k, options, job["pace"], seconds))
            run["alone_us"] = measure_alone(engine, queries, data.k, options)
            runs.append(run)
        if run["recall"] >= enough or flat >= FLAT_STEPS or time.monotonic() > end:
            break
    return {"runs": runs, "best_recall": best}


def phase_list(engine, data, job):
    return {"variants": engine.variants(data)}


def phase_build(engine, data, job):
    begin = time.perf_counter()
    engine.build(data, job["folder"], **job["variant"]["build"])
    return {"build_seconds": time.perf_counter() - begin}


def exercise(engine, tiny, queries):
    """Opens and asks an index of a few rows, so that what any index needs (threads, libraries that
    load late, buffers of a BLAS) is not counted as this one's memory."""
    variant = tiny["variant"]
    engine.open(Data(tiny["set"]), tiny["folder"], **variant["open"])
    for options in variant["searches"][:2]:
        engine.search(queries[:100], 10, **options)
        engine.search(queries[:1], 10, threads=1, **options)


def give_back():
    """What the few rows took goes back to the system: else the index would move into memory that
    was counted as there before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def phase_search(engine, data, job):
    station, variant = Station(int(sys.argv[2])), job["variant"]
    queries, truth = data.queries(getattr(engine, "as_stored", False)), data.truth()
    exercise(type(engine)(), job["tiny"], queries)
    give_back()
    station.stop("ready")
    engine.open(data, job["folder"], **variant["open"])
    station.stop("opened")
    found = sweep(engine, data, queries, truth, job)
    station.stop("done")
    return found


def end_with_parent():
    """A suite that is killed must not leave a build behind, which would meet its own second try."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main():
    end_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    module = importlib.import_module(f"engines.{job['engine']}")
    phase = {"list": phase_list, "build": phase_build, "search": phase_search}[job["phase"]]
    result = phase(module.ENGINE, Data(job["set"]), job)
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")
    # Some engines' threads do not end when Python does; all that matters is written.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
