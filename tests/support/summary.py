#!/usr/bin/env python3
"""Sums up test runs: ctest's JUnit files in, one line "N passed, N failed, N skipped" out.

ctest counts executables, but a case is what a developer wrote, and one skipped case inside a
passing executable must be seen. So the cases that a test printed are counted (cmocka's
"[       OK ] name", Python unittest's "Ran 4 tests"); a test that prints neither is one case.
A test that failed without naming a case (a crash, a time-out) counts as one failed.

    summary.py RUN.xml ...    exit 1 when something failed, or nothing passed
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

# "[  ERROR   ] --- 0x1 != 0x2" is a message, and "[  FAILED  ] 2 test(s)" the list at the end.
CMOCKA = re.compile(r"^\[ +(OK|FAILED|ERROR|SKIPPED) +\] (?!---|\d+ test)(\S.*)$", re.MULTILINE)
CMOCKA_VERDICTS = {"OK": "passed", "FAILED": "failed", "ERROR": "failed", "SKIPPED": "skipped"}
# "Ran 4 tests in 0.001s", a blank line, "FAILED (failures=1, skipped=1)"
UNITTEST = re.compile(r"^Ran (\d+) tests? in .*\n\n[A-Z ]+?(?: \((.*)\))?$", re.MULTILINE)


def count_cases(output, state):
    """The cases of one ctest test by verdict. state is ctest's own: run, fail, notrun, disabled."""
    if state in ("notrun", "disabled"):
        return Counter(skipped=1)
    cases = Counter()
    # A set: cmocka lists what failed once more at the end.
    for verdict, _ in {(verdict, name) for verdict, name in CMOCKA.findall(output)}:
        cases[CMOCKA_VERDICTS[verdict]] += 1
    for ran, details in UNITTEST.findall(output):
        named = dict(part.split("=") for part in details.split(", ") if part)
        failed = int(named.get("failures", 0)) + int(named.get("errors", 0))
        skipped = int(named.get("skipped", 0))
        # A class that is skipped as a whole counts as skipped but not as run.
        passed = max(int(ran) - failed - skipped, 0)
        cases.update(passed=passed, failed=failed, skipped=skipped)
    if state == "fail" and not cases["failed"]:
        cases["failed"] = 1
    if not sum(cases.values()):
        cases["passed"] = 1
    return cases


def read_xml(path):
    """ctest copies control characters of a test's output as they are; XML has no place for them."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    return ElementTree.fromstring(
        re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text).encode()
    )


def read_run(path):
    """Yields (test name, cases by verdict, why it was skipped) of one JUnit file."""
    for case in read_xml(path).iter("testcase"):
        output = case.findtext("system-out") or ""
        skipped = case.find("skipped")
        why = skipped.get("message") if skipped is not None else ""
        yield case.get("name"), count_cases(output, case.get("status")), why


def main(arguments):
    total = Counter()
    for argument in arguments:
        run = Counter()
        for name, cases, why in read_run(argument):
            run += cases
            if cases["failed"]:
                print(f"failed: {name} ({Path(argument).stem}): {cases['failed']} cases")
            if cases["skipped"]:
                print(
                    f"skipped: {name} ({Path(argument).stem}): {cases['skipped']} cases"
                    + (f" ({why})" if why else "")
                )
        total += run
        print(f"{Path(argument).stem}: " + counts(run))
    print(counts(total))
    return 1 if total["failed"] or not total["passed"] else 0


def counts(cases):
    return ", ".join(f"{cases[verdict]} {verdict}" for verdict in ("passed", "failed", "skipped"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
