"""The asyncio client: overlapping calls, cancelling, lost connections."""

import asyncio
import os
import tempfile
import unittest

import numpy as np

import fathom_client
from fathom_client import AsyncClient
from tests.fake_server import FakeServer

BASE = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)


class AsyncCalls(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.server = FakeServer(BASE)
        self.client = AsyncClient(self.server.address, timeout=5)
        await self.client.connect()

    async def asyncTearDown(self):
        await self.client.close()
        self.server.__exit__()

    async def test_calls_overlap_and_find_their_answers_in_any_order(self):
        held = []

        def hold(connection, msgid, params):
            held.append((connection, msgid, params))
            if len(held) == 20:
                for connection, msgid, params in reversed(held):
                    connection.reply(msgid, self.server.search(params))

        self.server.hooks["search"] = hold
        results = await asyncio.gather(*(self.client.search("tiny", BASE[row], k=1) for row in range(20)))
        self.assertEqual([int(result.ids[0]) for result in results], list(range(20)))

    async def test_no_more_than_max_inflight_are_with_the_server(self):
        held, most = [], [0]

        def hold(connection, msgid, params):
            held.append((connection, msgid, params))
            most[0] = max(most[0], len(held))

        async def answer():
            while True:
                await asyncio.sleep(0.005)
                if held:
                    connection, msgid, params = held.pop()
                    connection.reply(msgid, self.server.search(params))

        self.server.hooks["search"] = hold
        answering = asyncio.ensure_future(answer())
        async with AsyncClient(self.server.address, max_inflight=4) as client:
            await asyncio.gather(*(client.search("tiny", BASE[0]) for _ in range(20)))
        answering.cancel()
        self.assertLessEqual(most[0], 4)
        self.assertGreater(most[0], 1)

    async def test_every_method_works(self):
        self.assertEqual(self.client.hello().indexes, ("tiny",))
        self.assertGreater(await self.client.ping(), 0)
        self.assertEqual((await self.client.info("tiny"))["index"], "tiny")
        self.assertEqual((await self.client.stats())["method"], "stats")
        self.assertEqual((await self.client.reload("tiny"))["method"], "reload")
        self.assertEqual((await self.client.reload("tiny", dram_budget=512))["dram_budget"], 512)
        result = await self.client.search("tiny", BASE[:2], k=3, explain=True)
        self.assertEqual((result.ids.shape, len(result.stats.queries)), ((2, 3), 2))
        await self.client.shutdown()

    async def test_a_unix_socket_works_like_tcp(self):
        with tempfile.TemporaryDirectory() as folder:
            path = "unix:" + os.path.join(folder, "s")
            with FakeServer(BASE, path):
                async with AsyncClient(path) as client:
                    self.assertEqual((await client.search("tiny", BASE[3])).ids[0], 3)

    async def test_cancelling_a_call_tells_the_server_and_keeps_the_connection(self):
        held = []
        self.server.hooks["search"] = lambda c, i, p: held.append((c, i, p))
        call = asyncio.ensure_future(self.client.search("tiny", BASE[0]))
        while not held:
            await asyncio.sleep(0.005)
        call.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await call
        loop = asyncio.get_running_loop()
        cancels = await loop.run_in_executor(None, self.server.wait_for, "cancel")
        self.assertEqual(cancels, [{"msgid": held[0][1]}])
        held[0][0].reply(held[0][1], "late")
        self.assertGreater(await self.client.ping(), 0)

    async def test_a_timeout_is_deadline_exceeded_and_keeps_the_connection(self):
        self.server.hooks["search"] = lambda c, i, p: None
        with self.assertRaises(fathom_client.DeadlineExceeded):
            await self.client.search("tiny", BASE[0], timeout=0.05)
        self.assertGreater(await self.client.ping(), 0)

    async def test_the_servers_own_deadline_exceeded_keeps_its_words(self):
        self.server.hooks["search"] = lambda c, i, p: c.fail(i, "deadline_exceeded", "after 3 hops")
        with self.assertRaisesRegex(fathom_client.DeadlineExceeded, "after 3 hops"):
            await self.client.search("tiny", BASE[0])

    async def test_all_calls_in_flight_fail_when_the_server_closes(self):
        held = []
        self.server.hooks["search"] = lambda c, i, p: held.append(c)
        calls = [asyncio.ensure_future(self.client.search("tiny", BASE[0])) for _ in range(5)]
        while len(held) < 5:
            await asyncio.sleep(0.005)
        held[0].close()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            self.assertIsInstance(outcome, fathom_client.ConnectionLost)
        self.assertTrue(self.client.closed)
        with self.assertRaises(fathom_client.ConnectionLost):
            await self.client.ping()
        await self.client.reconnect()
        self.assertGreater(await self.client.ping(), 0)

    async def test_a_lie_fails_every_call(self):
        self.server.hooks["search"] = lambda c, i, p: c.send(b"\xdd\xff\xff\xff\xff")
        with self.assertRaises(fathom_client.ProtocolError):
            await self.client.search("tiny", BASE[0])
        self.assertTrue(self.client.closed)

    async def test_closing_fails_what_waits(self):
        self.server.hooks["search"] = lambda c, i, p: None
        call = asyncio.ensure_future(self.client.search("tiny", BASE[0]))
        await asyncio.sleep(0.02)
        await self.client.close()
        with self.assertRaisesRegex(fathom_client.ConnectionLost, "closed"):
            await call


class AsyncConnecting(unittest.IsolatedAsyncioTestCase):
    async def test_no_server_is_named_with_what_to_do(self):
        with self.assertRaisesRegex(fathom_client.Unavailable, "unix:/nonexistent/s.*fathom-server"):
            async with AsyncClient("unix:/nonexistent/s"):
                pass

    async def test_a_server_that_never_says_hello_is_given_up(self):
        with FakeServer(BASE) as server:
            server.hooks["hello"] = lambda c, i, p: None
            with self.assertRaisesRegex(fathom_client.DeadlineExceeded, "no hello"):
                async with AsyncClient(server.address, connect_timeout=0.05):
                    pass

    async def test_a_client_that_was_not_connected_says_so(self):
        with self.assertRaisesRegex(fathom_client.ConnectionLost, "async with"):
            await AsyncClient("127.0.0.1:1").ping()


if __name__ == "__main__":
    unittest.main()
