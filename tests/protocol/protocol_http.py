"""The admin port: health, metrics, and searching in JSON."""

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import time
import unittest

import numpy as np

from support import (
    DIM, PATIENCE, ROWS, Indexes, ProtocolTest, Server, let_go, main, make_fake, make_stuck, results, search_params)


def request(server, method, path, body=None, headers=None):
    """(status, headers, body) of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=PATIENCE)
    try:
        connection.request(method, path, body if body is None or isinstance(body, (bytes, str)) else json.dumps(body), headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


class Real(ProtocolTest):
    @classmethod
    def setUpClass(cls):
        cls.data = Indexes.get()
        cls.server = Server(indexes={"l2": cls.data.build("l2"), "cos": cls.data.build("cos", "cos")})

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def get(self, path):
        return request(self.server, "GET", path)

    def search(self, body, index="l2"):
        status, _, text = request(self.server, "POST", f"/v1/indexes/{index}/search", body)
        return status, json.loads(text)

    def test_health(self):
        self.assertEqual(self.get("/livez")[0::2], (200, "ok\n"))
        status, _, text = self.get("/readyz")
        self.assertEqual(status, 200)
        self.assertEqual(sorted(text.splitlines()), ["index cos: ok", "index l2: ok"])

    def test_indexes_are_listed(self):
        status, headers, text = self.get("/v1/indexes")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
        indexes = {entry["name"]: entry for entry in json.loads(text)["indexes"]}
        self.assertEqual((indexes["cos"]["rows"], indexes["cos"]["dim"], indexes["cos"]["metric"]), (ROWS, DIM, "cos"))
        with self.server.client() as client:
            info = client.call("info", {"index": "cos"})
        self.assertEqual(int(indexes["cos"].pop("generation"), 16), info.pop("generation"))
        self.assertEqual(indexes["cos"], info)

    def test_searches_answer_like_the_wire(self):
        queries = self.data.query[:3]
        status, answer = self.search({"vectors": [[float(x) for x in row] for row in queries], "k": 5, "explain": True,
                                      "search_list": 60, "exact_distances": True})
        self.assertEqual(status, 200)
        with self.server.client() as client:
            reply = client.call("search", search_params("l2", queries, 5, search_list=60, exact_distances=True))
        ids, distances = results(reply)
        self.assertEqual(answer["ids"], ids.tolist())
        self.assertTrue(np.allclose(answer["distances"], distances))
        self.assertEqual((answer["shape"], answer["complete"]), ([3, 5], True))
        self.assertEqual(int(answer["generation"], 16), reply["generation"])
        self.assertGreater(answer["stats"]["hops"], 0)

    def test_rows_beyond_the_index_are_left_out(self):
        status, answer = self.search({"vectors": [[0.0] * DIM], "k": 4096})
        self.assertEqual(status, 200)
        self.assertLessEqual(len(answer["ids"][0]), ROWS)
        self.assertEqual(len(answer["ids"][0]), len(answer["distances"][0]))

    def test_wrong_searches_are_refused_with_the_wire_s_errors(self):
        row = [0.5] * DIM
        for body, code, field in (
            ({"vectors": [row], "k": 0}, "invalid_argument", "k"),
            ({"vectors": [row], "k": -1}, "invalid_argument", "k"),
            ({"vectors": [row], "k": "5"}, "invalid_argument", "k"),
            ({"vectors": [row], "k": 10.5}, "invalid_argument", "k"),
            ({"vectors": [row]}, "invalid_argument", "k"),
            ({"k": 5}, "invalid_argument", "vectors"),
            ({"vectors": [row[:-1]], "k": 5}, "invalid_argument", "vectors"),
            ({"vectors": [row, row[:-1]], "k": 5}, "invalid_argument", "vectors"),
            ({"vectors": row, "k": 5}, "invalid_argument", "vectors"),
            ({"vectors": [[None] * DIM], "k": 5}, "invalid_argument", "vectors"),
            ({"vectors": {"a": 1}, "k": 5}, "invalid_argument", "vectors"),
            ({"vectors": [row], "k": 5, "ef": 3}, "invalid_argument", "ef"),
            ({"vectors": [row], "k": 5, "index": "cos"}, "invalid_argument", "index"),
            ({"vectors": [row], "k": 5, "deadline_ms": 0}, "deadline_exceeded", None),
        ):
            with self.subTest(body=str(body)[-60:]):
                status, answer = self.search(body)
                self.assertEqual(answer["error"]["code"], code)
                self.assertEqual(answer["error"].get("details", {}).get("field"), field)
                self.assertEqual(status, {"invalid_argument": 400, "deadline_exceeded": 504}[code])
        self.assertEqual(self.search({"vectors": [[0.0] * DIM], "k": 5}, "cos")[0], 400)
        self.assertEqual(self.search({"vectors": [row], "k": 5}, "none")[0], 404)

    def test_bodies_that_are_no_json_object_are_refused(self):
        for body in (b"", b"{", b"[1]", b"5", b'{"k":1,"k":2}', b"\xff\xfe", b'{"vectors":[[1e999]]}', b"[" * 100000,
                     b'{"vectors":' + b"[" * 500 + b"]" * 500 + b"}", b'{"k":99999999999999999999999}'):
            status, answer = self.search(body)
            self.assertEqual((status, answer["error"]["code"]), (400, "invalid_argument"), body[:40])

    def test_bodies_that_would_take_up_memory_are_refused_before_they_are_parsed(self):
        before = self.server.resident_bytes(most=True)
        for value in (b"{}", b"[]", b'""', b"[0]"):
            body = b'{"k":1,"vectors":[' + b",".join([value] * (1 << 20)) + b"]}"
            status, answer = self.search(body)
            self.assertEqual((status, answer["error"]["code"]), (400, "invalid_argument"))
            self.assertIn("more than 4096 arrays", answer["error"]["message"])
        self.assertLess(self.server.resident_bytes(most=True) - before, 100 << 20)

    def test_more_numbers_than_a_request_needs_are_refused_before_they_are_parsed(self):
        before = self.server.resident_bytes(most=True)
        for numbers, message in (((4 << 20) - 40, "more than 1048576 values"), (1 << 20, "more than 1048576 values"), ((1 << 20) - 8, "vectors")):
            status, answer = self.search(b'{"k":1,"vectors":[[' + b"0," * (numbers - 1) + b"0]]}")
            self.assertEqual((status, answer["error"]["code"]), (400, "invalid_argument"))
            self.assertIn(message, answer["error"]["message"])
        self.assertLess(self.server.resident_bytes(most=True) - before, 120 << 20)

    def test_a_batch_of_the_most_rows_is_taken(self):
        rows = np.resize(self.data.query, (1024, DIM))
        status, answer = self.search({"vectors": [[float(x) for x in row] for row in rows], "k": 1})
        self.assertEqual((status, answer["shape"]), (200, [1024, 1]))

    def test_paths_and_methods_that_do_not_exist(self):
        for method, path, expected in (("GET", "/", 404), ("GET", "/v1/indexes/l2", 404), ("GET", "/v1/indexes//search", 404),
                                       ("GET", "/v1/indexes/l2/search", 405), ("POST", "/v1/indexes", 405), ("POST", "/metrics", 405),
                                       ("POST", "/livez", 405),
                                       ("DELETE", "/v1/indexes/l2/search", 405), ("GET", "/v1/indexes/" + "x" * 100 + "/search", 404),
                                       ("HEAD", "/livez", 200)):
            self.assertEqual(request(self.server, method, path)[0], expected, (method, path))

    def test_too_large_a_body_is_refused(self):
        try:
            status = request(self.server, "POST", "/v1/indexes/l2/search", b"x" * (9 << 20))[0]
        except (BrokenPipeError, ConnectionResetError):
            return
        self.assertEqual(status, 413)

    def test_headers_without_an_end_are_refused(self):
        with socket.create_connection(("127.0.0.1", self.server.http_port), PATIENCE) as raw:
            try:
                raw.sendall(b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 20000)
                answer = raw.recv(65536)
            except (BrokenPipeError, ConnectionResetError):
                return
        self.assertIn(answer[:13], (b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))

    def test_metrics_describe_the_indexes(self):
        self.search({"vectors": [[0.5] * DIM], "k": 5})
        status, headers, text = self.get("/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        for line in ('fathom_index_rows{index="l2"} 2000', 'fathom_build_info{', 'fathom_index_dram_bytes{index="cos",part="scratch"}',
                     'fathom_search_duration_seconds_bucket{index="l2",le="+Inf"}', 'fathom_query_reads_count{index="l2"}',
                     'fathom_rejected_total{reason="queue"} 0', 'fathom_index_info{index="l2",generation="',
                     'fathom_index_reloads_total{index="l2",result="failed"} 0'):
            self.assertIn(line, text)
        samples = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        self.assertEqual(len(samples), len({name for name, _ in samples}))
        buckets = [int(value) for name, value in samples if name.startswith('fathom_search_duration_seconds_bucket{index="l2"')]
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual(buckets[-1], int(dict(samples)['fathom_search_duration_seconds_count{index="l2"}']))
        self.assertGreater(buckets[-1], 0)

    @unittest.skipUnless(shutil.which("promtool"), "no promtool (apt-get install prometheus)")
    def test_promtool_finds_nothing_to_say(self):
        done = subprocess.run(["promtool", "check", "metrics"], input=self.get("/metrics")[2], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))


def worker_connections(server):
    text = request(server, "GET", "/metrics")[2]
    return [int(count) for count in re.findall(r'^fathom_worker_connections\{worker="\d+"\} (\d+)$', text, re.M)]


class Faked(ProtocolTest):
    def test_a_connection_goes_to_the_worker_that_has_the_fewest(self):
        server = self.serve("--workers", 2, indexes={"a": make_fake(self.scratch / "a")}, fake=True)
        clients = []

        def connect(count):
            for _ in range(count):
                clients.append(server.client())
                clients[-1].call("ping")  # answered: its worker has it

        connect(4)
        self.assertEqual(worker_connections(server), [2, 2])
        clients.pop(2).socket.close()
        clients.pop(0).socket.close()
        end = time.monotonic() + 20
        while sum(worker_connections(server)) > 2 and time.monotonic() < end:
            time.sleep(0.01)
        self.assertEqual(sorted(worker_connections(server)), [0, 2])
        connect(2)
        self.assertEqual(worker_connections(server), [2, 2])
        for client in clients:
            client.socket.close()

    def test_readiness_fails_with_its_index(self):
        good, bad = make_fake(self.scratch / "good"), make_fake(self.scratch / "bad", status=-10003)
        server = self.serve(indexes={"good": good, "bad": bad}, fake=True)
        status, _, text = request(server, "GET", "/readyz")
        self.assertEqual(status, 503)
        self.assertIn("index good: ok", text)
        self.assertRegex(text, "index bad: .+page 5")
        self.assertEqual(request(server, "GET", "/livez")[0], 200)

    def test_readiness_does_not_wait_for_a_stuck_device(self):
        server = self.serve(indexes={"a": make_stuck(self.scratch / "a")}, fake=True)
        status, _, text = request(server, "GET", "/readyz")
        self.assertEqual(status, 503)
        self.assertIn("deadline", text)
        self.assertEqual(request(server, "GET", "/livez")[0], 200)

    def test_draining_is_not_ready_but_alive(self):
        directory = make_stuck(self.scratch / "a")
        server = self.serve("--drain-timeout", "3600s", indexes={"a": directory}, fake=True)
        with server.client() as client:
            client.send("search", search_params("a", np.ones((1, 4)), 1))
            server.wait_until_taken(1)
            server.signal(signal.SIGTERM)
            server.wait_for("draining")
            self.assertEqual(request(server, "GET", "/livez")[0], 200)
            self.assertEqual(request(server, "GET", "/readyz")[0::2], (503, "draining\n"))
            self.assertIn("fathom_draining 1", request(server, "GET", "/metrics")[2])
            let_go(directory)
            self.assertEqual(client.reply()[0], 1)

    def test_clients_that_leave_before_the_answer_do_no_harm(self):
        directory = make_stuck(self.scratch / "a")
        server = self.serve(indexes={"a": directory}, fake=True)
        body = b'{"vectors":[[1,1,1,1]],"k":1}'
        head = b"POST /v1/indexes/a/search HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        for path in (head + body, b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"):
            for _ in range(10):
                raw = socket.create_connection(("127.0.0.1", server.http_port))
                raw.sendall(path)
                time.sleep(0.01)
                raw.close()
        let_go(directory)
        server.wait_until_taken(0)
        status, _, text = request(server, "POST", "/v1/indexes/a/search", body)
        self.assertEqual((status, json.loads(text)["ids"]), (200, [[1]]))

    def test_the_end_of_the_server_answers_pending_searches(self):
        server = self.serve(indexes={"a": make_stuck(self.scratch / "a")}, fake=True)
        body = b'{"vectors":[[1,1,1,1]],"k":1}'
        with socket.create_connection(("127.0.0.1", server.http_port)) as raw:
            raw.sendall(b"POST /v1/indexes/a/search HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            server.wait_until_taken(1)
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)

    def test_a_token_guards_content_but_not_health(self):
        (self.scratch / "token").write_text("sesame\n")
        server = self.serve("--token-file", self.scratch / "token", indexes={"a": make_fake(self.scratch / "a")}, fake=True)
        for path in ("/livez", "/readyz", "/metrics"):
            self.assertEqual(request(server, "GET", path)[0], 200)
        body = {"vectors": [[1, 1, 1, 1]], "k": 1}
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "sesame"}):
            self.assertEqual(request(server, "GET", "/v1/indexes", headers=headers)[0], 401)
            self.assertEqual(request(server, "POST", "/v1/indexes/a/search", body, headers)[0], 401)
        headers = {"Authorization": "Bearer sesame"}
        self.assertEqual(request(server, "POST", "/v1/indexes/a/search", body, headers)[0], 200)

    def test_the_admin_port_can_be_left_out(self):
        server = self.serve(indexes={"a": make_fake(self.scratch / "a")}, fake=True, http="off")
        self.assertIsNone(server.http_port)
        with server.client() as client:
            self.assertEqual(client.call("ping"), {})


if __name__ == "__main__":
    main()
