"""The gates and the summary must be able to fail: each planted fault is found, where it stands."""

import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
import gates  # noqa: E402
import summary  # noqa: E402


def found(path, text):
    return [(line, gate) for line, gate, _ in gates.check_file(path, text)]


class Gates(unittest.TestCase):
    def test_a_direct_os_call_behind_the_door_is_found(self):
        text = "int f(void)\n{\n    return open(path, 0);\n}\n"
        self.assertEqual(found("index/format/x.c", text), [(3, "os calls")])
        self.assertEqual(found("builder/x.c", text), [(3, "os calls")])

    def test_the_door_itself_and_the_server_may_call_the_os(self):
        text = "int f(void)\n{\n    return open(path, 0);\n}\n"
        self.assertEqual(found("index/env/x.c", text), [])
        self.assertEqual(found("server/x.c", text), [])

    def test_locks_links_copies_and_processes_are_os_calls_too(self):
        for call in ("flock(fd, 2)", "copy_file_range(a, 0, b, 0, n, 0)", "realpath(p, 0)", "access(p, 4)",
                     "sysconf(1)", "strdup(s)", "fcntl(fd, 1)", "execv(p, a)"):  # fmt: skip
            self.assertEqual(found("builder/x.c", f"int f(void)\n{{\n    return {call};\n}}\n"), [(3, "os calls")], call)

    def test_calls_through_a_table_are_no_os_calls(self):
        text = "int f(void)\n{\n    return env->open(env->context, p, 0, 0) + e.pread(1);\n}\n"
        self.assertEqual(found("index/format/x.c", text), [])

    def test_comments_and_strings_are_no_calls(self):
        text = '/* open() and\n   malloc() */\nconst char *s = "mmap(\\"x\\")"; // close(2)\n'
        self.assertEqual(found("index/base/x.c", text), [])

    def test_names_that_end_in_a_call_are_others(self):
        text = "int f(void)\n{\n    return my_open(1) + reopen (2) + open_file(3);\n}\n"
        self.assertEqual(found("index/base/x.c", text), [])

    def test_malloc_is_base_mems_alone(self):
        text = "void *f(void)\n{\n    return aligned_alloc(64, 64);\n}\n"
        self.assertEqual(found("index/base/mem.c", text), [])
        self.assertEqual(found("index/base/error.c", text), [(3, "os calls")])

    def test_a_rename_outside_env_is_found(self):
        text = "int f(void)\n{\n    return env->rename(env->context, a, b);\n}\n"
        self.assertEqual(found("builder/x.c", text), [(3, "renames")])
        self.assertEqual(found("index/env/file.c", text), [])

    def test_a_third_party_outside_its_layer_is_found(self):
        for header, owner in (
            ("liburing.h", "index/env/"),
            ("cblas.h", "builder/"),
            ("event2/event.h", "server/"),
            ("msgpack.h", "client/c/"),
            ("xxhash.h", "index/format/"),
            ("hdf5.h", "datasets/"),
        ):
            text = f"#include <{header}>\n"
            self.assertEqual(found("index/search/x.c", text), [(1, "includes")], header)
            self.assertEqual(found(owner + "x.c", text), [], header)

    def test_a_long_function_is_found_at_its_start(self):
        short = "int f(void)\n{\n" + "    g();\n" * gates.FUNCTION_LINES_MAX + "}\n"
        at_limit = short.replace("    g();\n", "", 1)
        self.assertEqual(found("server/x.c", at_limit), [])
        self.assertEqual(found("server/x.c", short), [(2, "sizes")])

    def test_a_long_table_is_no_function(self):
        text = "static const int t[] = {\n" + "    1,\n" * 100 + "};\n"
        self.assertEqual(found("server/x.c", text), [])

    def test_a_long_file_is_found(self):
        line = "int x;\n"
        self.assertEqual(found("server/x.c", line * gates.FILE_LINES_MAX), [])
        self.assertEqual(found("server/x.c", line * (gates.FILE_LINES_MAX + 1)), [(1, "sizes")])

    def test_marks_and_paths_of_one_machine_are_found(self):
        self.assertEqual(found("server/x.c", "/* " + "TO" + "DO: later */\n"), [(1, "marks")])
        self.assertEqual(found("dev", "cd /ro" + "ot/fathom\n"), [(1, "machine")])
        self.assertEqual(found("docs/X.md", "see build/root/x and a/home/y\n"), [])

    def test_a_script_that_does_not_compile_is_found(self):
        self.assertEqual(found("bench/x.py", "x = 1\ndef f(:\n"), [(2, "python")])

    def test_a_link_to_nowhere_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "docs").mkdir()
            Path(folder, "README.md").write_text("# The Top: `io_uring`, etc.\n```\n# no heading\n```\n")
            text = "[a](../README.md#the-top-io_uring-etc) [b](https://example.org/x#y) [.](.)\n"
            text += "[c](gone.md), [d](#here)\n[e](../README.md#no-heading)\n[f](#there)\n## Here\n"
            lines = [line for line, _, _ in gates.check_links(Path(folder), "docs/X.md", text)]
            self.assertEqual(lines, [2, 3, 4])

    def test_a_name_that_its_document_does_not_tell_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "docs").mkdir()
            Path(folder, "docs", "PROTOCOL.md").write_text("### ping\n| *`rows`* | int | `\"rate\"` and token\n")
            text = (
                '#define PROTOCOL_METHOD_PING "ping"\n#define PROTOCOL_KEY_ROWS                  \\\n    "rows"\n'
                '#define PROTOCOL_REASON_RATE "rate"\n#define PROTOCOL_KEY_TOKEN "token"\n'
            )
            wrong = list(gates.check_names(Path(folder), "client/protocol.h", text))
            self.assertEqual([line for line, _, _ in wrong], [5])
            # A pattern that finds nothing guards nothing.
            self.assertEqual(len(list(gates.check_names(Path(folder), "client/protocol.h", ""))), 1)

    def test_a_function_that_only_tests_call_is_found_unless_it_says_so(self):
        header = (
            "/* What it is. */\nint used(void);\nint *spare(const char *name,\n           int n) FATHOM_MUST_USE;\n"
            "/* For the tests: a door. */\nvoid door(void (*fn)(void *context), void *context);\n"
            "int and_this(void);\n/* More. */\nint last(void);\n"
            "static inline int inner(void)\n{\n    return spare_not() + by_header();\n}\nint by_header(void);\n"
        )
        source = "int used(void)\n{\n    return last() /* spare() */;\n}\nint *spare(const char *s, int n)\n{\n}\n"
        source += "int last(void)\n{\n}\nint by_header(void)\n{\n}\nint main(void)\n{\n    used();\n}\n"
        texts = {"server/x.h": header, "server/x.c": source}
        found = [(path, line) for path, line, _, what in gates.check_uncalled(texts)]
        self.assertEqual(found, [("server/x.h", 3)])
        texts["server/x.h"] = header.replace("What it is", "A spy, for tests")
        self.assertEqual(list(gates.check_uncalled(texts)), [])
        self.assertEqual(list(gates.check_uncalled({"index/include/x.h": header, "x.c": source})), [])

    def test_a_decision_that_is_not_listed_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "docs", "adr").mkdir(parents=True)
            for name in ("0001-a.md", "0002-b.md", "README.md"):
                Path(folder, "docs", "adr", name).write_text("")
            text = "0002-b.md\n- [1](0001-a.md) A\n"
            wrong = list(gates.check_file("docs/adr/README.md", text, Path(folder)))
            self.assertEqual([(gate, what.split()[0]) for _, gate, what in wrong], [("records", "0002-b.md")])

    def test_the_files_that_gates_name_are_there(self):
        for name in (*gates.NAMES, *gates.OS_CALL_OWNERS):
            self.assertTrue((Path(__file__).resolve().parents[3] / name).exists(), name)

    def test_a_folder_with_a_fault_exits_with_1(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "index", "base", "x.c")
            path.parent.mkdir(parents=True)
            path.write_text("int x;\n")
            with open(os.devnull, "w") as sys.stdout:
                self.addCleanup(setattr, sys, "stdout", sys.__stdout__)
                self.assertEqual(gates.main([folder]), 0)
                path.write_text("void f(void)\n{\n    sync();\n}\n")
                self.assertEqual(gates.main([folder]), 1)
                path.write_text("void f(void)\n{\n}\n")
                path.with_suffix(".h").write_text("void f(void);\n")
                self.assertEqual(gates.main([folder]), 1)


class Summary(unittest.TestCase):
    def cases(self, output, state="run"):
        counted = summary.count_cases(output, state)
        return counted["passed"], counted["failed"], counted["skipped"]

    def test_cmocka_cases_are_counted_once(self):
        output = (
            "[       OK ] a\n[  ERROR   ] --- 0x1 != 0x2\n[  FAILED  ] b\n[  SKIPPED ] c\n"
            "[  PASSED  ] 1 test(s).\n[  SKIPPED ] 1 test(s), listed below:\n"
            "[  SKIPPED ] c\n[  FAILED  ] 1 test(s), listed below:\n[  FAILED  ] b\n"
        )
        self.assertEqual(self.cases(output, "fail"), (1, 1, 1))

    def test_unittest_cases_are_counted(self):
        self.assertEqual(
            self.cases("Ran 4 tests in 0.1s\n\nFAILED (failures=1, skipped=2)\n", "fail"), (1, 1, 2)
        )
        self.assertEqual(self.cases("Ran 3 tests in 0.1s\n\nOK\n"), (3, 0, 0))
        self.assertEqual(self.cases("Ran 0 tests in 0.1s\n\nOK (skipped=1)\n"), (0, 0, 1))

    def test_a_crash_after_good_cases_has_failed(self):
        self.assertEqual(self.cases("[       OK ] a\n", "fail"), (1, 1, 0))

    def test_a_test_without_cases_is_one(self):
        self.assertEqual(self.cases("hello\n"), (1, 0, 0))
        self.assertEqual(self.cases("", "fail"), (0, 1, 0))
        self.assertEqual(self.cases("", "notrun"), (0, 0, 1))


if __name__ == "__main__":
    unittest.main()
