#!/usr/bin/env python3
"""The Python package against a real fathom-server: answers compared with exact ground truth, errors by
their class, many calls in flight, a server that restarts."""

import asyncio
import os
import sys
import unittest
from pathlib import Path

import numpy as np

SOURCE = Path(os.environ.get("FATHOM_SOURCE", Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(SOURCE / "client" / "python"))

import fathom_client  # noqa: E402
from client_support import DIM, K, QUERIES, ROWS, Server, World, recall  # noqa: E402
from fathom_client import AsyncClient, Client, _wire  # noqa: E402

WORLD = SERVER = None


def setUpModule():
    global WORLD, SERVER
    WORLD = World()
    unittest.addModuleCleanup(WORLD.close)
    SERVER = Server(WORLD)
    unittest.addModuleCleanup(SERVER.close)


class Blocking(unittest.TestCase):
    def setUp(self):
        self.client = Client(SERVER.tcp)
        self.addCleanup(self.client.close)

    def test_results_match_the_ground_truth_over_both_sockets(self):
        for address in SERVER.addresses():
            with Client(address) as client:
                result = client.search("tiny", WORLD.queries, k=K, search_list=200, exact_distances=True)
            self.assertGreaterEqual(recall(result.ids, WORLD.truth_ids), 0.98)
            same = result.ids == WORLD.truth_ids
            np.testing.assert_allclose(result.distances[same], WORLD.truth_distances[same], rtol=1e-4)
            self.assertTrue(result.complete and result.valid.all())

    def test_limits_and_versions_are_those_of_the_project(self):
        header = (SOURCE / "client" / "protocol.h").read_text()
        for name, here in (("VERSION", _wire.PROTOCOL_VERSION), ("BATCH_MAX", _wire.BATCH_MAX),
                           ("DIM_MAX", _wire.DIM_MAX), ("K_MAX", _wire.K_MAX),
                           ("DEFAULT_LISTEN", f'"{_wire.DEFAULT_ADDRESS}"')):
            self.assertRegex(header, rf"#define PROTOCOL_{name} +{here}\s")
        version = fathom_client.__version__
        self.assertRegex((SOURCE / "CMakeLists.txt").read_text(), rf"project\(fathom VERSION {version} ")
        self.assertIn(f'version = "{version}"', (SOURCE / "client" / "python" / "pyproject.toml").read_text())
        self.assertEqual(self.client.hello().server, f"fathom-server/{version}")

    def test_a_batch_answers_as_its_rows_do(self):
        batch = self.client.search("tiny", WORLD.queries[:20], k=5)
        for row in range(20):
            single = self.client.search("tiny", WORLD.queries[row], k=5)
            np.testing.assert_array_equal(single.ids, batch.ids[row])
            np.testing.assert_array_equal(single.distances, batch.distances[row])

    def test_every_dtype_is_understood(self):
        whole = np.round(WORLD.queries / np.abs(WORLD.queries).max() * 100)
        expected = self.client.search("tiny", whole, k=5)
        for dtype in (np.int8, np.float16, np.int64, np.float64):
            result = self.client.search("tiny", whole.astype(dtype), k=5)
            np.testing.assert_array_equal(result.ids, expected.ids)
        positive = np.abs(whole)
        np.testing.assert_array_equal(self.client.search("tiny", positive.astype(np.uint8)).ids,
                                      self.client.search("tiny", positive).ids)

    def test_explain_counts_what_was_done(self):
        stats = self.client.search("tiny", WORLD.queries[:3], explain=True).stats
        self.assertEqual(len(stats.queries), 3)
        self.assertEqual(stats.hops, sum(one.hops for one in stats.queries))
        self.assertIn(stats.io_engine, ("uring", "pread"))

    def test_more_than_there_is_is_padded(self):
        result = self.client.search("tiny", WORLD.queries[0], k=4096, search_list=16384)
        self.assertLessEqual(result.valid.sum(), ROWS)
        self.assertTrue(np.all(np.isinf(result.distances[~result.valid])))

    def test_the_server_tells_of_itself(self):
        self.assertEqual(self.client.hello().indexes, ("tiny",))
        info = self.client.info("tiny")
        self.assertEqual((info["rows"], info["dim"]), (ROWS, DIM))
        self.assertEqual(self.client.search("tiny", WORLD.queries[0]).generation, info["generation"])
        self.assertIn("requests", self.client.stats())
        self.assertGreater(self.client.ping(), 0)
        self.assertEqual(self.client.reload("tiny")["generation"], info["generation"])

    def test_client_package_and_server_are_of_one_version(self):
        version = fathom_client.__version__
        self.assertEqual(self.client.hello().server, f"fathom-server/{version}")
        project = (SOURCE / "client" / "python" / "pyproject.toml").read_text()
        self.assertIn(f'version = "{version}"', project)

    def test_errors_have_their_class(self):
        with self.assertRaises(fathom_client.NotFound):
            self.client.search("nowhere", WORLD.queries[0])
        with self.assertRaises(fathom_client.NotFound):
            self.client.info("nowhere")
        with self.assertRaises(fathom_client.InvalidArgument):
            self.client.search("tiny", WORLD.queries[0][:-1])
        with self.assertRaises(fathom_client.InvalidArgument):
            self.client.search("tiny", np.full(DIM, np.nan, np.float32))
        with self.assertRaises(fathom_client.InvalidArgument) as raised:
            self.client.search("tiny", WORLD.queries[0], target_recall=2.0)
        self.assertEqual(raised.exception.details.get("field"), "target_recall")
        self.assertGreater(self.client.ping(), 0)

    def test_a_deadline_that_has_passed_is_told(self):
        with self.assertRaises(fathom_client.DeadlineExceeded):
            self.client.search("tiny", WORLD.queries, k=1000, search_list=16384, deadline=0.0)
        self.assertGreater(self.client.ping(), 0)

    def test_a_restarted_server_is_reconnected_to_on_request(self):
        first = Server(WORLD, name="restart")
        client = Client(first.unix)
        self.addCleanup(client.close)
        expected = client.search("tiny", WORLD.queries[0])
        first.close()
        with self.assertRaises(fathom_client.ConnectionLost):
            client.ping()
        with Server(WORLD, name="restart"):
            with self.assertRaises(fathom_client.ConnectionLost):
                client.ping()
            client.reconnect()
            again = client.search("tiny", WORLD.queries[0])
        np.testing.assert_array_equal(again.ids, expected.ids)
        self.assertEqual(again.generation, expected.generation)


class Async(unittest.IsolatedAsyncioTestCase):
    async def test_many_calls_in_flight_answer_as_one_batch_does(self):
        with Client(SERVER.tcp) as client:
            expected = client.search("tiny", WORLD.queries, k=K)
        for address in SERVER.addresses():
            async with AsyncClient(address) as client:
                results = await asyncio.gather(*(client.search("tiny", vector, k=K) for vector in WORLD.queries))
            np.testing.assert_array_equal(np.stack([result.ids for result in results]), expected.ids)
        self.assertEqual(len(results), QUERIES)

    async def test_cancelled_calls_leave_the_connection_whole(self):
        async with AsyncClient(SERVER.tcp) as client:
            calls = [asyncio.ensure_future(client.search("tiny", WORLD.queries[:20], k=1000)) for _ in range(20)]
            await asyncio.sleep(0.005)
            for call in calls[::2]:
                call.cancel()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            for outcome in outcomes[1::2]:
                self.assertIsInstance(outcome, fathom_client.SearchResult)
            self.assertGreater(await client.ping(), 0)


if __name__ == "__main__":
    unittest.main()
