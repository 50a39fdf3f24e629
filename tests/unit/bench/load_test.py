"""fathom-bench load against a scripted server: what it counts, and that a server that pauses
cannot hide the requests that were due meanwhile (coordinated omission)."""

import json
import os
import queue
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

import msgpack

PROGRAM = os.path.join(os.environ["FATHOM_BIN"], "fathom-bench")
QUERIES, DIM, K = 4, 2, 2


class ScriptedServer:
    """Answers hello and search; `behave(number)` may wait, and returns None or an error's code. What
    comes is read at once, whatever waits: `received` are the messages that have come."""

    def __init__(self, behave):
        self.behave, self.lock, self.count = behave, threading.Lock(), 0
        self.counting, self.received = threading.Lock(), 0
        self.reloads, self.searched = [], None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        messages = queue.SimpleQueue()
        threading.Thread(target=self.reply, args=(connection, messages), daemon=True).start()
        unpacker = msgpack.Unpacker()
        while data := connection.recv(65536):
            unpacker.feed(data)
            for message in unpacker:
                with self.counting:
                    self.received += 1
                messages.put(message)
        messages.put(None)

    def reply(self, connection, messages):
        with connection:
            while message := messages.get():
                _, number, method, (params,) = message
                connection.sendall(msgpack.packb([1, number, *self.answer(method, params)]))

    def answer(self, method, params):
        if method == "hello":
            return None, {
                "server": "scripted/1",
                "protocol": 1,
                "max_message_bytes": 1 << 20,
                "methods": ["hello", "search"],
                "indexes": ["two"],
            }
        if method == "reload":
            self.reloads.append(params)
            return None, {"index": params["index"]}
        self.searched = params  # the last one
        with self.lock:  # one at a time: a pause holds up everybody
            self.count += 1
            error = self.behave(self.count)
        if error:
            return {"code": error, "message": "as the script says", "retryable": True}, None
        # The vector of query q is (q, 0); its neighbours are 10 * q and 10 * q + 1.
        query = int(struct.unpack("<2f", params["vectors"])[0])
        return None, {
            "ids": struct.pack("<2Q", 10 * query, 10 * query + 1),
            "distances": struct.pack("<2f", 0, 1),
            "shape": [1, K],
            "generation": 1,
            "complete": True,
        }


class Load(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.query, self.truth = Path(folder.name, "q.fbin"), Path(folder.name, "gt.bin")
        self.query.write_bytes(
            struct.pack("<2I", QUERIES, DIM)
            + b"".join(struct.pack("<2f", q, 0) for q in range(QUERIES))
        )
        ids = [i for q in range(QUERIES) for i in (10 * q, 10 * q + 1)]
        self.truth.write_bytes(
            struct.pack("<2I", QUERIES, K)
            + struct.pack("<8I", *ids)
            + struct.pack("<8f", *[0, 1] * QUERIES)
        )

    def load(self, address, *more, expect=0):
        done = subprocess.run(
            [
                PROGRAM,
                "load",
                "--server",
                address,
                "--index",
                "two",
                "--query",
                str(self.query),
                "--gt",
                str(self.truth),
                "--k",
                str(K),
                "--json",
                *map(str, more),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertEqual(done.returncode, expect, done.stderr)
        return json.loads(done.stdout) if done.stdout else done.stderr

    def test_every_request_is_sent_and_counted(self):
        with ScriptedServer(lambda number: None) as server:
            run = self.load(server.address, "--rate", 200, "--seconds", 1, "--connections", 4)
        self.assertEqual((run["due"], run["sent"], run["answered"]), (200, 200, 200))
        self.assertEqual((run["failed"], run["unanswered"], run["errors"]), (0, 0, {}))
        self.assertEqual((run["recall"], run["server"]), (1.0, "scripted/1"))
        self.assertEqual(server.count, 200)

    def test_a_budget_is_asked_for_first_and_planned_for_the_target(self):
        with ScriptedServer(lambda number: None) as server:
            self.load(server.address, "--rate", 50, "--seconds", 0.2)
            self.load(server.address, "--rate", 50, "--seconds", 0.2, "--dram-budget", "5%", "--target-recall", 0.5)
            self.load(server.address, "--rate", 50, "--seconds", 0.2, "--dram-budget", "64MiB")
            self.load(server.address, "--dram-budget", "5", "--target-recall", 2, expect=2)
        self.assertEqual(server.reloads, [{"index": "two", "dram_budget": "5%", "plan_recall": 0.5},
                                          {"index": "two", "dram_budget": "64MiB", "plan_recall": 0}])

    def test_searches_are_asked_for_as_the_options_say(self):
        def asked(*options):
            with ScriptedServer(lambda number: None) as server:
                run = self.load(server.address, "--rate", 50, "--seconds", 0.1, *options)
            keys = ("rerank", "exact_distances", "search_list", "target_recall")
            return {key: server.searched[key] for key in keys if key in server.searched}, run["rerank"]

        self.assertEqual(asked("--search-list", 9), ({"search_list": 9}, "auto"))
        self.assertEqual(asked("--rerank", "on"), ({"rerank": "on"}, "on"))
        self.assertEqual(asked("--rerank", "off", "--exact-distances"),
                         ({"rerank": "off", "exact_distances": True}, "off"))
        self.load("127.0.0.1:1", "--rerank", "maybe", expect=2)

    def test_a_pause_of_the_server_is_in_the_latency(self):
        def pause(number):
            # Until 120 more have come, which are 0.6 s of them: a closed loop would send 4 and wait.
            end = time.monotonic() + 60
            while number == 100 and server.received < 220 and time.monotonic() < end:
                time.sleep(0.01)
            if number == 100:
                came.append(server.received)

        came = []
        with ScriptedServer(pause) as server:
            run = self.load(server.address, "--rate", 200, "--seconds", 2, "--connections", 4)
        # Nothing is sent before it is due, so each of the 120 waited at least from its time to the
        # time of the last. That is a bound from below, on any machine.
        self.assertGreaterEqual(came[0], 220)
        self.assertEqual(run["answered"], 400)
        self.assertGreater(run["latency_us"]["max"], 500_000)
        self.assertGreater(run["latency_us"]["p95"], 300_000)

    def test_rates_are_runs_in_their_order(self):
        with ScriptedServer(lambda number: None) as server:
            document = self.load(server.address, "--rate", "50,100", "--seconds", 0.5)
        runs = document["runs"]
        self.assertEqual([(run["rate"], run["answered"]) for run in runs], [(50, 25), (100, 50)])
        self.assertNotIn("answered", document)

    def test_a_single_rate_has_its_fields_beside_the_setting(self):
        with ScriptedServer(lambda number: None) as server:
            document = self.load(server.address, "--rate", 50, "--seconds", 0.5)
        (run,) = document["runs"]
        self.assertEqual({name: document[name] for name in run}, run)

    def test_a_share_is_of_the_peak_that_is_measured_first(self):
        with ScriptedServer(lambda number: None) as server:
            document = self.load(
                server.address, "--rate", "50%,40", "--seconds", 0.5, "--connections", 2
            )
        peak, (half, fixed) = document["peak"], document["runs"]
        self.assertIsNone(peak["rate"])
        self.assertGreater(peak["answered"], 0)
        self.assertEqual(peak["answered"], peak["sent"])
        self.assertAlmostEqual(half["rate"] / peak["qps"], 0.5)
        self.assertEqual(half["sent"], int(half["rate"] * 0.5))
        self.assertEqual((fixed["rate"], fixed["sent"]), (40, 20))
        self.assertEqual(server.count, peak["sent"] + half["sent"] + fixed["sent"])

    def test_without_a_share_no_peak_is_measured(self):
        with ScriptedServer(lambda number: None) as server:
            document = self.load(server.address, "--rate", 50, "--seconds", 0.5)
        self.assertIsNone(document["peak"])
        self.assertEqual(server.count, 25)

    def test_no_peak_is_a_failed_check(self):
        with ScriptedServer(lambda number: "not_found") as server:
            document = self.load(server.address, "--rate", "50%", "--seconds", 0.2, expect=1)
        self.assertEqual((document["peak"]["answered"], document["runs"]), (0, []))

    def test_the_client_says_what_it_is_itself(self):
        with ScriptedServer(lambda number: None) as server:
            run = self.load(server.address, "--rate", 50, "--seconds", 0.5, "--watch-cpus")
        self.assertIn(run["client_urgency"], ("normal", "slice", "realtime"))
        self.assertTrue(run["stops"] is None or run["stops"]["untouched"] <= run["answered"])
        self.assertGreater(run["client_cpu_us_per_request"], 0)

    def test_refusals_are_counted_by_name(self):
        with ScriptedServer(lambda number: "resource_exhausted" if number % 2 else None) as server:
            run = self.load(server.address, "--rate", 100, "--seconds", 1, "--connections", 2)
        self.assertEqual((run["answered"], run["failed"]), (50, 50))
        self.assertEqual(run["errors"], {"resource_exhausted": 50})
        self.assertEqual(run["recall"], 1.0)

    def test_no_answer_at_all_is_a_failed_check(self):
        with ScriptedServer(lambda number: "not_found") as server:
            run = self.load(server.address, "--rate", 50, "--seconds", 0.2, expect=1)
        self.assertEqual((run["answered"], run["errors"]), (0, {"not_found": 10}))

    def test_no_server_is_an_io_error_that_names_the_address(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "127.0.0.1:%d" % taken.getsockname()[1]
        self.assertIn(address, self.load(address, expect=3))

    def test_options_that_make_no_sense_are_usage_errors(self):
        for wrong in (
            ("--rate", 0),
            ("--rate", "x"),
            ("--rate", "%"),
            ("--rate", "10,"),
            ("--connections", 0),
            ("--k", 0),
            ("--nonsense",),
            ("--search-list", 9, "--target-recall", 0.9),
            ("--rate", 0.1, "--seconds", 1),
        ):
            self.load("127.0.0.1:1", *wrong, expect=2)


if __name__ == "__main__":
    unittest.main()
