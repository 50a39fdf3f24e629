"""Runs fathom for the suite: one build, then a process for each DRAM budget, measured from outside
as the rivals are; and its server under rising load."""

import json
import os
import shutil
import signal

import outside
import records
import sets
from programs import ProgramFailed, too_long

THREADS, PROBE_QUERIES = 2, 200
PROGRAM_SECONDS = 120  # for one build, sweep or load: some times what the longest takes
# Asked in a sweep, and alone: all and 300, or of a budget that answers fewer a second than this, so many.
SLOW_QPS, QUERIES, SLOW_QUERIES = 1000, (None, 300), (1000, 100)
# Budgets, of the raw f32 size and with the queries' own memory in them; None: no budget.
SHARES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.2, 0.3, None)
# What is asked for: the index has operating points (search list, refine threshold) for each budget.
TARGETS = (0.9, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995)
LOAD_SHARE, LOAD_RECALL, LOAD_CONNECTIONS = 0.2, 0.95, 8
LOAD_PARTS = (0.1, 0.4, 0.7, 0.85, 1.0)  # of the QPS in process
# Where its latency is judged: at this part of the most that the server answered, and for longer.
PEAK_PART, PEAK_TIMES, LOOP_TIMES = 0.6, 3, 1.5
WARM_UP, WARM_UP_ALONE = "100ms", "50ms"
LIMIT_ROOM_BYTES = 4 << 20  # beside a budget, for what is not of the index; rivals have as much


class Fathom:
    def __init__(self, data, programs, work, pace):
        self.data, self.programs, self.pace = data, programs, pace
        self.work, self.index = work / "fathom", work / "fathom" / "index"
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
            limit = self.programs.seconds_left()
            code, peak, seconds = outside.run_and_measure(command, os.environ, stream,
                                                          limit_seconds=limit)
        if code == -signal.SIGKILL and limit and seconds >= limit:
            raise ProgramFailed(too_long(command, limit))
        if code:
            raise ProgramFailed(f"{' '.join(command)}\nexited with {code}; see {log}")
        index_bytes = sum(path.stat().st_size for path in outside.files_in(self.index))
        return {"build_seconds": seconds, "build_peak_rss_bytes": peak, "index_bytes": index_bytes,
                "build_others_cpu": others.share(), "build_date": records.today()}

    def in_flight(self, share, threads=THREADS):
        """As many queries in flight as the index thinks a budget well spent on, in a plan for the recall
        of the load. Fails with what it says where a budget is too small."""
        words = self.search_words(share, threads, None, [LOAD_RECALL], passes=1, warm_up="0s")
        words["query"] = self.few_queries(1)
        del words["gt"]
        return self.programs.json("fathom-bench", "search", **words)["runs"][0]["inflight"]

    def budget(self, share):
        """All that is kept for the index and its queries; 0, no budget, for None."""
        return int(share * sets.raw_bytes(self.data)) if share else 0

    def search_words(self, share, threads, inflight, targets, **more):
        """inflight None: as the index thinks best."""
        given = {"inflight": inflight} if inflight else {}
        return {"index": self.index, "query": self.data["query"], "gt": self.data["truth"],
                "k": self.data["k"], "dram_budget": budget_word(share),
                "target_recall": ",".join(map(str, targets)), "threads": threads,
                **given, **more}

    def few_queries(self, count):
        return sets.write_some_queries(self.data, self.work / f"some{count}.npy", count)

    def some_truth(self, count):
        return sets.write_some_truth(self.data, self.work / f"some{count}.truth.bin", count)

    def points(self, share, inflight):
        """The targets without those that are the same operating point as one before, which shows
        in the work that they do (where memory is tight, many recalls are the most there is); and
        how many queries there is time for, in a sweep and alone."""
        words = self.search_words(share, THREADS, inflight, TARGETS, passes=1, warm_up="0s")
        words["query"] = self.few_queries(PROBE_QUERIES)
        del words["gt"]
        kept, before = [], None
        runs = self.programs.json("fathom-bench", "search", **words)["runs"]
        for run in runs:
            work = [run[f"{what}_per_query"] for what in ("reads", "bytes", "hops", "distances")]
            if work != before:
                kept.append(run["target_recall"])
            before = work
        slow = min(run["qps"] for run in runs) < SLOW_QPS
        return kept, SLOW_QUERIES if slow else QUERIES

    def search(self, share, inflight, targets, count=None):
        """The document of a sweep, what it took in memory, and the limit that it was held to. count:
        of queries, when not all are asked."""
        words = self.search_words(share, THREADS, inflight, targets, seconds=self.pace["seconds"],
                                  repeat=self.pace["repeats"], warm_up=WARM_UP)
        if count:
            words.update(query=self.few_queries(count), gt=self.some_truth(count))
        command = self.programs.command("fathom-bench", "search", json=True, wait=True, **words)
        budget = self.budget(share)
        limit = budget + LIMIT_ROOM_BYTES if budget else None
        try:
            return *self.watched(command, limit), limit
        except outside.NoLimit:
            return *self.watched(command, None), None

    def watched(self, command, limit):
        limit_seconds = self.programs.seconds_left()
        with outside.Watched(command, self.index, os.environ, None, limited=limit is not None,
                             limit_seconds=limit_seconds) as process:
            process.wait_for("ready")
            process.start_counting(limit)
            process.go()
            text = process.process.stdout.read()
            errors = process.lines.read()
            process.process.wait()
            dram = process.dram()
        if process.timed_out:
            raise ProgramFailed(too_long(command, limit_seconds))
        if process.process.returncode:
            raise ProgramFailed((errors.strip().splitlines() or [
                f"fathom-bench search ended with {process.process.returncode}, held to {limit} bytes"
            ])[-1])
        return json.loads(text), dram

    def search_alone(self, share, targets, count):
        """{target recall: latencies of one query at a time}, of as many queries as rivals are asked."""
        words = self.search_words(share, 1, 1, targets, passes=1, warm_up=WARM_UP_ALONE)
        words["query"] = self.few_queries(count)
        del words["gt"]
        document = self.programs.json("fathom-bench", "search", **words)
        return {run["target_recall"]: run["latency_us"] for run in document["runs"]}

    def measure(self, share, built):
        inflight = self.in_flight(share)
        targets, (count, alone_count) = self.points(share, inflight)
        document, dram, limit = self.search(share, inflight, targets, count)
        alone = self.search_alone(share, targets, alone_count)
        first = document["runs"][0]
        return document, {
            "name": share_name(share), "share": share, "budget_bytes": self.budget(share),
            "inflight": inflight, "queries": document["queries"], "navigator": first["navigator"],
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
        an open loop at the same part of it, and one in real time at the same rate."""
        inflight = self.in_flight(LOAD_SHARE)
        run = self.open_loop(inflight, f"{PEAK_PART:.0%}", "slice")
        at_part = run["open_loop"][0]
        hurried = self.open_loop(inflight, f"{at_part['rate']:.0f}", "realtime")["open_loop"][0]
        kept = ("rate", "urgency", "qps", "recall", "latency_us", "late_us")
        return {"inflight": inflight, "target_recall": LOAD_RECALL,
                "peak_qps": run["qps"], "peak_part": PEAK_PART,
                "at_peak_part": {name: at_part[name] for name in kept},
                "in_real_time": {name: hurried[name] for name in kept}}

    def open_loop(self, inflight, rate, urgency):
        words = self.search_words(LOAD_SHARE, THREADS, inflight, [LOAD_RECALL], rate=rate,
                                  urgency=urgency, seconds=LOOP_TIMES * self.pace["load_seconds"])
        return self.programs.json("fathom-bench", "search", **words)["runs"][0]

    def load(self, qps):
        """The server at rising rates, up to the QPS that the same budget gave in process; then once
        more at a part of the most that it answered."""
        # The server keeps scratch for one more thread, which asks its own questions.
        inflight = self.in_flight(LOAD_SHARE, THREADS + 1)
        with self.programs.server(self.work, {"bench": self.index}, workers=THREADS,
                                  inflight=inflight,
                                  dram_budget=budget_word(LOAD_SHARE)) as server:
            server.start()
            rising = self.load_runs(server, [qps * part for part in LOAD_PARTS])
            peak = max(run["qps"] for run in rising)
            at_part = self.load_runs(server, [peak * PEAK_PART], PEAK_TIMES)[0]
        return {"share": LOAD_SHARE, "inflight": inflight, "connections": LOAD_CONNECTIONS,
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
    """Reads are pages, as the kernel counts those of rivals; a request may ask for several that are
    neighbours."""
    kept = ("recall", "qps", "cpu_us_per_query", "distances_per_query", "hops_per_query", "code_bits")
    return {"params": {"target_recall": run["target_recall"]}, **{name: run[name] for name in kept},
            "reads_per_query": run["pages_per_query"], "requests_per_query": run["reads_per_query"],
            "qps_min": run["spread"]["qps"]["min"], "qps_max": run["spread"]["qps"]["max"]}


def share_name(share):
    return f"{share:.0%} of raw" if share else "no budget"


def budget_word(share):
    """As --dram-budget takes it."""
    return f"{100 * share:.5g}%" if share else "0"


def best_qps(variant, recall):
    return max((run["qps"] for run in variant["runs"] if run["recall"] >= recall), default=0)


def told(failure, work):
    """What a program said last. Records name no folder of this machine."""
    said = str(failure).splitlines() or [type(failure).__name__]
    return said[-1].replace(f"{work}/", "")


def measure(data, programs, work, pace, say):
    """The part of a record that is fathom's: status, version, variants, load."""
    fathom = Fathom(data, programs, work, pace)
    say(f"{data['name']}: fathom, building")
    built, measured, failed, document = fathom.build(), [], [], None
    for share in SHARES:
        say(f"{data['name']}: fathom, {share_name(share)}")
        try:
            document, variant = fathom.measure(share, built)
            measured.append(variant)
        except (ProgramFailed, OSError) as failure:
            failed.append({"name": share_name(share), "reason": told(failure, work)})
    if not measured:
        raise ProgramFailed(failed[0]["reason"])
    at_load = [variant for variant in measured if variant["share"] == LOAD_SHARE] or measured[-1:]
    say(f"{data['name']}: fathom-server under load")
    try:
        load = fathom.load(best_qps(at_load[0], LOAD_RECALL) or 1000)
    except (ProgramFailed, OSError) as failure:
        load = None
        failed.append({"name": "server under load", "reason": told(failure, work)})
    return {"status": "measured", "version": document["version"], "reason": "",
            "cpu_level": document["runs"][0]["cpu_level"], "variants": measured,
            "failed": failed, "load": load}
