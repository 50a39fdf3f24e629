"""The DRAM budget of an index that is served, changed while it is."""

import re
import threading

import numpy as np

from support import Indexes, ProtocolTest, Server, let_go, main, make_fake, results, search_params, until

ROWS = 1000
SCRATCH = 4096  # of the fake; its least is a byte a row, its best eight


class Steps(ProtocolTest):
    """With the fake library, which notes what is open at the same time."""

    def served(self, budget, **settings):
        directory = make_fake(self.scratch / "a", rows=ROWS, **settings)
        self.log = directory / "log"
        self.log.write_text("")
        return directory, self.serve("--workers", 2, "--dram-budget", budget, indexes={"a": directory}, fake=True)

    def steps(self):
        """What was opened (+) and closed (-) so far, and the most that was open at a time."""
        live, most, steps = 0, 0, []
        for what, size in re.findall(r"(open|close) (\d+)", self.log.read_text()):
            steps.append(int(size) if what == "open" else -int(size))
            live += steps[-1]
            most = max(most, live)
        return steps, most

    def budget_of(self, client):
        return client.call("info", {"index": "a"})["dram_bytes"]["budget"]

    def test_shrinking_goes_by_the_least_and_never_holds_two_copies(self):
        _, server = self.served(SCRATCH + 8 * ROWS)
        with server.client() as client:
            result = client.call("reload", {"index": "a", "dram_budget": SCRATCH + 3 * ROWS})
            self.assertEqual((result["dram_budget"], result["changed"]), (SCRATCH + 3 * ROWS, False))
            self.assertEqual(self.budget_of(client), SCRATCH + 3 * ROWS)
            self.wait_steps([8 * ROWS, ROWS, -8 * ROWS, 3 * ROWS, -ROWS])
            self.assertEqual(self.steps()[1], 9 * ROWS)

    def test_engines_stay_as_they_are_when_the_budget_changes(self):
        _, server = self.served(SCRATCH + 2 * ROWS)
        with server.client() as client:
            self.assertEqual(client.call("info", {"index": "a"})["inflight"], 5)
            client.call("reload", {"index": "a", "dram_budget": SCRATCH + 2 * ROWS})
            self.assertNotIn("would be", server.log())
            client.call("reload", {"index": "a", "dram_budget": 0})
            self.assertEqual(client.call("info", {"index": "a"})["inflight"], 5)
            until(lambda: "index a: 5 queries in flight a worker stay; under its new budget it would be 16" in server.log(),
                  "whoever changes a budget is told")
        server = self.serve("--workers", 2, "--inflight", 5, indexes={"a": self.scratch / "a"}, fake=True)
        with server.client() as client:
            client.call("reload", {"index": "a", "dram_budget": SCRATCH + 8 * ROWS})
            self.assertNotIn("would be", server.log())

    def test_a_share_is_of_each_generation(self):
        """60% of 1000 x 4 f32, then of twice the rows."""
        directory, server = self.served("60%")
        with server.client() as client:
            self.assertEqual(self.budget_of(client), ROWS * 16 * 6 // 10)
            make_fake(directory, rows=2 * ROWS, generation=8)
            result = client.call("reload", {"index": "a"})
            self.assertEqual((result["changed"], result["dram_budget"]), (True, 2 * ROWS * 16 * 6 // 10))

    def test_a_budget_that_is_given_again_is_kept_while_it_is_reloaded(self):
        """Without one both are held, so that the old stays whatever is wrong with the new."""
        directory, server = self.served(SCRATCH + 8 * ROWS)
        with server.client() as client:
            client.call("reload", {"index": "a"})
            self.wait_steps([8 * ROWS, 8 * ROWS, -8 * ROWS])
            make_fake(directory, rows=ROWS, generation=9)
            result = client.call("reload", {"index": "a", "dram_budget": SCRATCH + 8 * ROWS})
            self.assertEqual((result["generation"], result["changed"]), (9, True))
            self.wait_steps([8 * ROWS, 8 * ROWS, -8 * ROWS, ROWS, -8 * ROWS, 8 * ROWS, -ROWS])

    def test_growing_goes_by_the_least_too(self):
        _, server = self.served(SCRATCH + 3 * ROWS)
        with server.client() as client:
            client.call("reload", {"index": "a", "dram_budget": SCRATCH + 8 * ROWS})
            self.wait_steps([3 * ROWS, ROWS, -3 * ROWS, 8 * ROWS, -ROWS])
            self.assertEqual(self.steps()[1], 9 * ROWS)

    def test_both_at_once_where_the_larger_budget_has_room(self):
        _, server = self.served(SCRATCH + 2 * ROWS)
        with server.client() as client:
            client.call("reload", {"index": "a", "dram_budget": 100 * ROWS})
            self.wait_steps([2 * ROWS, 8 * ROWS, -2 * ROWS])

    def test_a_budget_of_none_needs_no_detour(self):
        _, server = self.served(SCRATCH + 5 * ROWS)
        with server.client() as client:
            client.call("reload", {"index": "a", "dram_budget": 0})
            self.assertEqual(self.budget_of(client), 0)
            self.wait_steps([5 * ROWS, 8 * ROWS, -5 * ROWS])

    def test_the_budget_stays_for_later_reloads(self):
        directory, server = self.served(SCRATCH + 8 * ROWS)
        with server.client() as client:
            client.call("reload", {"index": "a", "dram_budget": SCRATCH + 3 * ROWS})
            make_fake(directory, rows=ROWS, generation=9)
            result = client.call("reload", {"index": "a"})
            self.assertEqual((result["generation"], result["dram_budget"]), (9, SCRATCH + 3 * ROWS))

    def test_too_small_a_budget_is_refused_before_anything_is_changed(self):
        _, server = self.served(SCRATCH + 8 * ROWS)
        with server.client() as client:
            error = self.expect("resource_exhausted", client, "reload", {"index": "a", "dram_budget": SCRATCH + 10})
            self.assertEqual(error.details["reason"], "memory")
            self.assertEqual(self.steps()[0], [8 * ROWS])
            self.assertEqual(self.budget_of(client), SCRATCH + 8 * ROWS)
            for bad in (-1, 1.5, "1 XiB", "0%", "", "5 %", None, 2 ** 63):
                self.expect("invalid_argument", client, "reload", {"index": "a", "dram_budget": bad}, "dram_budget")
            for bad in (-1, 1, 1.0, -0.5, "0.9", None):
                self.expect("invalid_argument", client, "reload", {"index": "a", "plan_recall": bad}, "plan_recall")

    def test_a_budget_may_be_text_and_a_share_stays_one(self):
        directory, server = self.served(SCRATCH + 8 * ROWS)
        with server.client() as client:
            share = ROWS * 16 * 6 // 10
            self.assertEqual(client.call("reload", {"index": "a", "dram_budget": "60%"})["dram_budget"], share)
            self.assertEqual(self.steps()[1], 9 * ROWS)  # by way of the least
            make_fake(directory, rows=2 * ROWS, generation=8)
            self.assertEqual(client.call("reload", {"index": "a"})["dram_budget"], 2 * share)
            self.assertEqual(client.call("reload", {"index": "a", "dram_budget": "1MiB"})["dram_budget"], 1 << 20)

    def test_a_planned_recall_stays_until_it_is_changed(self):
        _, server = self.served(SCRATCH + 8 * ROWS)
        with server.client() as client:
            for change, recall in (({}, 0), ({"plan_recall": 0.95}, 0.95), ({"dram_budget": 0}, 0.95), ({}, 0.95), ({"plan_recall": 0}, 0)):
                self.assertEqual(client.call("reload", {"index": "a", **change})["plan_recall"], recall)
                self.assertEqual(client.call("info", {"index": "a"})["plan_recall"], recall)

    def test_the_old_edition_is_waited_for_and_nobody_else_is(self):
        directory, server = self.served(SCRATCH + 8 * ROWS, stuck=1)
        (directory / "hold").touch()
        with server.client() as client, server.client() as other:
            slow = client.send("search", search_params("a", np.full((1, 4), 1, "<f4"), 1))
            server.wait_until_taken(1)
            client.send("reload", {"index": "a", "dram_budget": SCRATCH + 3 * ROWS})
            self.wait_steps([8 * ROWS, ROWS])  # the least answers, the old one still has a query
            self.assertEqual(other.call("ping"), {})
            self.assertEqual(self.steps()[0], [8 * ROWS, ROWS])
            let_go(directory)
            replies = dict(client.reply() for _ in range(2))
            self.assertEqual(len(replies[slow]["ids"]), 8)
            self.assertEqual(self.budget_of(client), SCRATCH + 3 * ROWS)

    def wait_steps(self, wanted):
        """An edition closes a moment after the last thread has let go of it."""
        until(lambda: self.steps()[0] == wanted, f"the steps are {wanted}")


class Shared(ProtocolTest):
    """One budget for a small index beside one of a hundred times its size."""

    def refusal(self, budget, **indexes):
        server = Server("--dram-budget", budget, "--workers", 2, indexes=indexes, fake=True, wait=False)
        self.assertEqual(server.wait(), 2)
        return server.log()

    def test_it_is_split_by_raw_size_but_each_has_its_least(self):
        indexes = {"small": make_fake(self.scratch / "small", rows=ROWS),
                   "large": make_fake(self.scratch / "large", rows=100 * ROWS)}
        least = {"small": SCRATCH + ROWS, "large": SCRATCH + 100 * ROWS}
        total = sum(least.values())
        for budget in (1, total - 1):
            log = self.refusal(budget, **indexes)
            self.assertIn(f"a DRAM budget of {budget} bytes is too small for 2 indexes: the least is {total} ", log)
            self.assertIn(f"(small {least['small']}, large {least['large']})", log)
        for budget, small in ((total, least["small"]), (total + 1000, least["small"]), (101 * 5096, 5096),
                              (101 * 6000, 6000)):
            server = self.serve("--dram-budget", budget, "--workers", 2, indexes=indexes, fake=True)
            with server.client() as client:
                found = [client.call("info", {"index": name})["dram_bytes"]["budget"] for name in ("small", "large")]
            self.assertEqual(found, [small, budget - small])


    def test_engines_have_what_the_index_with_the_fewest_in_flight_wants(self):
        """A query for each KiB of an index's budget, 16 at the most; what was asked for is kept."""
        indexes = {"large": make_fake(self.scratch / "large", rows=100 * ROWS),
                   "small": make_fake(self.scratch / "small", rows=ROWS)}
        for words, fewest in ((("--dram-budget", 101 * 6500), 6), (("--dram-budget", 101 * 9000), 8), ((), 16),
                              (("--dram-budget", "50%"), 7), (("--dram-budget", 101 * 6500, "--inflight", 3), 3)):
            server = self.serve("--workers", 1, *words, indexes=indexes, fake=True)
            with server.client() as client:
                self.assertEqual([client.call("info", {"index": name})["inflight"] for name in indexes],
                                 [fewest, fewest])


class Load(ProtocolTest):
    def test_changes_under_load_fail_no_query_and_keep_the_budget(self):
        data = Indexes.get()
        server = self.serve("--workers", 2, "--inflight", 4, indexes={"a": data.build("l2")})
        truth = ((data.query[:, None, :] - data.base[None, :, :]) ** 2).sum(axis=2).argsort(axis=1)[:, :10]
        problems, counts, stop = [], [0] * 3, threading.Event()

        def load(loader):
            with server.client() as client:
                while not stop.is_set():
                    found = results(client.call("search", search_params("a", data.query, search_list=100)))[0]
                    right = np.mean([len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist())]) / 10
                    counts[loader] += 1
                    if right < 0.9:
                        problems.append(right)

        loaders = [threading.Thread(target=load, args=(loader,)) for loader in range(3)]
        with server.client() as client:
            error = self.expect("resource_exhausted", client, "reload", {"index": "a", "dram_budget": 1})
            least = int(re.search(r"the least is (\d+)", error.message).group(1))
            for loader in loaders:
                loader.start()
            turn = 0
            # Until each has searched under several of them, however slow the machine is.
            while turn < 30 or (min(counts) < 6 and all(loader.is_alive() for loader in loaders)):
                budget = (least, 2 * least, least + 100000, 0)[turn % 4]
                self.assertEqual(client.call("reload", {"index": "a", "dram_budget": budget})["dram_budget"], budget)
                memory = client.call("info", {"index": "a"})["dram_bytes"]
                self.assertEqual(memory["budget"], budget)
                self.assertTrue(budget == 0 or memory["total"] <= budget, memory)
                turn += 1
            stop.set()
            for loader in loaders:
                loader.join()
        self.assertEqual(problems, [])
        self.assertGreater(min(counts), 5)


if __name__ == "__main__":
    main()
