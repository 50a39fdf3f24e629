#!/usr/bin/env python3
"""fathom-cli, and with it libfathom_client, against a real fathom-server: every verb, over TCP and a unix
socket, answers compared with exact ground truth."""

import json
import re
import struct
import unittest

import numpy as np

from client_support import BIN, DIM, K, QUERIES, ROWS, Server, World, read_truth, recall, run

WORLD = SERVER = None


def setUpModule():
    global WORLD, SERVER
    WORLD = World()
    unittest.addModuleCleanup(WORLD.close)
    SERVER = Server(WORLD)
    unittest.addModuleCleanup(SERVER.close)


def cli(verb, *arguments, address=None, status=0, **environment):
    return run("fathom-cli", verb, "--server", address or SERVER.tcp, *arguments, status=status, **environment)


def cli_json(verb, *arguments, **more):
    return json.loads(cli(verb, *arguments, "--json", **more)[0])


def query(out, *arguments, address=None):
    path = WORLD.folder / out
    cli("query", "--index", "tiny", "--vectors", WORLD.query, "--out", path, *arguments, address=address)
    return path


class Query(unittest.TestCase):
    def test_results_match_the_ground_truth(self):
        ids, distances = read_truth(query("a.bin", "-k", K, "--search-list", 200, "--exact-distances"))
        self.assertEqual(ids.shape, (QUERIES, K))
        self.assertGreaterEqual(recall(ids, WORLD.truth_ids), 0.98)
        same = ids == WORLD.truth_ids
        np.testing.assert_allclose(distances[same], WORLD.truth_distances[same], rtol=1e-4)

    def test_tcp_and_unix_sockets_batches_and_pipelining_give_the_same_bytes(self):
        expected = query("b0.bin").read_bytes()
        for number, (address, batch, inflight) in enumerate(
            ((SERVER.unix, 64, 4), (SERVER.tcp, 1, 1), (SERVER.tcp, 1, 64), (SERVER.unix, 7, 16), (SERVER.tcp, 1000, 1))
        ):
            path = query(f"b{number + 1}.bin", "--batch", batch, "--inflight", inflight, address=address)
            self.assertEqual(path.read_bytes(), expected, (address, batch, inflight))

    def test_wide_ids_are_the_same_ids(self):
        narrow, distances = read_truth(query("c.bin"))
        wide, same_distances = read_truth(query("c64.bin", "--ids64"), np.uint64)
        np.testing.assert_array_equal(narrow, wide)
        np.testing.assert_array_equal(distances, same_distances)

    def test_json_holds_what_the_file_holds(self):
        ids, distances = read_truth(query("d.bin", "-k", 3))
        document = cli_json("query", "--index", "tiny", "--vectors", WORLD.query, "-k", 3)
        self.assertEqual([row["ids"] for row in document["results"]], ids.tolist())
        self.assertTrue(np.allclose([row["distances"] for row in document["results"]], distances))
        self.assertEqual((document["queries"], document["k"], document["complete"]), (QUERIES, 3, True))

    def test_the_table_is_for_people(self):
        table, summary = cli("query", "--index", "tiny", "--vectors", WORLD.query, "-k", 3)
        self.assertEqual(table.count("query "), QUERIES)
        self.assertRegex(table, r"(?m)^query 0\n +rank +id +distance\n +1 +\d+ +[\d.]+$")
        self.assertIn(f"{QUERIES} queries", summary)

    def test_rows_with_fewer_results_end_early(self):
        document = cli_json("query", "--index", "tiny", "--vectors", WORLD.query, "-k", 4096, "--search-list", 8192,
                            "--batch", 8)
        for row in document["results"]:
            self.assertLessEqual(len(row["ids"]), ROWS)
            self.assertEqual(len(row["ids"]), len(set(row["ids"])))
            self.assertEqual(row["distances"], sorted(row["distances"]))

    def test_queries_may_be_cast(self):
        ids, _ = read_truth(query("e.bin", "--dtype", "f16", "--search-list", 200))
        self.assertGreaterEqual(recall(ids, WORLD.truth_ids), 0.95)
        _, message = cli("query", "--index", "tiny", "--vectors", WORLD.query, "--dtype", "u8", status=4)
        self.assertIn("row 0", message)

    def test_target_recall_picks_an_operating_point(self):
        ids, _ = read_truth(query("f.bin", "--target-recall", 0.95))
        self.assertGreaterEqual(recall(ids, WORLD.truth_ids), 0.93)

    def test_explain_tells_what_a_query_took(self):
        document = cli_json("explain", "--index", "tiny", "--vectors", WORLD.query, "--row", 7, "-k", 3)
        ids, _ = read_truth(query("g.bin", "-k", 3))
        self.assertEqual(document["results"][0]["ids"], ids[7].tolist())
        self.assertGreater(document["stats"]["hops"], 0)
        self.assertIn(document["stats"]["io_engine"], ("uring", "pread"))
        self.assertRegex(cli("explain", "--index", "tiny", "--vectors", WORLD.query)[0], r"(?m)^hops +\d+ in")


class Admin(unittest.TestCase):
    def test_ping_and_info_answer_over_both_sockets(self):
        for address in SERVER.addresses():
            self.assertRegex(cli_json("ping", address=address)["server"], r"^fathom-server/\d")
            info = cli_json("info", "tiny", address=address)
            self.assertEqual((info["rows"], info["dim"], info["metric"]), (ROWS, DIM, "l2"))
            self.assertRegex(info["generation"], r"^[0-9a-f]{16}$")

    def test_the_environment_names_the_server(self):
        self.assertIn(SERVER.unix, run("fathom-cli", "ping", FATHOM_SERVER=SERVER.unix)[0])

    def test_info_of_all_and_stats_are_shown_to_people(self):
        self.assertRegex(cli("info")[0], r"(?m)^ +rows +4000$")
        self.assertRegex(cli("stats")[0], r"(?m)^uptime_s +[\d.]+$")
        self.assertGreater(cli_json("stats")["requests"]["hello"], 0)

    def test_reload_keeps_an_index_that_has_not_changed(self):
        self.assertFalse(cli_json("reload", "tiny")["changed"])

    def test_reload_takes_a_budget(self):
        before = cli_json("info", "tiny")["dram_bytes"]
        share = 20 * ROWS * DIM * 4
        for budget, text in ((8 << 20, "8MiB"), (share, "2000%"), (before["budget"], before["budget"])):
            self.assertEqual(cli_json("reload", "tiny", "--dram-budget", text)["dram_budget"], budget)
            memory = cli_json("info", "tiny")["dram_bytes"]
            self.assertEqual(memory["budget"], budget)
            self.assertTrue(budget == 0 or memory["total"] <= budget)

    def test_reload_takes_a_planned_recall(self):
        self.assertEqual(cli_json("reload", "tiny", "--plan-recall", 0.9)["plan_recall"], 0.9)
        info = cli_json("info", "tiny")
        self.assertEqual(info["plan_recall"], 0.9)
        self.assertTrue(0 <= info["recall_reached"] <= 1)
        self.assertEqual(cli_json("reload", "tiny", "--plan-recall", 0)["plan_recall"], 0)

    def test_rerank_is_asked_for_and_shown(self):
        for word, shown in (("on", True), ("off", False)):
            arguments = ("--index", "tiny", "--vectors", WORLD.query, "--rerank", word)
            self.assertEqual(cli_json("explain", *arguments)["stats"]["reranked"], int(shown))
            self.assertEqual(", re-ranked" in cli("explain", *arguments)[0], shown)
        self.assertIn("--rerank", cli("query", "--index", "tiny", "--vectors", WORLD.query, "--rerank", "yes", status=2)[1])

    def test_the_example_of_the_header_works(self):
        example = BIN / "fathom_client_example"
        if not example.exists():
            self.skipTest("fathom_client_example is not built")
        self.assertRegex(run("fathom_client_example", SERVER.unix, "tiny", DIM)[0], r"^ 1  \d+  [\d.e+]+\n")


class Failures(unittest.TestCase):
    def test_an_error_of_the_server_ends_with_1_and_its_name(self):
        arguments = ("--index", "nowhere", "--vectors", WORLD.query)
        output, message = cli("query", *arguments, "--json", status=1)
        self.assertEqual(json.loads(output)["error"]["code"], "not_found")
        self.assertIn("not_found", message)
        _, message = cli("info", "nowhere", status=1)
        self.assertIn("nowhere", message)

    def test_queries_of_another_dimension_are_refused(self):
        path = WORLD.folder / "other.fbin"
        path.write_bytes(struct.pack("<II3f", 1, 3, 1, 2, 3))
        _, message = cli("query", "--index", "tiny", "--vectors", path, status=1)
        self.assertIn(f"invalid_argument: {path}, request of rows 0 to 0: shape: dimension 3", message)
        self.assertIn(str(DIM), message)

    def test_queries_that_are_no_numbers_are_refused_by_file_and_row(self):
        rows = np.ones((100, DIM), np.float32)
        rows[70, 3] = np.nan
        path = WORLD.folder / "nan.npy"
        for dtype in (np.float32, np.float16):
            np.save(path, rows.astype(dtype))
            for arguments in (("query", "--batch", 16), ("query", "--dtype", "i8"), ("explain", "--row", 70)):
                with self.subTest(arguments, dtype=dtype):
                    _, message = cli(arguments[0], "--index", "tiny", "--vectors", path, *arguments[1:], status=4)
                    self.assertIn(f"{path}: row 70, column 3 is NaN", message)

    def test_an_output_that_cannot_be_is_told_before_anything_is_asked(self):
        for out, text in ((WORLD.folder / "none" / "r.bin", "its folder does not exist"), (WORLD.folder, "is a directory")):
            _, message = run("fathom-cli", "query", "--server", "127.0.0.1:1", "--index", "tiny", "--vectors", WORLD.query,
                             "--out", out, status=3)
            self.assertIn(text, message)

    def test_no_server_ends_with_3_and_says_what_to_do(self):
        _, message = cli("ping", address="127.0.0.1:1", status=3)
        self.assertIn("127.0.0.1:1", message)
        self.assertIn("fathom-server", message)

    def test_the_admin_port_is_told_from_the_servers(self):
        with Server(WORLD, "--http", "127.0.0.1:0", name="http") as server:
            http = re.search(r"http listening on (\S+)", server.log()).group(1)
            _, message = cli("ping", "--timeout", "1s", address=http, status=3)
            self.assertRegex(message, "HTTP port")

    def test_wrong_usage_ends_with_2(self):
        for arguments in (("ping", "--colour"), ("query", "--index", "tiny"), ("reload",), ("query", "-k", "0"),
                          ("ping", "--timeout", "soon"), ("ping", "extra"), ("pong",)):
            with self.subTest(arguments):
                run("fathom-cli", *arguments, status=2)
        cli("ping", address="nonsense", status=2)
        cli("explain", "--index", "tiny", "--vectors", WORLD.query, "--row", QUERIES, status=2)

    def test_a_file_that_is_missing_ends_with_3(self):
        cli("query", "--index", "tiny", "--vectors", WORLD.folder / "none.fbin", status=3)

    def test_a_token_is_asked_for_and_checked(self):
        path = WORLD.folder / "token"
        path.write_text("open sesame\n")
        path.chmod(0o600)
        with Server(WORLD, "--token-file", path, name="guarded") as guarded:
            _, message = cli("ping", address=guarded.tcp, status=1)
            self.assertIn("unauthenticated", message)
            cli("ping", "--token", "wrong", address=guarded.tcp, status=1)
            cli("ping", "--token", "open sesame", address=guarded.tcp)
            cli("ping", address=guarded.unix, FATHOM_TOKEN="open sesame")

    def test_shutdown_ends_the_server_in_good_order(self):
        with Server(WORLD, name="brief") as brief:
            cli("shutdown", address=brief.unix)
            self.assertEqual(brief.wait(), 0)
            cli("ping", address=brief.tcp, status=3)


if __name__ == "__main__":
    unittest.main()
