"""Starting, reloading, draining and ending; configuration and tokens."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading

import numpy as np

from support import (
    BIN, PATIENCE, TESTS, Client, Indexes, ProtocolTest, Server, let_go, main, make_fake, make_stuck, results, run,
    search_params, until)


def point(value, n=1):
    return np.full((n, 4), value, "<f4")


class Reload(ProtocolTest):
    def test_reloads_under_load_fail_no_query_and_each_reply_is_of_one_generation(self):
        data = Indexes.get()
        data.write_fbin("other.fbin", data.base[::-1])
        choices = [data.build("l2"), data.build("other", base="other.fbin")]
        served = self.scratch / "served"
        served.symlink_to(choices[0])
        server = self.serve("--workers", 2, "--dram-budget", "32MiB", indexes={"a": served})
        queries = data.query[:4]
        expected, problems, stop = {}, [], threading.Event()
        with server.client() as client:
            for choice in choices:
                self.point_to(served, choice)
                generation = client.call("reload", {"index": "a"})["generation"]
                reply = client.call("search", search_params("a", queries, exact_distances=True))
                self.assertEqual(reply["generation"], generation)
                expected[generation] = reply["ids"]
        self.assertEqual(len(expected), 2)

        def load(number):
            with server.client() as client:
                while not stop.is_set():
                    reply = client.call("search", search_params("a", queries, exact_distances=True))
                    counts[number] += 1
                    if reply["ids"] != expected.get(reply["generation"]):
                        problems.append(reply["generation"])

        counts = [0] * 4
        loaders = [threading.Thread(target=load, args=(number,)) for number in range(4)]
        for loader in loaders:
            loader.start()
        with server.client() as client:
            turn = 0
            while turn < 100 or (min(counts) <= 10 and all(loader.is_alive() for loader in loaders)):
                self.point_to(served, choices[turn % 2])
                turn += 1
                result = client.call("reload", {"index": "a"})
                self.assertTrue(result["changed"])
                reply = client.call("search", search_params("a", queries, exact_distances=True))
                self.assertEqual(reply["generation"], result["generation"])  # the new one, from the reply on
            stop.set()
            for loader in loaders:
                loader.join()
            self.assertEqual(problems, [])
            self.assertGreater(min(counts), 10)
            until(lambda: server.open_files() < 40, "old generations are closed: their files, too")

    @staticmethod
    def point_to(link, target):
        new = link.with_name("new")
        new.symlink_to(target)
        new.replace(link)

    def test_an_index_is_measured_anew_while_it_is_served(self):
        data = Indexes.get()
        directory = self.scratch / "index"
        shutil.copytree(data.build("l2"), directory)
        server = self.serve("--workers", 1, "--dram-budget", "16MiB", indexes={"a": directory})
        wanted = search_params("a", data.query, exact_distances=True, search_list=200)
        problems, stop = [], threading.Event()

        def load():
            with server.client() as client:
                while not stop.is_set():
                    reply = client.call("search", wanted)
                    if reply["ids"] != before["ids"]:
                        problems.append(reply["generation"])

        with server.client() as client:
            before = client.call("search", wanted)
            loader = threading.Thread(target=load)
            loader.start()
            run(BIN / "fathom-build", "points", directory, "--query", data.dir / "query.fbin")
            self.assertEqual(client.call("search", wanted), before)  # by the file that it has open
            reloaded = client.call("reload", {"index": "a"})
            self.assertTrue(reloaded["changed"])
            self.assertEqual(reloaded["previous_generation"], before["generation"])
            after = client.call("search", wanted)
            stop.set()
            loader.join()
            self.assertEqual(after, {**before, "generation": reloaded["generation"]})
            self.assertEqual(problems, [])

    def test_a_corrupt_index_is_refused_and_the_old_one_stays(self):
        data = Indexes.get()
        directory = self.scratch / "index"
        shutil.copytree(data.build("l2"), directory)
        server = self.serve("--dram-budget", "16MiB", "--workers", 1, "--inflight", 4, indexes={"a": directory})
        with server.client() as client:
            before = client.call("search", search_params("a", data.query))
            files = {path: path.read_bytes() for path in directory.iterdir() if path.is_file()}
            for path, content in files.items():
                for damage in (content[: len(content) // 2], bytes(len(content)), b"", b"not an index"):
                    if damage == content:
                        continue
                    path.unlink()  # the server goes on with the file that it has open
                    path.write_bytes(damage)
                    with self.subTest(file=path.name, bytes=len(damage)):
                        client.send("reload", {"index": "a"})
                        message = client.receive()
                        if message[2]:
                            self.assertIn(message[2]["code"], ("data_loss", "failed_precondition", "not_found"))
                            self.assertIn(directory.name, message[2]["message"])
                        self.assertEqual(client.call("search", search_params("a", data.query)), before)
                path.unlink()
                path.write_bytes(content)
            shutil.rmtree(directory)
            self.expect("not_found", client, "reload", {"index": "a"})
            self.assertEqual(client.call("search", search_params("a", data.query)), before)
            stats = client.call("stats")["indexes"][0]
            self.assertGreater(stats["reload_failures"], 0)

    def test_a_generation_closes_with_its_last_query(self):
        directory = make_stuck(self.scratch / "a", generation=1)
        server = self.serve("--workers", 1, indexes={"a": directory}, fake=True)
        with server.client() as client:
            slow = client.send("search", search_params("a", point(1), 1))
            server.wait_until_taken(1)
            make_fake(directory, generation=2)
            client.send("reload", {"index": "a"})
            msgid, reloaded = client.reply()
            self.assertEqual((reloaded["previous_generation"], reloaded["generation"]), (1, 2))
            self.assertEqual(client.call("search", search_params("a", point(1), 1))["generation"], 2)
            let_go(directory)
            msgid, result = client.reply()
            self.assertEqual((msgid, result["generation"]), (slow, 1))

    def test_sighup_reloads_all(self):
        directories = {name: make_fake(self.scratch / name, generation=1) for name in "ab"}
        server = self.serve(indexes=directories, fake=True)
        for directory in directories.values():
            make_fake(directory, generation=5)
        server.signal(signal.SIGHUP)
        with server.client() as client:
            until(lambda: [entry["generation"] for entry in client.call("info")["indexes"]] == [5, 5], "both are reloaded")

    def test_reload_wants_a_name_that_exists(self):
        server = self.serve(indexes={"a": make_fake(self.scratch / "a")}, fake=True)
        with server.client() as client:
            self.expect("not_found", client, "reload", {"index": "b"})
            self.expect("invalid_argument", client, "reload", {}, "index")
            make_fake(self.scratch / "a", open=-10007)
            error = self.expect("resource_exhausted", client, "reload", {"index": "a"})
            self.assertEqual(error.details["reason"], "memory")


class Ending(ProtocolTest):
    def start(self, *flags, **settings):
        return self.serve("--workers", 2, *flags, indexes={"a": make_fake(self.scratch / "a", **settings)}, fake=True)

    def start_stuck(self, *flags):
        self.directory = make_stuck(self.scratch / "a")
        return self.serve("--workers", 2, *flags, indexes={"a": self.directory}, fake=True)

    def test_sigterm_drains_what_is_in_flight(self):
        server = self.start_stuck("--drain-timeout", "3600s")
        clients = [server.client() for _ in range(4)]
        for client in clients:
            for msgid in range(40):  # more than the slots of a worker
                client.send("search", search_params("a", point(msgid), 1), msgid)
        server.wait_until_taken(4 * 40)
        server.signal(signal.SIGTERM)
        server.wait_for("draining")
        let_go(self.directory)
        for client in clients:
            answered = {}
            for _ in range(40):
                msgid, result = client.reply()
                answered[msgid] = results(result)[0][0, 0]
            self.assertEqual(answered, {msgid: msgid for msgid in range(40)})
            self.assertEqual(client.end()["code"], "unavailable")
            client.socket.close()
        self.assertEqual(server.wait(), 0)
        self.assertIn("ended", server.log())

    def test_new_connections_and_searches_are_refused_while_draining(self):
        server = self.start_stuck("--drain-timeout", "3600s")
        with server.client() as client:
            client.send("search", search_params("a", point(1), 1), 1)
            server.wait_until_taken(1)
            server.signal(signal.SIGTERM)
            server.wait_for("draining")
            with self.assertRaises((ConnectionRefusedError, ConnectionResetError)):
                server.client()
            client.send("search", search_params("a", point(1), 1), 2)
            message = client.receive()
            self.assertEqual((message[1], message[2]["code"], message[2]["retryable"]), (2, "unavailable", True))
            let_go(self.directory)
            self.assertEqual(client.reply()[0], 1)

    def test_the_drain_timeout_cuts_short(self):
        server = self.start_stuck("--drain-timeout", "300ms")
        with server.client() as client:
            client.send("search", search_params("a", point(1), 1), 1)
            server.wait_until_taken(1)
            server.signal(signal.SIGTERM)
            message = client.receive()
            self.assertEqual(message[2]["code"], "unavailable")
            self.assertEqual(server.wait(), 0)

    def test_a_signal_while_indexes_are_opened_ends_at_once(self):
        directory = self.scratch / "a"
        directory.mkdir()
        os.mkfifo(directory / "fake")  # opening it lasts until somebody writes
        for number in (signal.SIGTERM, signal.SIGINT):
            server = Server("--workers", 1, indexes={"a": directory}, fake=True, wait=False)
            self.addCleanup(server.process.kill)
            server.wait_for("config: config =")
            server.signal(number)
            self.assertEqual(server.wait(), 0)
            self.assertIn("before it was ready", server.log())
            server.log_file.close()

    def test_an_index_that_is_being_opened_does_not_hold_the_end_up(self):
        server = self.start()
        fake = self.scratch / "a" / "fake"
        fake.unlink()
        os.mkfifo(fake)
        server.signal(signal.SIGHUP)
        writer = os.open(fake, os.O_WRONLY)  # comes back once the server has begun to read; and it will read for ever
        self.addCleanup(os.close, writer)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        self.assertIn("an index was being opened", server.log())

    def test_a_second_signal_cuts_short(self):
        server = self.start_stuck("--drain-timeout", "3600s")
        with server.client() as client:
            client.send("search", search_params("a", point(1), 1), 1)
            server.wait_until_taken(1)
            server.signal(signal.SIGINT)
            server.wait_for("SIGINT: draining")
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)

    def test_shutdown_is_answered_and_drains(self):
        server = self.start()
        with server.client() as client:
            self.assertEqual(client.call("shutdown"), {})
            self.assertEqual(client.end()["code"], "unavailable")
        self.assertEqual(server.wait(), 0)

    def test_idle_connections_do_not_hold_the_end_up(self):
        server = self.start("--drain-timeout", "3600s")
        clients = [server.client() for _ in range(20)]
        clients[0].call("ping")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0)
        for client in clients:
            client.socket.close()

    def test_signal_storms_change_nothing(self):
        server = self.start(delay_us=1000)
        with server.client() as client:
            for round_ in range(20):
                for _ in range(50):
                    server.signal(signal.SIGHUP)
                    server.signal(signal.SIGPIPE)
                self.assertEqual(results(client.call("search", search_params("a", point(round_), 1)))[0][0, 0], round_)

    def test_a_killed_server_needs_no_repair(self):
        data = Indexes.get()
        path = self.scratch / "socket"
        server = Server(indexes={"a": data.build("l2")}, listen=f"unix:{path}")
        server.process.kill()
        server.process.wait()
        self.assertTrue(path.exists())  # what it left behind
        server = self.serve(indexes={"a": data.build("l2")}, listen=f"unix:{path}")
        with server.client() as client:
            self.assertEqual(client.call("ping"), {})
        self.stop(server)
        self.assertFalse(path.exists())

    def test_a_blocked_log_blocks_nothing(self):
        read, write = os.pipe()
        directory = make_fake(self.scratch / "a")
        path = self.scratch / "socket"
        process = subprocess.Popen([TESTS / "fathom-server-fake", "--index", f"a={directory}", "--listen", f"unix:{path}",
                                    "--http", "off", "--log-level", "debug"], stderr=write, stdout=subprocess.DEVNULL)
        os.close(write)
        while b"ready" not in os.read(read, 65536):
            pass
        for _ in range(30):  # reloads log a line each; nobody reads them any more
            with Client(str(path)) as client:
                for _ in range(100):
                    client.call("reload", {"index": "a"})
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(PATIENCE), 0)
        os.close(read)


class Tokens(ProtocolTest):
    def setUp(self):
        super().setUp()
        (self.scratch / "token").write_text("secret word\n")
        self.server = self.serve("--token-file", self.scratch / "token", indexes={"a": make_fake(self.scratch / "a")}, fake=True)

    def test_nothing_is_answered_before_the_token(self):
        for method, params in (("ping", {}), ("info", {}), ("stats", {}), ("shutdown", {}), ("reload", {"index": "a"}),
                               ("search", search_params("a", point(1)))):
            with self.server.client() as client:
                self.expect("unauthenticated", client, method, params)
                self.assertEqual(client.end()["code"], "unauthenticated")

    def test_wrong_tokens_end_the_connection(self):
        for token in (None, "secret", "secret word ", "secret words", "SECRET WORD", "x" * 1024):
            params = {"protocol": 1, "client": "t"}
            if token:
                params["token"] = token
            with self.server.client() as client:
                self.expect("unauthenticated", client, "hello", params)
                self.assertEqual(client.end()["code"], "unauthenticated")

    def test_with_the_token_everything_works(self):
        with self.server.client() as client:
            client.call("hello", {"protocol": 1, "client": "t", "token": "secret word"})
            self.assertTrue(client.call("search", search_params("a", point(1)))["complete"])
            client.call("reload", {"index": "a"})


class Configuration(ProtocolTest):
    def fail_to_start(self, *flags, env=None, indexes=None):
        indexes = {"a": make_fake(self.scratch / "a")} if indexes is None else indexes
        server = Server(*flags, indexes=indexes, fake=True, env=env, wait=False)
        status = server.wait()
        log = server.log()
        server.log_file.close()
        return status, log

    def test_wrong_settings_are_usage_errors_that_name_them(self):
        config = self.scratch / "fathom.conf"
        config.write_text("# ours\nworkers = 2\nio = magic\n")
        for flags, env, expected in (
            (["--no-such-flag"], {}, "no-such-flag"),
            (["--workers", "many"], {}, "--workers: 'many' is not a whole number"),
            (["--index", "nonsense"], {}, "--index: 'nonsense' is not NAME=DIR"),
            (["--index", f"a={self.scratch}"], {}, "two are named a"),
            ([], {"FATHOM_MAX_QUEUE": "0"}, "FATHOM_MAX_QUEUE: '0' is out of range"),
            (["--config", config], {}, f"{config}:3: io: 'magic' is none of: auto uring pread"),
            ([], {"FATHOM_CONFIG": str(config)}, f"{config}:3: io:"),
            (["extra"], {}, "extra"),
        ):
            with self.subTest(flags=flags, env=env):
                status, log = self.fail_to_start(*flags, env=env)
                self.assertEqual(status, 2, log)
                self.assertIn(expected, log)

    def test_what_cannot_be_opened_names_itself(self):
        for flags, indexes, expected_status, expected in (
            (["--config", self.scratch / "none"], None, 3, "none"),
            (["--token-file", self.scratch / "none"], None, 3, "none"),
            ([], {"a": self.scratch / "nowhere"}, 3, "nowhere"),
            ([], {"a": make_fake(self.scratch / "bad", open=-10003)}, 4, "offset 4096"),
            ([], {"a": make_fake(self.scratch / "new", open=-10002)}, 5, "fake"),
        ):
            status, log = self.fail_to_start(*flags, indexes=indexes)
            self.assertEqual(status, expected_status, log)
            self.assertIn(expected, log)

    def test_addresses_that_cannot_be_had_are_errors(self):
        server = self.serve(indexes={"a": make_fake(self.scratch / "a")}, fake=True)
        taken = f"127.0.0.1:{server.port}"
        for address in (taken, "127.0.0.1", "127.0.0.1:70000", "unix:", "unix:/no/such/folder/s", "::1:80", "no.such.host.invalid:80"):
            status, log = self.fail_to_start("--listen", address)
            self.assertIn(status, (2, 3), log)
            self.assertIn("cannot start", log)
        for flag in ("--listen", "--http"):  # before an index takes its time
            status, log = self.fail_to_start(flag, taken, indexes={"a": self.scratch / "nowhere"})
            self.assertIn(taken, log)
            self.assertNotIn("nowhere", log.split("cannot start")[1])
        twice = f"unix:{self.scratch / 'twice'}"
        status, log = self.fail_to_start("--listen", twice, "--listen", twice, indexes={"a": self.scratch / "nowhere"})
        self.assertIn("twice", log.split("cannot start")[1])
        self.assertFalse((self.scratch / "twice").exists())
        occupied = self.scratch / "file"
        occupied.write_text("important")
        status, log = self.fail_to_start("--listen", f"unix:{occupied}")
        self.assertIn("is not a socket", log)
        self.assertEqual(occupied.read_text(), "important")
        status, log = self.fail_to_start("--http", taken)
        self.assertIn(taken, log)

    def test_the_effective_configuration_is_logged_with_its_sources(self):
        config = self.scratch / "fathom.conf"
        config.write_text("workers = 3\ninflight = 5\nmax-queue = 77\n")
        server = self.serve("--config", config, "--workers", 1, env={"FATHOM_INFLIGHT": "6", "FATHOM_WORKERS": "9", "FATHOM_INFLIGTH": "7"},
                            indexes={"a": make_fake(self.scratch / "a")}, fake=True)
        for line in ("config: workers = 1 (flag)", "config: inflight = 6 (environment)", "config: max-queue = 77 (file)",
                     "config: io = auto (default)", f"config: index = a={self.scratch / 'a'} (flag)"):
            self.assertIn(line, server.log())
        self.assertRegex(server.log(), r"no setting of this server, and ignored: .*FATHOM_INFLIGTH")

    def test_workers_run_in_real_time_where_that_is_allowed_and_say_so_where_not(self):
        def real_time(*flags):
            server = self.serve("--workers", 2, *flags, indexes={"a": make_fake(self.scratch / "a")}, fake=True)
            policies = [os.sched_getscheduler(int(thread)) & ~os.SCHED_RESET_ON_FORK
                        for thread in os.listdir(f"/proc/{server.process.pid}/task")]
            with server.client() as client:
                client.call("search", search_params("a", point(1)))
            return policies.count(os.SCHED_FIFO), "realtime is not allowed here" in server.log()

        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            self.skipTest("these tests are not run by the fair scheduler themselves")
        self.assertIn(real_time("--urgency", "realtime"), ((2, False), (0, True)))
        self.assertEqual(real_time(), (0, False))
        self.assertEqual(real_time("--urgency", "normal"), (0, False))

    def test_json_logs_are_json(self):
        server = self.serve("--log-format", "json", "--listen", 'unix:' + str(self.scratch / 'odd "name"'),
                            indexes={"a": make_fake(self.scratch / os.fsdecode(b"no \xff utf8"))}, fake=True)
        self.stop_and_keep(server)
        lines = [json.loads(line) for line in self.kept.splitlines()]
        self.assertTrue(any(line["message"].endswith('odd "name"') and line["level"] == "info" for line in lines))
        self.assertTrue(any("/no \\xff utf8" in line["message"] for line in lines))

    def stop_and_keep(self, server):
        server.signal(signal.SIGTERM)
        server.wait()
        self.kept = server.log()

    def test_the_budget_is_split_by_raw_size(self):
        data = Indexes.get()
        data.write_fbin("half.fbin", data.base[: len(data.base) // 2])
        server = self.serve("--dram-budget", "24MiB", "--workers", 1, "--inflight", 2,
                            indexes={"whole": data.build("l2"), "half": data.build("half", base="half.fbin")})
        with server.client() as client:
            ledgers = {entry["name"]: entry["dram_bytes"] for entry in client.call("info")["indexes"]}
        self.assertAlmostEqual(ledgers["whole"]["budget"] / (24 << 20), 2 / 3, 3)
        self.assertAlmostEqual(ledgers["half"]["budget"] / (24 << 20), 1 / 3, 3)
        for ledger in ledgers.values():
            self.assertLessEqual(ledger["total"], ledger["budget"])

    def test_a_budget_that_is_too_small_says_how_much_would_do(self):
        data = Indexes.get()
        server = Server("--dram-budget", "64KiB", indexes={"a": data.build("l2")}, wait=False)
        self.assertEqual(server.wait(), 2)
        self.assertRegex(server.log(), re.compile("cannot start: .*[0-9]+"))
        server.log_file.close()

    def test_the_io_fallback_is_logged_once(self):
        data = Indexes.get()
        server = self.serve("--io", "pread", indexes={"a": data.build("l2")})
        self.assertIn("pread", server.log())
        with server.client() as client:
            stats = client.call("search", search_params("a", data.query[:1], explain=True))["stats"]
        self.assertEqual(stats["io_engine"], "pread")


if __name__ == "__main__":
    main()
