"""The blocking client against a server that behaves, stalls, closes or lies."""

import os
import socket
import tempfile
import threading
import time
import unittest

import msgpack
import numpy as np

import fathom_client
from fathom_client import Client
from tests.fake_server import GENERATION, FakeServer

BASE = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)


class Calls(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer(BASE)
        self.addCleanup(self.server.__exit__)
        self.client = Client(self.server.address, timeout=5)
        self.addCleanup(self.client.close)

    def test_hello_says_who_and_learns_what_there_is(self):
        hello = self.client.hello()
        self.assertEqual((hello.server, hello.protocol, hello.indexes), ("fake/1", 1, ("tiny",)))
        params = self.server.wait_for("hello")[0]
        self.assertEqual(params["protocol"], 1)
        self.assertIn(fathom_client.__version__, params["client"])
        self.assertNotIn("token", params)

    def test_a_batch_gives_rows_of_results(self):
        result = self.client.search("tiny", BASE[:5], k=3)
        self.assertEqual(result.ids.shape, (5, 3))
        self.assertEqual((result.ids.dtype, result.distances.dtype), (np.uint64, np.float32))
        np.testing.assert_array_equal(result.ids[:, 0], np.arange(5))
        self.assertTrue(np.all(np.diff(result.distances, axis=1) >= 0))
        self.assertEqual((result.generation, result.complete, result.stats), (GENERATION, True, None))
        result.ids[0, 0] = 7  # the arrays are the caller's

    def test_one_vector_gives_one_row(self):
        result = self.client.search("tiny", BASE[7], k=2)
        self.assertEqual(result.ids.shape, (2,))
        self.assertEqual(result.ids[0], 7)

    def test_every_dtype_finds_the_same(self):
        whole = np.round(BASE * 20).astype(np.int8)
        expected = self.client.search("tiny", whole.astype(np.float32), k=4).ids
        for vectors in (whole, whole.astype(np.float16), whole.astype(np.int64), whole.tolist()):
            np.testing.assert_array_equal(self.client.search("tiny", vectors, k=4).ids, expected)
        self.client.search("tiny", whole, dtype="f16")
        dtypes = [params["dtype"] for params in self.server.wait_for("search", 6)]
        self.assertEqual(dtypes, ["f32", "i8", "f16", "f32", "f32", "f16"])

    def test_rows_with_fewer_results_are_masked(self):
        result = self.client.search("tiny", BASE[:2], k=60)
        np.testing.assert_array_equal(result.valid.sum(axis=1), [50, 50])
        hits = result.to_list()
        self.assertEqual([len(row) for row in hits], [50, 50])
        self.assertEqual(hits[1][3], (int(result.ids[1, 3]), float(result.distances[1, 3])))
        self.assertEqual(self.client.search("tiny", BASE[1], k=60).to_list(), hits[1])
        self.assertEqual(int(result.ids[0, 59]), fathom_client.ID_NONE)
        self.assertEqual(result.distances[0, 59], np.inf)

    def test_options_are_sent_and_left_out_when_not_given(self):
        self.client.search("tiny", BASE[0])
        self.client.search("tiny", BASE[0], k=7, search_list=90, target_recall=0.9, exact_distances=True,
                           rerank="on", deadline=1.5, explain=True)
        plain, full = self.server.wait_for("search", 2)
        self.assertEqual(set(plain), {"index", "vectors", "dtype", "shape", "k"})
        del full["vectors"]
        self.assertEqual(full, {"index": "tiny", "dtype": "f32", "shape": [1, 4], "k": 7, "search_list": 90,
                                "target_recall": 0.9, "exact_distances": True, "rerank": "on", "deadline_ms": 1500,
                                "explain": True})

    def test_explain_fills_stats_for_one_and_for_each_of_a_batch(self):
        stats = self.client.search("tiny", BASE[0], explain=True).stats
        self.assertEqual((stats.hops, stats.bytes, stats.device_us, stats.io_engine), (3, 8192, 1.5, "pread"))
        self.assertEqual((stats.queries, stats.extra), ((), {"of_later": 1}))
        self.assertEqual(len(self.client.search("tiny", BASE[:3], explain=True).stats.queries), 3)

    def test_ping_info_stats_reload_and_shutdown(self):
        self.assertGreater(self.client.ping(), 0)
        self.assertEqual(self.client.info()["index"], None)
        self.assertEqual(self.client.info("tiny")["index"], "tiny")
        self.assertEqual(self.client.stats()["method"], "stats")
        self.assertEqual(self.client.reload("tiny")["generation"], GENERATION)
        self.assertEqual(self.client.reload("tiny", dram_budget=0)["dram_budget"], 0)
        self.client.reload("tiny", dram_budget="5%", plan_recall=0.9)
        self.client.reload("tiny", plan_recall=0)
        sent = self.server.wait_for("reload", 4)
        self.assertEqual(sent[0], {"index": "tiny"})
        self.assertEqual(sent[2], {"index": "tiny", "dram_budget": "5%", "plan_recall": 0.9})
        self.assertEqual(sent[3], {"index": "tiny", "plan_recall": 0})
        self.assertIsNone(self.client.shutdown())

    def test_a_request_larger_than_the_server_takes_is_not_sent(self):
        with self.assertRaisesRegex(fathom_client.InvalidArgument, "1048576"):
            self.client.search("tiny", np.zeros((1024, 4096), np.float32))
        self.assertGreater(self.client.ping(), 0)

    def test_threads_may_share_a_client(self):
        failures = []

        def work(row):
            for _ in range(20):
                if self.client.search("tiny", BASE[row], k=1).ids[0] != row:
                    failures.append(row)

        threads = [threading.Thread(target=work, args=(row,)) for row in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_a_unix_socket_works_like_tcp(self):
        with tempfile.TemporaryDirectory() as folder:
            path = "unix:" + os.path.join(folder, "s")
            with FakeServer(BASE, path), Client(path) as client:
                self.assertEqual(client.search("tiny", BASE[3]).ids[0], 3)

    def test_a_token_is_sent(self):
        Client(self.server.address, token="secret").close()
        self.assertEqual(self.server.wait_for("hello", 2)[1]["token"], "secret")


class Faults(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer(BASE)
        self.addCleanup(self.server.__exit__)
        self.client = Client(self.server.address, timeout=5)
        self.addCleanup(self.client.close)

    def test_errors_have_a_class_by_their_code(self):
        for code, cls in (("not_found", fathom_client.NotFound), ("data_loss", fathom_client.DataLoss),
                          ("unavailable", fathom_client.Unavailable), ("cancelled", fathom_client.Cancelled),
                          ("deadline_exceeded", fathom_client.DeadlineExceeded),
                          ("unauthenticated", fathom_client.Unauthenticated),
                          ("of_a_later_version", fathom_client.FathomError)):
            self.server.hooks["ping"] = lambda c, i, p: c.fail(i, code, "no")
            with self.subTest(code), self.assertRaises(cls) as raised:
                self.client.ping()
            self.assertEqual((raised.exception.code, raised.exception.message), (code, "no"))
        del self.server.hooks["ping"]
        self.assertGreater(self.client.ping(), 0)  # the connection is whole

    def test_resource_exhausted_says_of_what_and_when_to_come_back(self):
        self.server.hooks["ping"] = lambda c, i, p: c.fail(
            i, "resource_exhausted", "full", retryable=True, retry_after_ms=40, details={"reason": "queue"})
        with self.assertRaises(fathom_client.ResourceExhausted) as raised:
            self.client.ping()
        self.assertEqual((raised.exception.reason, raised.exception.retry_after), ("queue", 0.04))
        self.assertTrue(raised.exception.retryable)

    def test_an_unknown_index_is_not_found(self):
        with self.assertRaisesRegex(LookupError, "nowhere"):
            self.client.search("nowhere", BASE[0])

    def test_a_late_answer_is_dropped_and_its_request_cancelled(self):
        held = []
        self.server.hooks["ping"] = lambda c, i, p: held.append((c, i))
        with self.assertRaises(fathom_client.DeadlineExceeded) as raised:
            self.client.ping(timeout=0.05)
        self.assertIsInstance(raised.exception, TimeoutError)
        self.assertEqual(self.server.wait_for("cancel"), [{"msgid": held[0][1]}])
        held[0][0].reply(held[0][1], "late")
        self.assertEqual(self.client.search("tiny", BASE[2]).ids[0], 2)

    def test_a_trickle_cannot_stretch_a_call(self):
        def trickle(connection, msgid, params):
            for byte in b"\x94\x01\xce" + b"\0" * 100:
                try:
                    connection.send(bytes([byte]))
                except OSError:
                    return
                time.sleep(0.02)

        self.server.hooks["ping"] = trickle
        start = time.monotonic()
        with self.assertRaises(fathom_client.FathomError):
            self.client.ping(timeout=0.06)
        self.assertLess(time.monotonic() - start, 1)

    def test_a_deadline_bounds_the_wait_too(self):
        self.server.hooks["search"] = lambda c, i, p: None
        start = time.monotonic()
        with self.assertRaises(fathom_client.DeadlineExceeded):
            self.client.search("tiny", BASE[0], deadline=0.01)
        self.assertLess(time.monotonic() - start, 3)

    def test_a_lost_connection_is_told_and_not_mended_by_itself(self):
        self.server.hooks["ping"] = lambda c, i, p: c.close()
        with self.assertRaisesRegex(fathom_client.ConnectionLost, "closed the connection"):
            self.client.ping()
        self.assertTrue(self.client.closed)
        del self.server.hooks["ping"]
        with self.assertRaises(ConnectionError):
            self.client.ping()
        self.client.reconnect()
        self.assertGreater(self.client.ping(), 0)

    def test_the_reason_for_closing_is_passed_on(self):
        def say_why(connection, msgid, params):
            connection.send(msgpack.packb([2, "closing", [{"code": "unavailable", "message": "draining"}]]))
            connection.close()

        self.server.hooks["ping"] = say_why
        with self.assertRaisesRegex(fathom_client.ConnectionLost, "draining"):
            self.client.ping()

    def test_the_reason_for_closing_an_idle_connection_is_passed_on(self):
        with tempfile.TemporaryDirectory() as folder:
            path = "unix:" + os.path.join(folder, "s")
            with FakeServer(BASE, path) as server, Client(path) as client:
                server.connections[0].send(msgpack.packb([2, "closing", [{"code": "unavailable", "message": "idle"}]]))
                server.connections[0].close()
                with self.assertRaisesRegex(fathom_client.ConnectionLost, "idle"):
                    client.search("tiny", BASE)

    def test_lies_close_the_connection(self):
        for lie in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xc1", b"\x94\x01\x63\xc0\xc0", b"\xdd\xff\xff\xff\xff",
                    b"\x94\x01\xc0\xc0\xc6\xff\xff\xff\xff", b"\x91" * 30):
            with self.subTest(lie[:8]):
                self.server.hooks["ping"] = lambda c, i, p: c.send(lie)
                with self.assertRaises(fathom_client.ProtocolError):
                    self.client.ping()
                self.assertTrue(self.client.closed)
                self.client.reconnect()

    def test_a_result_of_another_shape_is_refused(self):
        self.server.hooks["search"] = lambda c, i, p: c.reply(i, {"shape": [1, 9]})
        with self.assertRaises(fathom_client.ProtocolError):
            self.client.search("tiny", BASE[0])
        self.assertTrue(self.client.closed)

    def test_no_server_is_named_with_what_to_do(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = "127.0.0.1:%d" % free.getsockname()[1]
        with self.assertRaisesRegex(fathom_client.Unavailable, f"{address}.*fathom-server"):
            Client(address)
        with self.assertRaisesRegex(ConnectionError, "unix:/nonexistent/s"):
            Client("unix:/nonexistent/s")

    def test_a_server_that_never_says_hello_is_given_up(self):
        self.server.hooks["hello"] = lambda c, i, p: None
        with self.assertRaisesRegex(fathom_client.DeadlineExceeded, "no hello"):
            Client(self.server.address, connect_timeout=0.05)

    def test_another_protocol_is_refused_with_both_versions(self):
        self.server.protocol = 2
        with self.assertRaisesRegex(fathom_client.ProtocolError, "protocol 2, this client 1"):
            Client(self.server.address)

    def test_a_closed_client_says_so(self):
        self.client.close()
        self.client.close()
        with self.assertRaisesRegex(fathom_client.ConnectionLost, "closed"):
            self.client.ping()


if __name__ == "__main__":
    unittest.main()
