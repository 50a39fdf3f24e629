"""Runs fathom for the suite: one build, then a process for each DRAM budget, measured from outside
as the rivals are; and its server under rising load."""

import json
import os
import shutil

import outside
import records
import sets
from programs import ProgramFailed

THREADS, IN_FLIGHT, ALONE_QUERIES = 2, 16, 300
SHARES = (0.03, 0.05, 0.08, 0.12, 0.2, 0.3, None)  # of the raw f32 size; None: no budget
# What is asked for: the index has operating points (search list, refine threshold) for each budget.
TARGETS = (0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99, 0.995)
LOAD_SHARE, LOAD_RECALL, LOAD_CONNECTIONS = 0.12, 0.95, 8
LOAD_PARTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)  # of the QPS in process
# Where its latency is judged: at this part of the most that the server answered, and for longer.
PEAK_PART, PEAK_TIMES = 0.6, 4
LIMIT_ROOM_BYTES = 4 << 20  # beside a budget, for what is not of the index; rivals have as much


class Fathom:
    def __init__(self, data, programs, work, pace):
        self.data, self.programs, self.pace = data, programs, pace
        self.work, self.index = work / "fathom", work / "fathom" / "index"
        self.scratch_bytes = {}
        self.work.mkdir(parents=True, exist_ok=True)

    def build_command(self):
        extra = {"zero_rows": "skip"} if self.data["metric"] == "cos" else {}
        return self.programs.command("fathom-build", "build", input=self.data["base"],
                                     out=self.index, metric=self.data["metric"], threads=THREADS,
                                     **extra, json=True)

    def build(self):
        """Always anew: it is fathom that changes between two runs of the suite."""
        shutil.rmtree(self.index, ignore_errors=True)
        command, log = self.build_command(), self.work / "build.log"
        others = outside.Others()
        with open(log, "wb") as stream:
            code, peak, seconds = outside.run_and_measure(command, os.environ, stream)
        if code:
            raise ProgramFailed(f"{' '.join(command)}\nexited with {code}; see {log}")
        index_bytes = sum(path.stat().st_size for path in outside.files_in(self.index))
        return {"build_seconds": seconds, "build_peak_rss_bytes": peak, "index_bytes": index_bytes,
                "build_others_cpu": others.share(), "build_date": records.today()}

    def scratch(self, threads, inflight):
        """What queries in flight take beside the index, of which the budget is to be for itself."""
        if (threads, inflight) not in self.scratch_bytes:
            document = self.programs.json(
                "fathom-bench", "search", index=self.index, query=self.data["query"],
                threads=threads, inflight=inflight, passes=1, warm_up="0s")
            self.scratch_bytes[threads, inflight] = document["runs"][0]["dram_bytes"]["scratch"]
        return self.scratch_bytes[threads, inflight]

    def budget(self, share, threads=THREADS, inflight=IN_FLIGHT):
        """The share for the index and the scratch beside it; 0, no budget, for None."""
        if share is None:
            return 0
        return int(share * sets.raw_bytes(self.data)) + self.scratch(threads, inflight)

    def search_words(self, share, threads, inflight, **more):
        return {"index": self.index, "query": self.data["query"], "gt": self.data["truth"],
                "k": self.data["k"], "dram_budget": self.budget(share, threads, inflight),
                "target_recall": ",".join(map(str, TARGETS)), "threads": threads,
                "inflight": inflight, **more}

    def search(self, share):
        """The document of a sweep, what it took in memory, and the limit that it was held to."""
        command = self.programs.command(
            "fathom-bench", "search", json=True, wait=True,
            **self.search_words(share, THREADS, IN_FLIGHT, seconds=self.pace["seconds"],
                                repeat=self.pace["repeats"]))
        budget = self.budget(share)
        limit = budget + LIMIT_ROOM_BYTES if budget else None
        try:
            return *self.watched(command, limit), limit
        except outside.NoLimit:
            return *self.watched(command, None), None

    def watched(self, command, limit):
        with outside.Watched(command, self.index, os.environ, None,
                             limited=limit is not None) as process:
            process.wait_for("ready")
            process.start_counting(limit)
            process.go()
            text = process.process.stdout.read()
            errors = process.lines.read()
            process.process.wait()
            dram = process.dram()
        if process.process.returncode:
            raise ProgramFailed((errors.strip().splitlines() or [
                f"fathom-bench search ended with {process.process.returncode}, held to {limit} bytes"
            ])[-1])
        return json.loads(text), dram

    def search_alone(self, share):
        """{target recall: latencies of one query at a time}, of as many queries as rivals are asked."""
        words = self.search_words(share, 1, 1, passes=1, warm_up="200ms")
        words["query"] = sets.write_first_queries(self.data, self.work / "alone.npy", ALONE_QUERIES)
        del words["gt"]
        document = self.programs.json("fathom-bench", "search", **words)
        return {run["target_recall"]: run["latency_us"] for run in document["runs"]}

    def measure(self, share, built):
        document, dram, limit = self.search(share)
        alone = self.search_alone(share)
        first = document["runs"][0]
        name = f"{share:.0%} of raw" if share else "no budget"
        return document, {
            "name": name, "budget_bytes": self.budget(share), "navigator": first["navigator"],
            **built, "limit_bytes": limit, "dram": dram, "ledger": first["dram_bytes"],
            "dram_bytes_per_vector": dram["total_bytes"] / self.data["rows"],
            "page_cache_bytes": max(run["page_cache_bytes"] or 0 for run in document["runs"]),
            "direct_io": first["direct_io"], "io_engine": first["io_engine"],
            "runs": [{**run_record(run),
                      "alone_us": {p: alone[run["target_recall"]][p] for p in ("p50", "p95", "p99")}}
                     for run in document["runs"]],
        }

    def load_in_process(self):
        """Without a client and a network: the most at the recall that the server is asked for, then
        an open loop at the same part of it."""
        words = self.search_words(LOAD_SHARE, THREADS, IN_FLIGHT, rate=f"{PEAK_PART:.0%}",
                                  seconds=2 * self.pace["load_seconds"])
        words["target_recall"] = LOAD_RECALL
        run = self.programs.json("fathom-bench", "search", **words)["runs"][0]
        at_part = run["open_loop"][0]
        return {"budget_bytes": self.budget(LOAD_SHARE), "target_recall": LOAD_RECALL,
                "peak_qps": run["qps"], "peak_part": PEAK_PART, "at_peak_part": {
                    name: at_part[name] for name in ("rate", "qps", "recall", "latency_us", "late_us")}}

    def load(self, qps):
        """The server at rising rates, up to the QPS that the same budget gave in process; then once
        more at a part of the most that it answered."""
        # The server keeps scratch for one more thread, which asks its own questions.
        budget = self.budget(LOAD_SHARE, THREADS + 1)
        with self.programs.server(self.work, {"bench": self.index}, workers=THREADS,
                                  dram_budget=budget) as server:
            server.start()
            rising = self.load_runs(server, [qps * part for part in LOAD_PARTS])
            peak = max(run["qps"] for run in rising)
            at_part = self.load_runs(server, [peak * PEAK_PART], PEAK_TIMES)[0]
        return {"budget_bytes": budget, "connections": LOAD_CONNECTIONS,
                "target_recall": LOAD_RECALL, "runs": rising, "peak_qps": peak,
                "peak_part": PEAK_PART, "at_peak_part": at_part,
                "in_process": self.load_in_process()}

    def load_runs(self, server, rates, times=1):
        document = self.programs.json(
            "fathom-bench", "load", server=server.address, index="bench",
            query=self.data["query"], gt=self.data["truth"], k=self.data["k"],
            target_recall=LOAD_RECALL, rate=",".join(str(max(round(rate), 10)) for rate in rates),
            seconds=self.pace["load_seconds"] * times, connections=LOAD_CONNECTIONS)
        kept = ("rate", "qps", "due", "answered", "failed", "recall", "latency_us", "late_us",
                "client_urgency", "client_cpu_us_per_request")
        return [{name: run[name] for name in kept} for run in document["runs"]]


def run_record(run):
    kept = ("recall", "qps", "cpu_us_per_query", "reads_per_query", "distances_per_query",
            "hops_per_query", "code_bits")
    return {"params": {"target_recall": run["target_recall"]}, **{name: run[name] for name in kept},
            "qps_min": run["spread"]["qps"]["min"], "qps_max": run["spread"]["qps"]["max"]}


def best_qps(variant, recall):
    return max((run["qps"] for run in variant["runs"] if run["recall"] >= recall), default=0)


def told(failure, work):
    """What a program said last. Records name no folder of this machine."""
    return str(failure).splitlines()[-1].replace(f"{work}/", "")


def measure(data, programs, work, pace, say):
    """The part of a record that is fathom's: status, version, variants, load."""
    fathom = Fathom(data, programs, work, pace)
    say(f"{data['name']}: fathom, building")
    built, measured, failed, document = fathom.build(), [], [], None
    for share in SHARES:
        say(f"{data['name']}: fathom, {f'{share:.0%} of raw' if share else 'no budget'}")
        try:
            document, variant = fathom.measure(share, built)
            measured.append(variant)
        except ProgramFailed as failure:
            failed.append({"name": f"{share:.0%} of raw", "reason": told(failure, work)})
    if not measured:
        raise ProgramFailed(failed[0]["reason"])
    at_load = [variant for variant in measured
               if variant["budget_bytes"] == fathom.budget(LOAD_SHARE)] or measured[-1:]
    say(f"{data['name']}: fathom-server under load")
    try:
        load = fathom.load(best_qps(at_load[0], LOAD_RECALL) or 1000)
    except ProgramFailed as failure:
        load = None
        failed.append({"name": "server under load", "reason": told(failure, work)})
    return {"status": "measured", "version": document["version"], "reason": "",
            "cpu_level": document["runs"][0]["cpu_level"], "variants": measured,
            "failed": failed, "load": load}
