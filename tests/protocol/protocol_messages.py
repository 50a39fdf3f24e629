"""Every method and every key, right and wrong, against a real server over real indexes."""

import itertools
import math
import os
import struct
import threading
import unittest

import msgpack
import numpy as np

from support import DIM, ID_NONE, ROWS, Indexes, ProtocolTest, RpcError, Server, main, results, search_params


class Messages(ProtocolTest):
    @classmethod
    def setUpClass(cls):
        cls.data = Indexes.get()
        cls.data.build("l2")
        cls.data.build("cos", "cos")
        cls.data.build("ip", "ip")
        cls.socket_path = cls.data.dir / "socket"
        cls.server = Server("--listen", f"unix:{cls.socket_path}", "--workers", 2,
                            indexes={name: cls.data.dir / name for name in ("l2", "cos", "ip")})

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        assert status == 0, status

    def setUp(self):
        super().setUp()
        self.client = self.server.client()
        self.addCleanup(self.client.socket.close)

    def nearest(self, index, queries, k):
        """Exact distances, and the ids in order."""
        base = self.data.base.astype(np.float64)
        queries = np.asarray(queries, np.float64)
        if index == "l2":
            distances = ((queries[:, None, :] - base[None]) ** 2).sum(2)
        elif index == "cos":
            unit = base / np.linalg.norm(base, axis=1, keepdims=True)
            distances = 1 - queries / np.linalg.norm(queries, axis=1, keepdims=True) @ unit.T
        else:
            distances = -(queries @ base.T)
        return np.argsort(distances, axis=1)[:, :k], np.sort(distances, axis=1)[:, :k]

    # ---- methods ----

    def test_hello_tells_what_there_is(self):
        hello = self.client.call("hello", {"protocol": 1, "client": "test/1"})
        self.assertTrue(hello["server"].startswith("fathom-server/"))
        self.assertEqual(hello["protocol"], 1)
        self.assertEqual(hello["max_message_bytes"], 16 << 20)
        self.assertEqual(sorted(hello["indexes"]), ["cos", "ip", "l2"])
        for method in ("hello", "search", "info", "stats", "ping", "reload", "shutdown", "cancel"):
            self.assertIn(method, hello["methods"])

    def test_hello_refuses_another_protocol(self):
        self.expect("failed_precondition", self.client, "hello", {"protocol": 2, "client": "t"})
        self.expect("invalid_argument", self.client, "hello", {"protocol": "1", "client": "t"}, "protocol")
        self.expect("invalid_argument", self.client, "hello", {"protocol": 1, "client": ""}, "client")
        self.expect("invalid_argument", self.client, "hello", {"protocol": 1, "client": "x" * 257}, "client")
        self.expect("invalid_argument", self.client, "hello", {"protocol": 1, "client": "t", "token": 5}, "token")

    def test_ping_answers_also_without_params(self):
        self.assertEqual(self.client.call("ping"), {})
        self.client.socket.sendall(msgpack.packb([0, 70, "ping", []]))
        self.assertEqual(self.client.reply(), (70, {}))

    def test_info_describes_one_index_or_all(self):
        one = self.client.call("info", {"index": "cos"})
        self.assertEqual((one["name"], one["rows"], one["dim"], one["metric"], one["dtype"]), ("cos", ROWS, DIM, "cos", "f32"))
        ledger = one["dram_bytes"]
        self.assertEqual(ledger["total"], ledger["index"] + ledger["scratch"])
        parts = {key: value for key, value in ledger.items() if key not in ("total", "index", "scratch", "budget")}
        self.assertEqual(sum(parts.values()), ledger["index"])
        everything = self.client.call("info")
        self.assertEqual(len(everything["indexes"]), 3)
        self.assertIn(one, everything["indexes"])
        self.expect("not_found", self.client, "info", {"index": "nothing"}, text='no index "nothing"; there are: ')

    def test_stats_count_what_was_done(self):
        before = self.client.call("stats")
        self.client.call("search", search_params("ip", self.data.query[:3]))
        with self.assertRaises(RpcError):
            self.client.call("search", {})
        after = self.client.call("stats")

        def index(stats):
            return next(entry for entry in stats["indexes"] if entry["name"] == "ip")

        self.assertEqual(after["requests"]["search"] - before["requests"]["search"], 2)
        self.assertEqual(after["replies"]["invalid_argument"] - before["replies"]["invalid_argument"], 1)
        self.assertEqual(index(after)["searches"] - index(before)["searches"], 1)
        self.assertEqual(index(after)["queries"] - index(before)["queries"], 3)
        self.assertGreater(index(after)["latency_us"]["p50"], 0)
        self.assertGreater(after["bytes_in"], before["bytes_in"])

    def test_queries_unlike_the_rows_are_told_and_counted(self):
        def widened():
            return next(entry for entry in self.client.call("stats")["indexes"] if entry["name"] == "l2")["widened"]

        before = widened()
        far = search_params("l2", self.data.query[:3] * 20, target_recall=0.9, explain=True)
        self.assertEqual(self.client.call("search", far)["stats"]["widened"], 3)
        self.assertEqual(widened() - before, 3)
        self.client.call("search", {**far, "vectors": search_params("l2", self.data.query[:3])["vectors"], "k": 1})
        self.assertLess(widened() - before, 6)

    def test_unknown_methods_are_unimplemented(self):
        for method in ("nothing", "Search", "", "search\0", "x" * 1000):
            self.expect("unimplemented", self.client, method, {})

    def test_cancel_of_an_unknown_msgid_is_ignored(self):
        self.client.notify("cancel", {"msgid": 12345})
        self.client.notify("cancel", {"msgid": "x"})
        self.client.notify("no such thing", {})
        self.assertEqual(self.client.call("ping"), {})
        self.expect("invalid_argument", self.client, "cancel", {"msgid": 1})

    # ---- answers ----

    def test_answers_are_the_nearest_rows_for_each_metric(self):
        for index in ("l2", "cos", "ip"):
            reply = self.client.call("search", search_params(index, self.data.query, search_list=200, exact_distances=True))
            ids, distances = results(reply)
            exact_ids, exact_distances = self.nearest(index, self.data.query, 10)
            recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids.tolist(), exact_ids.tolist())])
            self.assertGreater(recall, 0.95, index)
            self.assertTrue(np.all(np.diff(distances, axis=1) >= 0), index)
            found = np.take_along_axis(np.sort(exact_distances, axis=1), np.zeros((50, 1), int), 1)[:, 0]
            scale = np.abs(exact_distances).max()
            self.assertLess(np.max(np.abs(distances[:, 0] - found)) / scale, 0.05, index)
            self.assertTrue(reply["complete"])
            self.assertEqual(reply["shape"], [50, 10])
            self.assertNotIn("stats", reply)

    def test_nested_arrays_answer_like_a_bin(self):
        queries = self.data.query[:4]
        one = self.client.call("search", search_params("l2", queries))
        other = self.client.call("search", {"index": "l2", "vectors": [[float(x) for x in row] for row in queries], "k": 10})
        self.assertEqual(one, other)

    def test_queries_of_each_type_find_their_row(self):
        row = np.rint(np.clip(self.data.base[17], -128, 127))
        _, exact = self.nearest("l2", [row], 1)
        for dtype in ("f32", "f16", "i8"):
            ids, distances = results(self.client.call("search", search_params("l2", [row], 1, dtype, search_list=200, exact_distances=True)))
            self.assertAlmostEqual(float(distances[0, 0]) / exact[0, 0], 1, 2, dtype)
        ids, _ = results(self.client.call("search", search_params("l2", [np.abs(row)], 5, "u8")))
        self.assertTrue(np.all(ids < ROWS))

    def test_a_batch_answers_like_its_rows(self):
        batch_ids, batch_distances = results(self.client.call("search", search_params("l2", self.data.query[:20])))
        for row in range(20):
            ids, distances = results(self.client.call("search", search_params("l2", self.data.query[row:row + 1])))
            self.assertEqual(ids[0].tolist(), batch_ids[row].tolist())
            self.assertEqual(distances[0].tolist(), batch_distances[row].tolist())

    def test_the_largest_batch_is_answered(self):
        queries = np.resize(self.data.query, (1024, DIM))
        ids, _ = results(self.client.call("search", search_params("l2", queries, 1)))
        self.assertEqual(ids.shape, (1024, 1))
        self.expect("invalid_argument", self.client, "search", search_params("l2", np.resize(queries, (1025, DIM)), 1), "shape")

    def test_explain_tells_what_was_done(self):
        one = self.client.call("search", search_params("l2", self.data.query[:1], explain=True))["stats"]
        for key in ("hops", "rounds", "reads", "list_reads", "code_reads", "reranked", "widened", "bytes", "resident_lists", "code_distances", "full_distances", "queue_us",
                    "device_us", "compute_us", "total_us"):
            self.assertIsInstance(one[key], int, key)
        self.assertGreater(one["hops"], 0)
        self.assertIn(one["navigator"], ("graph", "cells"))
        self.assertIn(one["io_engine"], ("uring", "pread"))
        self.assertTrue(one["stop_reason"])
        self.assertNotIn("queries", one)
        many = self.client.call("search", search_params("l2", self.data.query[:5], explain=True))["stats"]
        self.assertEqual(len(many["queries"]), 5)
        for key in ("hops", "reads", "code_distances", "full_distances"):
            self.assertEqual(many[key], sum(query[key] for query in many["queries"]), key)

    def test_rerank_is_done_as_told_and_reported(self):
        queries = self.data.query[:3]
        for rerank, each in (("on", 1), ("off", 0), ("auto", 0)):  # auto needs a target
            stats = self.client.call("search", search_params("l2", queries, rerank=rerank, explain=True, search_list=50))["stats"]
            self.assertEqual(stats["reranked"], 3 * each, rerank)
            self.assertEqual([query["reranked"] for query in stats["queries"]], [each] * 3)
        self.expect("invalid_argument", self.client, "search", search_params("l2", queries, rerank="On"), "rerank", "auto")

    def test_target_recall_is_taken(self):
        ids, _ = results(self.client.call("search", search_params("l2", self.data.query[:5], target_recall=0.9)))
        self.assertTrue(np.all(ids < ROWS))

    # ---- k ----

    def test_k_from_one_to_beyond_the_rows(self):
        query = self.data.query[:1]
        for k in (1, 10, ROWS - 1, ROWS, ROWS + 1, 4096):
            reply = self.client.call("search", search_params("l2", query, k))
            ids, distances = results(reply)
            self.assertEqual(reply["shape"], [1, k])
            found = int(np.sum(ids != ID_NONE))
            self.assertLessEqual(found, min(k, ROWS))
            self.assertEqual(reply["complete"], found == min(k, ROWS))
            self.assertEqual(len(set(ids[0, :found].tolist())), found)
            self.assertTrue(np.all(ids[0, :found] < ROWS))
            self.assertTrue(np.all(np.isfinite(distances[0, :found])))
            self.assertTrue(np.all(ids[0, found:] == ID_NONE))
            self.assertTrue(np.all(np.isposinf(distances[0, found:])))

    def test_k_that_makes_no_sense_is_refused(self):
        for k in (0, 4097, 2**32 - 1, 2**32, 2**64 - 1, -1, -2**63, "x", "10", 10.0, None, True, [10], {}, b"\x0a", math.nan):
            self.expect("invalid_argument", self.client, "search", search_params("l2", self.data.query[:1], k), "k")

    def test_a_search_list_below_k_counts_as_k(self):
        ids, _ = results(self.client.call("search", search_params("l2", self.data.query[:1], 50, search_list=1)))
        self.assertEqual(int(np.sum(ids != ID_NONE)), 50)

    # ---- each wrong value of each key ----

    VALUES = [None, True, 0, 1, -1, 2**32 - 1, 2**64 - 1, -2**63, 0.5, math.nan, math.inf, "", "word", "x" * 5000, b"", b"12345678",
              [], [1], [[1.0]], {}, {"a": 1}, msgpack.ExtType(5, b"abcd"), msgpack.Timestamp(1)]
    FINE = {
        "index": [], "vectors": [], "dtype": [], "shape": [], "k": [1], "search_list": [1], "target_recall": [0.5],
        "deadline_ms": [1, 2**32 - 1, 2**64 - 1], "explain": [True], "exact_distances": [True],
        "rerank": [],
    }

    def test_every_type_in_every_key_is_refused_by_name(self):
        for key, value in itertools.product(self.FINE, self.VALUES):
            if any(value is fine or (type(value) is type(fine) and value == fine) for fine in self.FINE[key]):
                continue
            params = search_params("l2", self.data.query[:1])
            params[key] = value
            with self.subTest(key=key, value=repr(value)[:40]):
                with self.assertRaises(RpcError) as caught:
                    self.client.call("search", params)
                error = caught.exception
                if key == "index" and value == "word":
                    self.assertEqual(error.code, "not_found")
                elif key == "deadline_ms" and value == 0 and value is not False:
                    self.assertEqual(error.code, "deadline_exceeded")
                else:
                    self.assertEqual(error.code, "invalid_argument")
                    # Nested arrays carry a shape of their own, which then disagrees with the one given.
                    self.assertEqual(error.details["field"], "shape" if value == [[1.0]] and key == "vectors" else key)
                    self.assertFalse(error.retryable)
        self.assertEqual(self.client.call("ping"), {})

    def test_missing_unknown_and_repeated_keys_are_named(self):
        for key in ("index", "vectors", "dtype", "shape", "k"):
            params = search_params("l2", self.data.query[:1])
            del params[key]
            self.expect("invalid_argument", self.client, "search", params, key, "missing")
        params = search_params("l2", self.data.query[:1])
        self.expect("invalid_argument", self.client, "search", {**params, "ef": 10}, "ef")
        for method in ("ping", "stats", "info", "hello", "reload", "shutdown"):
            self.expect("invalid_argument", self.client, method, {"colour": 1}, "colour")
        pairs = b"".join(msgpack.packb(key) + msgpack.packb(value) for key, value in params.items())
        twice = msgpack.packb("k") + msgpack.packb(3)
        body = bytes([0x80 | len(params) + 1]) + pairs + twice
        self.client.socket.sendall(b"\x94\x00\x05\xa6search\x91" + body)
        with self.assertRaises(RpcError) as caught:
            self.client.reply()
        self.assertEqual(caught.exception.details["field"], "k")
        self.assertIn("twice", caught.exception.message)

    def test_wrong_dimensions_and_sizes_are_refused(self):
        wide = np.zeros((1, DIM + 1))
        self.expect("invalid_argument", self.client, "search", search_params("l2", wide), "shape", str(DIM))
        self.expect("invalid_argument", self.client, "search", {"index": "l2", "k": 1, "vectors": [[1.0] * (DIM - 1)]}, "vectors")
        good = search_params("l2", self.data.query[:2])
        for size in (0, 1, DIM * 8 - 1, DIM * 8 + 1, DIM * 4):
            self.expect("invalid_argument", self.client, "search", {**good, "vectors": bytes(size)}, "vectors")
        for shape in ([0, DIM], [2, 0], [2], [2, DIM, 1], [2.0, DIM], [-2, DIM], [2**32 + 2, DIM], [1025, DIM], ["2", DIM], [2, 4097]):
            self.expect("invalid_argument", self.client, "search", {**good, "shape": shape}, "shape")
        self.expect("invalid_argument", self.client, "search", {**good, "vectors": [[1.0] * DIM, [1.0]]}, "vectors")
        self.expect("invalid_argument", self.client, "search", {**good, "vectors": [[1.0] * DIM] * 3}, "shape")
        self.expect("invalid_argument", self.client, "search", {**good, "vectors": [["1"] * DIM] * 2}, "vectors")

    def test_values_that_are_not_finite_are_refused_by_row(self):
        for bad in (math.nan, math.inf, -math.inf):
            for dtype in ("f32", "f16"):
                queries = np.array(self.data.query[:3])
                queries[2, 5] = bad
                error = self.expect("invalid_argument", self.client, "search", search_params("l2", queries, 1, dtype), "vectors")
                self.assertEqual(error.details["row"], 2)
                self.assertIn("column 5", error.message)
        nested = [[0.0] * DIM]
        nested[0][3] = 1e300  # infinite as f32
        self.expect("invalid_argument", self.client, "search", {"index": "l2", "vectors": nested, "k": 1}, "vectors")

    def test_a_zero_vector_is_refused_under_cosine_only(self):
        zero = np.zeros((1, DIM))
        self.expect("invalid_argument", self.client, "search", search_params("cos", zero))
        error = self.expect("invalid_argument", self.client, "search", search_params("cos", np.vstack([self.data.query[:2], zero])))
        self.assertEqual(error.details["row"], 2)
        for index in ("l2", "ip"):
            self.assertTrue(self.client.call("search", search_params(index, zero))["complete"])

    def test_search_list_and_target_recall_exclude_each_other(self):
        params = search_params("l2", self.data.query[:1], search_list=10, target_recall=0.5)
        self.expect("invalid_argument", self.client, "search", params, "target_recall")
        for recall in (0.0, 1.0, -0.1, 1.1, 1e-300, 1 - 1e-17):
            params = search_params("l2", self.data.query[:1], target_recall=recall)
            self.expect("invalid_argument", self.client, "search", params, "target_recall")

    def test_a_reply_above_the_limit_is_refused_before_it_is_made(self):
        queries = np.resize(self.data.query, (400, DIM))  # 400 * 4096 * 12 bytes are above 16 MiB
        self.expect("invalid_argument", self.client, "search", search_params("l2", queries, 4096), "shape", "max_message_bytes")

    def test_deadlines(self):
        params = search_params("l2", self.data.query[:1])
        error = self.expect("deadline_exceeded", self.client, "search", {**params, "deadline_ms": 0})
        self.assertTrue(error.retryable)
        for deadline in (5000, 2**32, 2**64 - 1):
            self.assertTrue(self.client.call("search", {**params, "deadline_ms": deadline})["complete"])

    # ---- framing ----

    def test_a_request_split_at_every_byte_is_answered(self):
        request = msgpack.packb([0, 9, "search", [search_params("l2", self.data.query[:1], 3)]])
        expected = self.client.call("search", search_params("l2", self.data.query[:1], 3))
        for at in range(1, len(request)):
            self.client.socket.sendall(request[:at])
            self.client.socket.sendall(request[at:])
            self.assertEqual(self.client.reply(), (9, expected))

    def test_a_request_sent_byte_by_byte_is_answered(self):
        for byte in msgpack.packb([0, 9, "search", [search_params("l2", self.data.query[:1], 3)]]):
            self.client.socket.sendall(bytes([byte]))
        self.assertEqual(self.client.reply()[0], 9)

    def pipeline(self, count, make):
        """Sends count requests at once and collects all replies by msgid."""
        requests = b"".join(msgpack.packb([0, i, *make(i)]) for i in range(count))
        sender = threading.Thread(target=self.client.socket.sendall, args=(requests,))
        sender.start()
        replies = {}
        while len(replies) < count:
            message = self.client.receive()
            self.assertIsNotNone(message, self.client.closing)
            self.assertNotIn(message[1], replies)
            replies[message[1]] = message
        sender.join()
        return replies

    def test_a_thousand_pipelined_searches_are_each_answered_right(self):
        singles = [self.client.call("search", search_params("l2", self.data.query[i:i + 1], 5)) for i in range(50)]
        replies = self.pipeline(1000, lambda i: ("search", [search_params("l2", self.data.query[i % 50:i % 50 + 1], 5)]))
        for i in range(1000):
            self.assertIsNone(replies[i][2])
            self.assertEqual(replies[i][3], singles[i % 50])

    def test_ten_thousand_pipelined_requests_of_all_kinds_are_each_answered(self):
        def make(i):
            kind = i % 5
            if kind == 0:
                return "ping", [{}]
            if kind == 1:
                return "search", [search_params("l2", self.data.query[:1], 1)]
            if kind == 2:
                return "search", [{"index": "nothing"}]
            if kind == 3:
                return "info", [{"index": "l2"}]
            return "nonsense", []

        replies = self.pipeline(10000, make)
        for i in range(10000):
            code = replies[i][2] and replies[i][2]["code"]
            self.assertEqual(code, (None, None, "invalid_argument", None, "unimplemented")[i % 5])

    def test_long_encodings_of_everything_are_taken(self):
        vector = self.data.query[:1].astype("<f4").tobytes()

        def long_text(text):
            return b"\xdb" + struct.pack(">I", len(text)) + text.encode()

        def long_uint(number):
            return b"\xcf" + struct.pack(">Q", number)

        body = (b"\xdd\0\0\0\4" + long_uint(0) + b"\xd3" + struct.pack(">q", 77) + long_text("search") + b"\xdc\0\1"
                + b"\xdf\0\0\0\5" + long_text("k") + b"\xd0\5" + long_text("index") + long_text("l2")
                + long_text("dtype") + b"\xda\0\3f32" + long_text("shape") + b"\xdc\0\2" + long_uint(1) + b"\xd2"
                + struct.pack(">i", DIM) + long_text("vectors") + b"\xc6" + struct.pack(">I", len(vector)) + vector)
        self.client.socket.sendall(body)
        msgid, result = self.client.reply()
        self.assertEqual(msgid, 77)
        self.assertEqual(result["shape"], [1, 5])

    def test_unix_sockets_answer_like_tcp(self):
        expected = self.client.call("search", search_params("l2", self.data.query[:3]))
        with type(self.client)(str(self.socket_path)) as client:
            self.assertEqual(client.call("search", search_params("l2", self.data.query[:3])), expected)

    def test_requests_before_a_half_close_are_answered(self):
        for i in range(100):
            self.client.send("search", search_params("l2", self.data.query[:1], 1), msgid=i)
        self.client.socket.shutdown(1)
        self.assertEqual(sorted(self.client.reply()[0] for _ in range(100)), list(range(100)))
        self.assertIsNone(self.client.receive())


@unittest.skipUnless(os.path.exists("/proc/net/if_inet6"), "no IPv6 here")
class Ipv6(ProtocolTest):
    def test_ipv6_addresses_are_listened_on(self):
        data = Indexes.get()
        server = self.serve(indexes={"l2": data.build("l2")}, listen="[::1]:0")
        import socket
        with socket.create_connection(("::1", server.port)) as raw:
            raw.sendall(msgpack.packb([0, 1, "ping", []]))
            self.assertEqual(msgpack.unpackb(raw.recv(100)), [1, 1, None, {}])


class BothEngines(ProtocolTest):
    def test_replies_are_the_same_bytes_with_either_way_of_reading(self):
        data = Indexes.get()
        replies = []
        for io in ("auto", "pread"):
            server = self.serve("--io", io, "--dram-budget", "8MiB", "--workers", 1, "--inflight", 4, indexes={"l2": data.build("l2")})
            with server.client() as client:
                replies.append([client.call("search", search_params("l2", data.query, k, exact_distances=exact))
                                for k in (1, 10, 100) for exact in (False, True)])
            self.stop(server)
        self.assertEqual(*replies)


if __name__ == "__main__":
    main()
