#!/usr/bin/env python3
"""io_uring and pread answer with the same bytes: raw requests to a server of each kind, raw replies
compared, with what is a time (and the engine's name) left out."""

import json
import re
import socket
import sys
import unittest

import msgpack
import numpy as np

from client_support import DIM, Server, World

#: Keys of explain's stats that may differ: times, and which engine it was.
VARYING = {"queue_us", "device_us", "compute_us", "total_us", "io_engine"}


class RawConnection:
    """Sends requests and hands out replies as the bytes that came."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(address[len("unix:") :])
        self.unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1 << 28)
        self.received = bytearray()

    def close(self):
        self.socket.close()

    def ask(self, msgid, method, params):
        self.socket.sendall(msgpack.packb([0, msgid, method, [params]]))
        start = self.unpacker.tell()
        while True:
            try:
                self.unpacker.skip()
                break
            except msgpack.OutOfData:
                more = self.socket.recv(1 << 16)
                if not more:
                    raise AssertionError(f"the server closed the connection at request {msgid}") from None
                self.received += more
                self.unpacker.feed(more)
        size = self.unpacker.tell() - start
        reply = bytes(self.received[:size])
        del self.received[:size]
        return reply


def exchange(address, requests):
    """The raw replies to requests that are sent one after the other."""
    connection = RawConnection(address)
    try:
        return [connection.ask(msgid, *request) for msgid, request in enumerate(requests)]
    finally:
        connection.close()


def search(vectors, dtype, k, **options):
    return "search", {"index": "tiny", "vectors": vectors.tobytes(), "dtype": dtype,
                      "shape": list(vectors.shape), "k": k, **options}


def without_varying(stats):
    return {key: [without_varying(one) for one in value] if key == "queries" else value
            for key, value in stats.items() if key not in VARYING}


class Engines(unittest.TestCase):
    """Under a small memory budget, so that queries really read; and without one."""

    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        floats = cls.world.queries
        scaled = np.round(floats / np.abs(floats).max() * 100)
        cls.requests = [("hello", {"protocol": 1, "client": "engines"})]
        for k, search_list in ((1, 10), (10, 40), (10, 200), (100, 100), (4096, 8192)):
            rows = 4 if k > 100 else 50
            cls.requests.append(search(floats[:rows], "f32", k, search_list=search_list))
            cls.requests.append(search(floats[:rows], "f32", k, search_list=search_list, exact_distances=True))
        cls.requests += [search(floats[i : i + 1], "f32", 10) for i in range(50)]
        cls.requests.append(search(floats[:50], "f32", 10, target_recall=0.9))
        for dtype, kind in (("f16", np.float16), ("i8", np.int8)):
            cls.requests.append(search(scaled[:50].astype(kind), dtype, 10))
        cls.requests.append(search(np.abs(scaled[:50]).astype(np.uint8), "u8", 10))
        # Errors are answers too.
        cls.requests.append(search(floats[:1, : DIM - 1], "f32", 10))
        cls.requests.append(search(np.full((1, DIM), np.nan, np.float32), "f32", 10))
        cls.explained = [cls.requests[0]] + [
            search(floats[i : i + 3], "f32", 10, explain=True) for i in range(0, 60, 3)]

    def serve(self, engine, *arguments):
        try:
            server = Server(self.world, "--io", engine, *arguments, name=engine)
        except RuntimeError as error:
            if engine == "uring" and "io_uring" in str(error):
                self.skipTest(f"io_uring cannot be used here: {error}")
            raise
        self.addCleanup(server.close)
        return server

    def compare(self, *arguments):
        uring, pread = self.serve("uring", *arguments), self.serve("pread", *arguments)
        ours, theirs = exchange(uring.unix, self.requests), exchange(pread.unix, self.requests)
        for (method, params), one, other in zip(self.requests, ours, theirs):
            shown = {key: value for key, value in params.items() if key != "vectors"}
            self.assertEqual(one, other, f"{method} {json.dumps(shown)}")
        self.assertEqual(len(set(ours[11:61])), 50)  # different questions, different answers
        for one, other in zip(exchange(uring.unix, self.explained)[1:], exchange(pread.unix, self.explained)[1:]):
            results = [msgpack.unpackb(reply)[3] for reply in (one, other)]
            engines = [result["stats"]["io_engine"] for result in results]
            self.assertEqual(engines, ["uring", "pread"])
            self.reads += results[0]["stats"]["reads"]
            for result in results:
                result["stats"] = without_varying(result["stats"])
            self.assertEqual(*results)

    def test_replies_are_bit_identical_when_everything_is_resident(self):
        self.reads = 0
        self.compare()

    def least_budget(self):
        """What the server says it needs at least."""
        with self.assertRaises(RuntimeError) as refused:
            Server(self.world, "--inflight", 2, "--dram-budget", "1KiB", name="poor").close()
        return int(re.search(r"the least is (\d+)", str(refused.exception)).group(1))

    def test_replies_are_bit_identical_when_queries_must_read(self):
        self.reads = 0
        self.compare("--inflight", 2, "--dram-budget", self.least_budget() + 4096)
        self.assertGreater(self.reads, 0, "nothing was read: the budget is too large for this test")


class Navigators(unittest.TestCase):
    """--navigator forces one; both answer, and say which it was."""

    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)

    def stats_of(self, *arguments, **options):
        with Server(self.world, *arguments, **options) as server:
            requests = [("hello", {"protocol": 1, "client": "navigators"}),
                        search(self.world.queries[:20], "f32", 10, explain=True),
                        ("info", {"index": "tiny"})]
            replies = [msgpack.unpackb(reply) for reply in exchange(server.unix, requests)]
        self.assertEqual([reply[2] for reply in replies], [None] * 3)
        stats, info = replies[1][3]["stats"], replies[2][3]
        self.assertEqual(stats["navigator"], info["navigator"])
        return stats

    def test_a_forced_navigator_answers_and_says_so(self):
        stats = {navigator: self.stats_of("--navigator", navigator, name=navigator)
                 for navigator in ("graph", "cells")}
        for navigator, one in stats.items():
            self.assertEqual(one["navigator"], navigator)
        self.assertNotEqual(*(one["code_distances"] for one in stats.values()))

    def test_a_budget_that_the_forced_navigator_does_not_fit_is_refused(self):
        least = {}
        for navigator in ("graph", "cells"):
            with self.assertRaises(RuntimeError) as refused:
                Server(self.world, "--navigator", navigator, "--dram-budget", "1KiB", name="poor").close()
            least[navigator] = int(re.search(r"the least is (\d+)", str(refused.exception)).group(1))
        self.assertLess(least["cells"], least["graph"])
        stats = self.stats_of("--navigator", "cells", "--dram-budget", least["cells"], name="least")
        self.assertEqual(stats["navigator"], "cells")


if __name__ == "__main__":
    unittest.main(argv=sys.argv)
