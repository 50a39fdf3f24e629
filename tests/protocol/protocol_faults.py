"""Clients that mean harm or know no better, devices that are stuck, and too much of everything."""

import contextlib
import os
import random
import shutil
import socket
import struct
import threading
import time
import urllib.request

import msgpack
import numpy as np

from support import (
    PATIENCE, Indexes, ProtocolTest, RpcError, Server, let_go, main, make_fake, make_stuck, results, search_params, until)


def point(value, n=1):
    """Queries on the fake index's diagonal."""
    return np.full((n, 4), value, "<f4")


class Bytes(ProtocolTest):
    """What arrives is not the protocol."""

    def setUp(self):
        super().setUp()
        self.server = self.serve(indexes={"a": make_fake(self.scratch / "a")}, fake=True)

    def exchange(self, data):
        """Sends bytes on a fresh connection and reads to its end."""
        with socket.create_connection(("127.0.0.1", self.server.port), 10) as raw:
            raw.sendall(data)
            answer = b""
            while chunk := raw.recv(65536):
                answer += chunk
            return answer

    def expect_closing(self, data, code="invalid_argument"):
        answer = msgpack.unpackb(self.exchange(data))
        self.assertEqual(answer[:2], [2, "closing"])
        self.assertEqual(answer[2][0]["code"], code)
        return answer[2][0]["message"]

    def tearDown(self):
        with self.server.client() as client:  # whatever was sent, the server is well
            ids, _ = results(client.call("search", search_params("a", point(500), 3)))
            self.assertEqual(sorted(ids[0].tolist()), [499, 500, 501])
        super().tearDown()

    def test_http_is_told_where_to_go(self):
        for request in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /v1/indexes/a/search HTTP/1.1\r\n\r\n{}", b"HEAD / HTTP/1.0\r\n\r\n"):
            answer = self.exchange(request)
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
            head, body = answer.split(b"\r\n\r\n", 1)
            self.assertIn(f"Content-Length: {len(body)}".encode(), head)
        self.server.wait_for("it speaks HTTP")

    def test_tls_and_ssh_are_closed_with_a_line_in_the_log(self):
        hello = bytes.fromhex("160301020001000 1fc0303".replace(" ", "")) + os.urandom(500)
        self.assertEqual(self.exchange(hello), b"")
        self.server.wait_for("it speaks TLS")
        self.assertEqual(self.exchange(b"SSH-2.0-OpenSSH_9.2\r\n"), b"")
        self.server.wait_for("it speaks SSH")

    def test_noise_is_refused(self):
        noise = random.Random(1)
        for _ in range(300):
            data = noise.randbytes(noise.randint(1, 2000))
            with socket.create_connection(("127.0.0.1", self.server.port), 10) as raw:
                raw.sendall(data)
                raw.shutdown(socket.SHUT_WR)
                try:
                    while raw.recv(65536):
                        pass
                except ConnectionResetError:
                    pass

    def test_mutated_requests_are_answered_or_refused(self):
        noise = random.Random(2)
        request = msgpack.packb([0, 1, "search", [search_params("a", point(3), 2)]])
        for _ in range(2000):
            data = bytearray(request)
            for _ in range(noise.randint(1, 3)):
                data[noise.randrange(len(data))] = noise.randrange(256)
            with socket.create_connection(("127.0.0.1", self.server.port), 10) as raw:
                raw.sendall(data)
                raw.shutdown(socket.SHUT_WR)
                unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
                try:
                    while chunk := raw.recv(65536):
                        unpacker.feed(chunk)
                except ConnectionResetError:
                    pass
                for message in unpacker:
                    self.assertIn(message[0], (1, 2))

    def test_declared_lengths_of_four_gigabytes_are_refused_at_once(self):
        before = self.server.resident_bytes()
        for bomb in (b"\xdd\xff\xff\xff\xff", b"\x94\x00\x01\xa4ping\x91\xdf\xff\xff\xff\xff", b"\x94\x00\x01\xdb\xff\xff\xff\xff",
                     b"\x94\x00\x01\xa6search\x91\x81\xa7vectors\xc6\xff\xff\xff\xff", b"\x94\x00\x01\xa4ping\xdd\x7f\xff\xff\xff"):
            self.expect_closing(bomb)
        self.assertLess(self.server.resident_bytes() - before, 16 << 20)

    def test_depth_bombs_are_refused(self):
        self.assertIn("nested", self.expect_closing(b"\x91" * 100000))
        self.assertIn("nested", self.expect_closing(b"\x94\x00\x01\xa4ping\x91" + b"\x81\xa1a" * 10))

    def test_many_small_arrays_are_refused(self):
        inner = b"\xdd\x00\x0f\xff\xff" + b"\xc0" * (2**20 - 1)
        self.assertIn("values", self.expect_closing(b"\x94\x00\x01\xa4ping\x96" + inner * 5))

    def test_a_message_above_the_limit_is_refused_when_it_says_so(self):
        self.expect_closing(b"\x94\x00\x01\xa6search\x91\x81\xa7vectors\xc6" + struct.pack(">I", 17 << 20))

    def test_what_is_not_a_request_ends_the_connection(self):
        for message in ([], [0], [1, 1, None, {}], [3, 1, "ping", [{}]], [0, -1, "ping", [{}]], [0, 2**32, "ping", [{}]],
                        [0, "1", "ping", [{}]], [0, 1, "ping"], [0, 1, "ping", [{}], 5], [2, "cancel"], ["0", 1, "ping", [{}]]):
            self.expect_closing(msgpack.packb(message))
        for value in ({}, 5, "ping", None, 1.5, b"ping"):
            self.expect_closing(msgpack.packb(value))

    def test_requests_before_the_bad_bytes_are_answered(self):
        answer = self.exchange(msgpack.packb([0, 1, "ping", [{}]]) + b"\xc1")
        unpacker = msgpack.Unpacker(raw=False)
        unpacker.feed(answer)
        self.assertEqual(next(unpacker), [1, 1, None, {}])
        self.assertEqual(next(unpacker)[1], "closing")


class Slow(ProtocolTest):
    """Clients that take their time. One limit is lowered at a time: a client of the test itself may be slow for the
    others, on a machine that is busy."""

    def lowered(self, limit, directory=None):
        limits = {"--first-byte-timeout": "3600s", "--message-timeout": "3600s", "--idle-timeout": "3600s", **limit}
        return self.serve(*(part for pair in limits.items() for part in pair), "--workers", 1,
                          indexes={"a": directory or make_fake(self.scratch / "a")}, fake=True)

    def test_silence_is_ended(self):
        server = self.lowered({"--first-byte-timeout": "300ms"})
        begun = time.monotonic()
        with server.client() as client:
            closing = client.end()
        self.assertGreater(time.monotonic() - begun, 0.25)
        self.assertEqual(closing["code"], "deadline_exceeded")
        self.assertIn("nothing was sent", closing["message"])

    def test_bytes_that_drip_do_not_push_the_deadline_back(self):
        server = self.lowered({"--message-timeout": "600ms"})
        with server.client() as client, self.assertRaises((BrokenPipeError, ConnectionResetError)):
            client.socket.sendall(b"\x94\x00\x01\xa6search\x91\x81\xa7vectors\xc6\x00\x10\x00\x00")
            while True:  # a message without an end
                client.socket.sendall(b"x")
                time.sleep(0.02)

    def test_idleness_is_ended_but_not_waiting(self):
        directory = make_stuck(self.scratch / "a")
        server = self.lowered({"--idle-timeout": "500ms"}, directory)
        with server.client() as client:
            client.send("search", search_params("a", point(1)))
            time.sleep(1)  # at least so long in flight, and asking for nothing
            let_go(directory)
            client.reply()
            closing = client.end()
            self.assertIn("no request", closing["message"])

    def test_a_client_that_never_reads_is_closed_and_memory_comes_back(self):
        server = self.lowered({"--message-timeout": "600ms"})
        before = server.resident_bytes()
        with server.client() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            request = msgpack.packb([0, 1, "search", [search_params("a", point(1, 500), 1000)]])
            with self.assertRaises((BrokenPipeError, ConnectionResetError)):
                while True:
                    client.socket.sendall(request)
                    time.sleep(0.02)
        server.wait_for("does not read its replies")
        with server.client() as client:
            self.assertEqual(client.call("ping"), {})
        self.assertLess(server.resident_bytes() - before, 100 << 20)

    def test_short_requests_for_long_replies_are_held_against_the_client(self):
        """They come in a few reads, and ask for more than all connections together may have."""
        directory = make_fake(self.scratch / "a")
        server = self.serve("--workers", 1, "--max-message-bytes", "1MiB", "--connection-memory", "32MiB",
                            indexes={f"i{number}": directory for number in range(60)}, fake=True)
        with server.client() as client, server.client() as other:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.socket.sendall(b"".join(msgpack.packb([0, i, "info", [{}]]) for i in range(20000)))
            server.wait_for("does not read its replies")
            self.assertEqual(other.call("ping"), {})
        self.assertNotIn("--connection-memory is used up", server.log())

    def test_a_client_that_is_kept_waiting_is_not_late_with_its_message(self):
        """It sends more than is read as long as the device is stuck, and that ends in the middle of a message. The rest
        waits in the socket: nothing depends on how soon this process goes on."""
        directory = make_stuck(self.scratch / "a")
        server = self.lowered({"--message-timeout": "1s"}, directory)
        count = 1000
        requests = b"".join(msgpack.packb([0, i, "search", [search_params("a", point(i % 900), 1)]]) for i in range(count))
        with server.client() as client, server.client() as observer:
            client.socket.sendall(requests)
            until(lambda: observer.call("stats")["waiting"] > 480, "half of the queue is this client's")
            time.sleep(2)
            let_go(directory)
            for _ in range(count):
                client.reply()

    def test_silent_clients_by_the_hundred_do_not_disturb(self):
        server = self.lowered({"--first-byte-timeout": "4s"})
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(500)]
        with server.client() as client:
            for _ in range(50):
                client.call("search", search_params("a", point(5)))
            until(lambda: client.call("stats")["connections"] == 1, "the silent ones are gone")
        for one in silent:
            one.close()


class Crowds(ProtocolTest):
    def test_a_long_message_is_taken_however_many_workers_share_the_memory(self):
        server = self.serve("--workers", 16, "--connection-memory", "128MiB",
                            indexes={"a": make_fake(self.scratch / "a", dim=4096)}, fake=True)
        with server.client() as client:
            ids, _ = results(client.call("search", search_params("a", np.full((1000, 4096), 7, "<f4"), 1)))
            self.assertEqual(set(ids[:, 0].tolist()), {7})

    def test_connections_above_the_limit_are_refused_with_a_reason(self):
        server = self.serve("--max-connections", 5, indexes={"a": make_fake(self.scratch / "a")}, fake=True)
        clients = [server.client() for _ in range(5)]
        for client in clients:
            client.call("ping")
        with server.client() as refused:
            closing = refused.end()
        self.assertEqual((closing["code"], closing["details"]["reason"]), ("resource_exhausted", "rate"))
        clients.pop().socket.close()

        def is_welcome():
            with server.client() as client:
                try:
                    client.call("ping")
                    return True
                except (EOFError, ConnectionError):
                    return False

        until(is_welcome, "the freed place is given away")
        for client in clients:
            client.socket.close()

    def test_a_limit_of_files_that_leaves_none_for_connections_is_refused(self):
        for workers in (1, 4):
            least = 24 + 8 * workers + 2
            flags = ("--workers", workers)
            indexes = {"a": make_fake(self.scratch / "a")}
            for limit in (8, 20, least - 1):
                server = Server(*flags, indexes=indexes, fake=True, limit_files=limit, wait=False)
                self.assertEqual(server.wait(), 3)
                need = f"{workers} workers need" if workers > 1 else "1 worker needs"
                self.assertIn(f"{limit} file descriptors are allowed, and {need} {least}", server.log())
            with self.serve(*flags, indexes=indexes, fake=True, limit_files=least).client() as client:
                self.assertEqual(client.call("ping"), {})

    def test_the_limit_of_files_is_raised_for_workers_too(self):
        with self.serve("--workers", 40, "--max-connections", 10, indexes={"a": make_fake(self.scratch / "a")}, fake=True,
                        limit_files="-S 300").client() as client:  # of 24 + 8 * 40 and some, which the hard limit allows
            self.assertEqual(client.call("ping"), {})

    def test_running_out_of_descriptors_pauses_accepting(self):
        server = self.serve("--workers", 1, indexes={"a": make_fake(self.scratch / "a")}, fake=True, limit_files=64)
        crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        server.wait_for("accepting pauses")
        begun = server.cpu_seconds()
        time.sleep(1)
        self.assertLess(server.cpu_seconds() - begun, 0.5)  # it does not spin
        for one in crowd:
            one.close()
        with server.client() as client:
            self.assertEqual(client.call("ping"), {})
        # Those that waited to be accepted are accepted first, and then seen to be closed.
        until(lambda: server.open_files() < 40, "the descriptors have come back")

    def test_descriptors_return_to_the_baseline_after_resets_at_every_stage(self):
        server = self.serve("--workers", 1, indexes={"a": make_fake(self.scratch / "a", delay_us=20000)}, fake=True)
        with server.client() as client:
            client.call("ping")
            baseline = server.open_files()
            request = msgpack.packb([0, 1, "search", [search_params("a", point(1, 20), 2)]])
            for cut in list(range(0, len(request), 40)) + [len(request)] * 20:
                raw = socket.create_connection(("127.0.0.1", server.port))
                raw.sendall(request[:cut])
                if cut % 3 == 0:
                    time.sleep(0.005)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends a reset
                raw.close()
            calm = 0  # times in a row: some connections may not even be accepted yet

            def is_calm():
                nonlocal calm
                calm = calm + 1 if server.open_files() == baseline and client.call("stats")["running"] == 0 else 0
                return calm == 50

            until(is_calm, "descriptors and slots are what they were")


    def test_half_closes_at_every_stage_are_answered_as_far_as_they_came(self):
        server = self.serve("--workers", 1, indexes={"a": make_fake(self.scratch / "a", delay_us=2000)}, fake=True)
        request = msgpack.packb([0, 1, "search", [search_params("a", point(7), 2)]])
        with server.client() as client:
            client.call("ping")
            baseline = server.open_files()
            for cut in range(2 * len(request) + 1):
                with server.client() as half:
                    half.socket.sendall((2 * request)[:cut])
                    half.socket.shutdown(socket.SHUT_WR)
                    for _ in range(cut // len(request)):
                        self.assertEqual(results(half.reply()[1])[0][0, 0], 7)
                    self.assertIsNone(half.receive())
            until(lambda: server.open_files() == baseline, "descriptors are what they were")


class Overload(ProtocolTest):
    def test_a_full_queue_refuses_at_once_with_advice(self):
        directory = make_stuck(self.scratch / "a")
        server = self.serve("--workers", 1, "--inflight", 2, "--max-queue", 50, indexes={"a": directory}, fake=True)
        clients = [server.client() for _ in range(10)]  # each may have 25 in flight
        for client in clients:
            for msgid in range(20):
                client.send("search", search_params("a", point(1), 1), msgid)
        with server.client() as observer:
            until(lambda: observer.call("stats")["rejected"]["queue"] >= 140, "most are refused")
            let_go(directory)  # not one was answered before
        counts = {"ok": 0, "resource_exhausted": 0}
        for client in clients:
            for _ in range(20):
                message = client.receive()
                counts[message[2]["code"] if message[2] else "ok"] += 1
                if message[2]:
                    self.assertEqual(message[2]["details"]["reason"], "queue")
                    self.assertTrue(message[2]["retryable"])
                    self.assertGreater(message[2]["retry_after_ms"], 0)
        self.assertEqual(sum(counts.values()), 200)
        self.assertGreaterEqual(counts["ok"], 50)
        self.assertEqual(clients[0].call("stats")["rejected"]["queue"], counts["resource_exhausted"])
        clients[0].call("search", search_params("a", point(1), 1))  # and back to normal
        for client in clients:
            client.socket.close()

    def test_one_client_that_pipelines_without_end_is_slowed_and_not_refused(self):
        server = self.serve("--workers", 1, "--inflight", 4, "--max-queue", 1000,
                            indexes={"a": make_fake(self.scratch / "a", delay_us=100)}, fake=True)
        with server.client() as client:
            count = 5000
            requests = b"".join(msgpack.packb([0, i, "search", [search_params("a", point(i % 900), 1)]]) for i in range(count))
            sender = threading.Thread(target=client.socket.sendall, args=(requests,))
            sender.start()
            for _ in range(count):
                msgid, result = client.reply()
                self.assertEqual(results(result)[0][0, 0], msgid % 900)
            sender.join()

    def test_health_answers_under_overload(self):
        server = self.serve("--workers", 1, "--inflight", 1, indexes={"a": make_fake(self.scratch / "a", delay_us=20000)}, fake=True)
        clients = [server.client() for _ in range(8)]
        for client in clients:
            for msgid in range(200):
                client.send("search", search_params("a", point(1), 1), msgid)
        for path in ("livez", "readyz", "metrics"):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/{path}", timeout=PATIENCE) as answer:
                self.assertEqual(answer.status, 200)
        with server.client() as observer:
            self.assertGreater(observer.call("stats")["waiting"], 0)  # half a minute's worth: they were not waited for
        for client in clients:
            client.socket.close()


class Deadlines(ProtocolTest):
    def test_a_deadline_is_told_although_the_device_is_stuck(self):
        """For good, so that no answer waited for it; and within 50 ms, unless the machine is busy each of 100 times."""
        directory = make_stuck(self.scratch / "a")
        server = self.serve("--workers", 1, "--inflight", 4, indexes={"a": directory}, fake=True)
        late, deadline = [], 20
        with server.client() as client:
            while len(late) < 3 or (min(late) >= 50 and len(late) < 100):
                begun = time.monotonic()
                for msgid in range(8):  # four run, four wait
                    client.send("search", search_params("a", point(1), 1, deadline_ms=deadline), msgid)
                for _ in range(8):
                    message = client.receive()
                    self.assertIn(message[2]["code"], ("deadline_exceeded", "resource_exhausted"))
                late.append((time.monotonic() - begun) * 1000 - deadline)
            self.assertEqual(client.call("stats")["waiting"], 0)
            self.assertEqual(client.call("stats")["running"], 4)  # in flight is bounded by the slots
            let_go(directory)
            client.call("search", search_params("a", point(1), 1))  # and they come back
        self.assertLess(min(late), 50, late)

    def test_cancel_answers_at_once(self):
        directory = make_stuck(self.scratch / "a")
        server = self.serve("--workers", 1, indexes={"a": directory}, fake=True)
        with server.client() as client:
            client.send("search", search_params("a", point(1), 1), 5)
            client.send("search", search_params("a", point(2), 1), 6)
            client.notify("cancel", {"msgid": 5})
            message = client.receive()
            self.assertEqual((message[1], message[2]["code"]), (5, "cancelled"))
            let_go(directory)
            msgid, result = client.reply()
            self.assertEqual((msgid, results(result)[0][0, 0]), (6, 2))

    def test_failing_reads_fail_their_queries_with_the_right_code(self):
        for status, code, retryable in ((-10003, "data_loss", False), (-10001, "data_loss", False), (-61, "data_loss", False),
                                        (-5, "unavailable", True), (-12, "resource_exhausted", True), (-22, "internal", False)):
            server = self.serve(indexes={"a": make_fake(self.scratch / "a", status=status)}, fake=True)
            with server.client() as client:
                error = self.expect(code, client, "search", search_params("a", point(1), 1), text="page 5")
                self.assertEqual(error.retryable, retryable)
                error = self.expect(code, client, "search", search_params("a", point(1, 3), 1))
                self.assertIn(error.details["row"], (0, 1, 2))
            self.stop(server)


class Sick(ProtocolTest):
    """The library itself, whose reads or allocations go wrong as long as a file is there."""

    def fall_sick(self, plan):
        self.sick = self.scratch / "sick"
        data = Indexes.get()
        server = self.serve("--dram-budget", "8MiB", "--workers", 2, "--inflight", 4, sick=True, indexes={"a": data.build("l2")},
                            env={"FATHOM_SICK_PLAN": plan, "FATHOM_SICK_WHILE": str(self.sick)})
        self.params = [search_params("a", row[None], exact_distances=True) for row in data.query]
        with server.client() as client:
            self.right = [client.call("search", one) for one in self.params]
            self.stats = client.call("search", {**self.params[0], "explain": True})["stats"]
        self.assertGreater(self.stats["reads"], 0)
        self.sick.touch()
        return server

    def ask(self, client, counts, **more):
        """Each answer is the right one or an error; they are counted by code."""
        for number, one in enumerate(self.params):
            client.send("search", {**one, **more}, number)
        for _ in self.params:
            _, number, error, result = client.receive()
            code = error["code"] if error else "ok"
            counts[code] = counts.get(code, 0) + 1
            if not error:
                self.assertEqual(result, self.right[number])

    def expect_well(self, server):
        self.sick.unlink()
        counts = {}
        with server.client() as client:
            client.call("reload", {"index": "a"})
            self.ask(client, counts)
        self.assertEqual(counts, {"ok": len(self.params)})

    def test_faults_of_every_kind_spoil_no_answer_and_no_reload(self):
        server = self.fall_sick("read~23:EIO;read~29:flip=bit12345;read~31:short=0;read~37:short=100;read~41:EAGAIN;read~47:EINTR;"
                                "read~199:stall=2ms")
        counts, reloads = {}, {}
        with server.client() as client:
            for turn in range(40):
                self.ask(client, counts)
                client.send("reload", {"index": "a", "dram_budget": (8 << 20) + turn % 2})
                error = client.receive()[2]
                code = error["code"] if error else "ok"
                reloads[code] = reloads.get(code, 0) + 1
        for outcome in (counts, reloads):
            self.assertLessEqual(set(outcome), {"ok", "unavailable", "data_loss"}, outcome)
        self.assertEqual(set(counts), {"ok", "unavailable", "data_loss"})
        self.expect_well(server)

    def test_a_disk_that_is_stuck_holds_no_deadline_up_and_comes_back(self):
        server = self.fall_sick("read#1+:stall=3600s")
        if self.stats["io_engine"] != "uring":
            self.skipTest("a pread that blocks cannot be left")
        counts = {}
        with server.client() as client:
            for _ in range(4):
                self.ask(client, counts, deadline_ms=20)
        self.assertLessEqual(set(counts), {"deadline_exceeded", "resource_exhausted"})
        self.expect_well(server)


    def test_memory_that_is_short_fails_requests_and_not_the_server(self):
        """Sixteen allocations in turn; and all of them."""
        for plan in (";".join(f"alloc#{number}:fail" for number in range(1, 16 * 5, 5)), "alloc#1+:fail"):
            with self.subTest(plan=plan):
                server = self.fall_sick(plan)
                failed = sum(self.is_refused(server) for _ in range(40))
                self.assertGreater(failed, 0)
                self.expect_well(server)

    def is_refused(self, server):
        """Whether one of some requests is, each of another kind; or there is not even a connection."""
        try:
            with server.client() as client:
                for method, params in (("hello", {"protocol": 1, "client": "t"}), ("info", {}), ("reload", {"index": "a"}),
                                       ("search", self.params[0]), ("stats", {})):
                    result = client.call(method, params)
                    if method == "search":
                        self.assertEqual(result, self.right[0])
        except (EOFError, ConnectionError):
            return True
        except RpcError as error:
            self.assertEqual(error.code, "resource_exhausted", error)
            return True
        return False


class RealDamage(ProtocolTest):
    def test_an_index_truncated_under_the_server_fails_only_the_queries_that_read_there(self):
        data = Indexes.get()
        directory = self.scratch / "index"
        shutil.copytree(data.build("l2"), directory)
        server = self.serve("--dram-budget", "6MiB", "--workers", 1, "--inflight", 4, indexes={"a": directory})
        with server.client() as client:
            params = [search_params("a", data.query[i:i + 1], exact_distances=True) for i in range(50)]
            before = [client.call("search", one) for one in params]
            largest = max((path for path in directory.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
            size = largest.stat().st_size
            os.truncate(largest, size * 3 // 4 // 4096 * 4096)
            failed = 0
            for one, expected in zip(params, before):
                client.send("search", one)
                message = client.receive()
                if message[2]:
                    failed += 1
                    self.assertEqual(message[2]["code"], "data_loss")
                else:
                    self.assertEqual(message[3], expected)
            self.assertGreater(failed, 0)
            self.assertEqual(client.call("ping"), {})


if __name__ == "__main__":
    main()
