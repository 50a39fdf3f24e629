#!/usr/bin/env python3
"""What takes too long, or depends too much on the machine, to be a test: a server over many
reloads, and one beside thousands of clients that are slow. `./dev endure` runs it.

    reloads   N reloads between two indexes while queries run, after some to warm up. Fails when a
              query does, when a reply is of no generation that was served, or when the N have made
              memory or descriptors grow.
    mixed     for some seconds all at once: reloads of two indexes under budgets that change, queries that
              are held against the vectors themselves, and clients that mean harm. Fails when an
              answer is wrong, recall is short, memory is above the budget by more than connections
              may take and a server takes itself, or memory and descriptors do not come back.
    slow      p99 of good clients alone and beside N that are silent or send a byte a second, in
              turn. The ratio of the medians is the figure; nothing fails by it.

Needs numpy and msgpack, and client/python in PYTHONPATH. Everything it makes goes to --work.
"""

import argparse
import os
import resource
import socket
import statistics
import sys
import threading
import time
from pathlib import Path

import msgpack
import numpy as np

from fathom_client import Client, ResourceExhausted
from hostile import Hostile
from programs import ProgramFailed, Programs, die_on_terminate

ROWS, DIM, K = 20000, 64, 10
LOADERS = 3
SETTLE_SECONDS, SETTLE_TIMES = 2, 15
MEMORY_GROWTH = 0.10  # of what is resident after the reloads that warm up
WARM_UP = 30  # reloads until each thread has been through all that it does
ROUNDS, ROUND_SECONDS, ROUND_QPS = 3, 8, 500
MIXED_BUDGETS = ("3MiB", "8MiB", "60%", "4MiB", "1MiB", "100%", "6MiB")  # of 5 MB; the least is above 1 MiB
CONNECTION_BYTES = 16 << 20  # for what connections hold, of which hostile ones make full use
SERVER_BYTES = 14 << 20  # libraries, threads, pools and what the heap has not given back
MIXED_RECALL, MIXED_PAUSE_SECONDS = 0.9, 0.5
HELLO = msgpack.packb([0, 1, "hello", [{"protocol": 1, "client": "slow"}]])


class Failed(Exception):
    """What was to be kept was not."""


class Endurance:
    def __init__(self, programs, work):
        self.programs, self.work = programs, work
        self.queries = work / "first.query.fbin"

    def say(self, text):
        print(text, flush=True)

    def build(self, name, seed):
        """An index of rows of this seed; made once."""
        base, index = self.work / f"{name}.fbin", self.work / name
        if not index.exists():
            self.programs.json(
                "fathom-data", "synth", count=ROWS, dim=DIM, seed=seed, out=base, queries=200,
                query_out=self.work / f"{name}.query.fbin",
            )  # fmt: skip
            self.programs.json("fathom-build", "build", input=base, out=index, metric="l2")
        return index

    def build_reversed(self):
        """Another generation that the same queries are near to: the rows of the first from their end."""
        base, index = self.work / "reversed.fbin", self.work / "reversed"
        if not index.exists():
            with open(self.work / "first.fbin", "rb") as file:
                header, rows = file.read(8), np.fromfile(file, "<f4").reshape(-1, DIM)
            base.write_bytes(header + rows[::-1].tobytes())
            self.programs.json("fathom-build", "build", input=base, out=index, metric="l2")
        return index

    def vectors(self):
        return np.fromfile(self.queries, "<f4", offset=8).reshape(-1, DIM)

    # --- reloads ---

    def reloads(self, count):
        choices = [self.build("first", 1), self.build("second", 2)]
        served = self.work / "served"
        point_to(served, choices[0])
        with self.programs.server(self.work, {"a": served}, workers=2) as server:
            server.start()
            load = Load(server.address, self.vectors())
            with Client(server.address) as client:
                load.start()
                early = self.turn(client, load, served, choices, range(WARM_UP), server)
                end = range(WARM_UP, WARM_UP + count)
                late = self.turn(client, load, served, choices, end, server)
                load.stop()
        self.say(
            f"{count} reloads beside {load.answered} queries: none failed; "
            f"resident {early[0] / 1e6:.2f} MB after {WARM_UP} to warm up, {late[0] / 1e6:.2f} MB "
            f"at the end; descriptors {early[1]}, {late[1]}"
        )
        if late[1] > early[1]:
            raise Failed(f"descriptors have grown from {early[1]} to {late[1]}")
        if late[0] > early[0] * (1 + MEMORY_GROWTH):
            raise Failed(f"memory has grown by {late[0] / early[0] - 1:.0%}")

    def turn(self, client, load, served, choices, numbers, server):
        """Reloads, and then (bytes resident, descriptors) at rest."""
        for number in numbers:
            point_to(served, choices[(number + 1) % 2])
            load.generations.add(client.reload("a")["generation"])
            load.check()
        return at_rest(server.process.pid)

    # --- all at once ---

    def mixed(self, seconds):
        choices = [self.build("first", 1), self.build_reversed()]
        served = self.work / "served"
        point_to(served, choices[0])
        with self.programs.server(
            self.work, {"a": served}, workers=2, connection_memory=CONNECTION_BYTES, max_connections=1000
        ) as server:
            server.start()
            pid = server.process.pid
            load = Load(server.address, self.vectors())
            with Client(server.address) as client:
                client.reload("a", dram_budget=MIXED_BUDGETS[-1])
                load.judges = {}
                for choice in (choices[1], choices[0]):
                    point_to(served, choice)
                    generation = client.reload("a")["generation"]
                    load.judges[generation] = Judge(self.work / f"{choice.name}.fbin", self.vectors())
                before = at_rest(pid)
                load.start()
                with Hostile(server.address, LOADERS, self.vectors(), 1000) as hostile:
                    turns, over = self.mix(client, load, served, choices, pid, time.monotonic() + seconds)
                load.stop()
                client.reload("a", dram_budget=MIXED_BUDGETS[-1])
            after = at_rest(pid)
            for _ in range(SETTLE_TIMES):  # the last hostile ones may not be closed yet
                if after[1] <= before[1] and after[0] <= before[0] + SERVER_BYTES:
                    break
                after = at_rest(pid)
        recalls = [judge.recall() for judge in load.judges.values()]
        self.say(
            f"{turns} reloads, {load.answered} batches, {hostile.done} hostile connections in {seconds} s: "
            f"no answer wrong, recall {min(recalls):.4f}; memory at most {over / 1e6:.1f} MB above the "
            f"budget, at rest {before[0] / 1e6:.1f} and {after[0] / 1e6:.1f} MB; descriptors {before[1]}, {after[1]}"
        )
        if over > CONNECTION_BYTES + SERVER_BYTES:
            raise Failed(f"memory was {over} bytes above the budget")
        if min(recalls) < MIXED_RECALL:
            raise Failed(f"a recall of {min(recalls):.4f}")
        if after[1] > before[1] or after[0] > before[0] + SERVER_BYTES:
            raise Failed(f"resident bytes and descriptors were {before} and are {after}")

    def mix(self, client, load, served, choices, pid, end):
        """Reloads until the end: how many, and how far memory was above the budget at most."""
        turns, over, budget = 0, 0, client.info("a")["dram_bytes"]["budget"]
        while time.monotonic() < end and not load.problems:
            turns += 1
            point_to(served, choices[turns // 2 % 2])
            reset_peak(pid)
            try:
                wanted = MIXED_BUDGETS[turns % len(MIXED_BUDGETS)]
                last, budget = budget, client.reload("a", dram_budget=wanted)["dram_budget"]
            except ResourceExhausted:
                continue
            time.sleep(MIXED_PAUSE_SECONDS)
            over = max(over, peak_bytes(pid) - max(last, budget))
        return turns, over

    # --- slow clients ---

    def slow(self, count):
        index = self.build("first", 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < count + 200:
            raise Failed(f"{count} slow clients need more descriptors than ulimit -n allows ({hard})")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 200), hard))
        alone, beside = [], []
        with self.programs.server(
            self.work, {"a": index}, workers=2, max_connections=count + 100
        ) as server:
            server.start()
            for _ in range(ROUNDS):
                alone.append(self.measure(server.address))
                with SlowClients(server.address, count) as slow:
                    beside.append(self.measure(server.address))
                    held = slow.held()
                self.say(
                    f"p99 alone {alone[-1]:.0f} us, beside {held} slow clients {beside[-1]:.0f} us"
                )
        ratio = statistics.median(beside) / statistics.median(alone)
        self.say(f"p99 of good clients beside {count} slow ones: {ratio:.2f} x")

    def measure(self, address):
        report = self.programs.json(
            "fathom-bench", "load", server=address, index="a", query=self.queries, k=K,
            rate=ROUND_QPS, seconds=ROUND_SECONDS,
        )  # fmt: skip
        (run,) = report["runs"]
        if run["errors"]:
            raise Failed(f"{run['errors']} queries of good clients failed")
        return run["latency_us"]["p99"]


class Load:
    """Queries from threads of their own until told to stop."""

    def __init__(self, address, vectors):
        self.address, self.vectors = address, vectors
        self.answered, self.seen, self.problems = 0, set(), []
        self.generations, self.judges = set(), None
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(i,)) for i in range(LOADERS)]

    def start(self):
        with Client(self.address) as client:
            self.generations.add(client.search("a", self.vectors[:1], k=K).generation)
        for thread in self.threads:
            thread.start()

    def ask(self, number):
        try:
            with Client(self.address) as client:
                while not self.ending.is_set():
                    self.ask_one(client, number)
                    number = (number + LOADERS) % (len(self.vectors) - 4)
                    self.answered += 1  # roughly: it is a figure to read
        except Exception as error:  # whatever ends a query is what this run looks for
            self.problems.append(error)

    def ask_one(self, client, number):
        """Four queries at once; with judges of each generation they are looked into."""
        vectors = self.vectors[number : number + 4]
        if self.judges is None:
            self.seen.add(client.search("a", vectors, k=K).generation)
            return
        result = client.search("a", vectors, k=K, target_recall=0.95, exact_distances=True)
        self.judges[result.generation].judge(number, result)

    def check(self):
        if self.problems:
            self.stop()

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join()
        if self.problems:
            raise Failed(f"a query failed: {self.problems[0]}")
        if not self.seen <= self.generations:
            raise Failed(f"replies of generations that were not served: {self.seen - self.generations}")


class Judge:
    """What the rows of one index say of answers. Shared by threads: it only counts, roughly."""

    def __init__(self, base, queries):
        self.rows, self.queries = np.fromfile(base, "<f4", offset=8).reshape(-1, DIM).astype("f8"), queries.astype("f8")
        squares = (self.rows**2).sum(1)
        self.truth = [set(np.argsort(squares - 2 * (self.rows @ query))[:K].tolist()) for query in self.queries]
        self.found = self.wanted = 0

    def judge(self, number, result):
        for query, ids, distances in zip(range(number, number + 4), result.ids, result.distances):
            right = ((self.rows[ids.astype("i8")] - self.queries[query]) ** 2).sum(1)
            sound = len(set(ids.tolist())) == K and (np.diff(distances) >= 0).all()
            if not sound or not np.allclose(right, distances, rtol=1e-4):
                raise Failed(f"query {query} is answered with {ids.tolist()} at {distances.tolist()}")
            self.found += len(self.truth[query] & set(ids.tolist()))
            self.wanted += K

    def recall(self):
        return self.found / max(self.wanted, 1)


class SlowClients:
    """Connections of which one half has said hello and is silent, and the other sends a byte of a
    message each second. The server ends those after its message timeout; they come back."""

    def __init__(self, address, count):
        host, port = address.rsplit(":", 1)
        self.place, self.count = (host, int(port)), count
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.sockets = {}  # and which byte is next; None: silent

    def __enter__(self):
        for number in range(self.count):
            self.connect(number % 2 == 0)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        for connection in self.sockets:
            connection.close()

    def held(self):
        return len(self.sockets)

    def connect(self, silent):
        connection = socket.create_connection(self.place)
        if silent:
            connection.sendall(HELLO)
        connection.setblocking(False)
        self.sockets[connection] = None if silent else 0

    def run(self):
        """A twentieth of them every twentieth of a second."""
        turn = 0
        while not self.ending.wait(0.05):
            slow = [(one, at) for one, at in self.sockets.items() if at is not None]
            for connection, at in slow[turn::20]:
                self.send_byte(connection, at)
            turn = (turn + 1) % 20

    def send_byte(self, connection, at):
        try:
            connection.send(HELLO[at : at + 1])
            self.sockets[connection] = at + 1  # the server's patience ends before the message
        except OSError:
            del self.sockets[connection]
            connection.close()
            self.connect(False)


def point_to(link, target):
    new = link.with_name("new")
    new.unlink(missing_ok=True)
    new.symlink_to(target.resolve())
    new.replace(link)


def at_rest(pid):
    """Resident bytes and descriptors of a process, once old generations have had time to close."""
    time.sleep(SETTLE_SECONDS)
    return resident_bytes(pid), len(os.listdir(f"/proc/{pid}/fd"))


def resident_bytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def reset_peak(pid):
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def peak_bytes(pid):
    """The most that was resident since then, at whatever moment."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024


def main():
    parser = argparse.ArgumentParser(
        prog="./dev endure", description="A server over many reloads, and beside slow clients."
    )
    parser.add_argument("--bin", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--reloads", type=int, default=1000, metavar="N", help="0: none (1000)")
    parser.add_argument("--mixed", type=int, default=120, metavar="SECONDS", help="0: none (120)")
    parser.add_argument("--slow", type=int, default=5000, metavar="N", help="0: none (5000)")
    options = parser.parse_args()
    die_on_terminate()
    options.work.mkdir(parents=True, exist_ok=True)
    endurance = Endurance(Programs(options.bin), options.work)
    try:
        if options.reloads:
            endurance.reloads(options.reloads)
        if options.mixed:
            endurance.mixed(options.mixed)
        if options.slow:
            endurance.slow(options.slow)
    except (Failed, ProgramFailed) as error:
        print(f"endure: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
