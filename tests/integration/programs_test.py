"""docs/PROGRAMS.md against the programs: every option of every verb, and every key that --json prints."""

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

from client_support import BIN, Server, World

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import programs  # noqa: E402

# Below these keys names are not fields: methods, codes and reasons of the protocol, stages of a build.
COUNTS = {"requests", "replies", "rejected", "errors", "stage_seconds", "stage_cpu_seconds"}
# What other documents tell: the result maps of the protocol, and the manifest.
ELSEWHERE = {
    "fathom-cli info": "PROTOCOL.md",
    "fathom-cli explain": "PROTOCOL.md",
    "fathom-cli stats": "PROTOCOL.md",
    "fathom-cli reload": "PROTOCOL.md",
    "fathom-check inspect": "FORMAT.md",
}


def keys(document):
    """Every key of a JSON document, at any depth."""
    if isinstance(document, list):
        for item in document:
            yield from keys(item)
    elif isinstance(document, dict):
        for key, value in document.items():
            yield key
            if key not in COUNTS:
                yield from keys(value)


def untold(document, text):
    """The keys that text does not name in backquotes."""
    return sorted(key for key in set(keys(document)) if f"`{key}`" not in text)


class Tables(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tables = {command: programs.table(programs.ask_help(BIN, command)) for command in programs.commands(BIN)}
        cls.document = programs.DOCUMENT.read_text(encoding="utf-8")

    def test_each_verb_has_its_options(self):
        self.assertIn("fathom-build build", self.tables)
        self.assertIn("fathom-server", self.tables)
        self.assertIn("`-m, --metric=l2\\|ip\\|cos`", self.tables["fathom-build build"])
        self.assertIn("`--message-timeout=TIME`", self.tables["fathom-server"])  # one blank behind it in --help
        self.assertEqual(list(programs.compare(self.document, self.tables)), [])

    def test_what_differs_is_found(self):
        document = programs.rewrite(self.document, self.tables)
        known = self.tables["fathom-check verify"]
        for table, wrong in (
            (known.replace("--deep", "--deeper"), ["fathom-check verify: is not as --help says"]),
            (None, ["fathom-check verify: is told of, but there is no such verb"]),
        ):
            tables = {**self.tables, "fathom-check verify": table}
            if table is None:
                del tables["fathom-check verify"]
            self.assertEqual(list(programs.compare(document, tables)), wrong)
        tables = {**self.tables, "fathom-check mend": known}
        self.assertEqual(list(programs.compare(document, tables)), ["fathom-check mend: has no section"])

    def test_tables_made_anew_are_right(self):
        changed = {**self.tables, "fathom-server": "another\n\ntable"}
        document = programs.rewrite(self.document, changed)
        self.assertNotEqual(document, self.document)
        self.assertEqual(list(programs.compare(document, changed)), [])


class Documents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        cls.server = Server(cls.world)
        cls.addClassCleanup(cls.server.close)

    def check(self, command, *arguments, codes=(0,)):
        asked = [str(BIN / command.split()[0]), command.split()[1], *map(str, arguments), "--json"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        self.assertIn(done.returncode, codes, done.stderr)
        text = programs.sections(programs.DOCUMENT.read_text(encoding="utf-8"))[command]
        if command in ELSEWHERE:
            text += (programs.DOCUMENT.parent / ELSEWHERE[command]).read_text(encoding="utf-8")
        self.assertEqual(untold(json.loads(done.stdout), text), [], command)

    def test_a_key_that_is_not_told_is_found(self):
        self.assertEqual(untold({"a": [{"b": 1}], "errors": {"c": 1}}, "`a` and b"), ["b", "errors"])

    def test_vector_files(self):
        out = self.world.folder / "drawn.fbin"
        self.check("fathom-data synth", "--count", 50, "--dim", 4, "--out", out, "--queries", 5, "--query-out",
                   self.world.folder / "asked.fbin")
        self.check("fathom-data convert", out, self.world.folder / "drawn.i8bin", "--round")
        self.check("fathom-data gt", "--base", out, "--query", self.world.folder / "asked.fbin", "--metric", "cos", "--k",
                   3, "--out", self.world.folder / "few.bin")
        self.check("fathom-data info", out)
        self.check("fathom-data info", self.world.truth)

    def test_builds_and_checks(self):
        index = self.world.folder / "second"
        self.check("fathom-build build", "--input", self.world.base, "--metric", "l2", "--out", index, "--dram-budget",
                   "5%")
        self.check("fathom-build estimate", "--input", self.world.base)
        self.check("fathom-build points", index, "--query", self.world.query)
        self.check("fathom-check inspect", index)
        self.check("fathom-check verify", index, "--deep")
        with open(index / "index.fathom", "r+b") as file:
            file.seek(-5000, os.SEEK_END)
            file.write(b"\xa5" * 16)
        self.check("fathom-check verify", index, codes=(4,))

    def test_measurements(self):
        asked = ("--query", self.world.query, "--gt", self.world.truth, "--seconds", 0.1)
        self.check("fathom-bench search", "--index", self.world.index, *asked, "--warm-up", "1ms", "--rate", 500,
                   "--dram-budget", "1,0", "--threads", 1)
        # 1: the machine was too busy to answer any within the seconds that it had.
        self.check("fathom-bench load", "--server", self.server.unix, "--index", "tiny", *asked, "--rate", 100,
                   codes=(0, 1))

    def test_asking_a_server(self):
        server = ("--server", self.server.unix)
        query = ("--index", "tiny", "--vectors", self.world.query, *server)
        for verb in ("ping", "info", "stats"):
            self.check(f"fathom-cli {verb}", *server)
        self.check("fathom-cli query", *query)
        self.check("fathom-cli query", *query, "--out", self.world.folder / "found.bin")
        self.check("fathom-cli explain", *query)
        self.check("fathom-cli reload", "--index", "tiny", *server)


if __name__ == "__main__":
    unittest.main()
