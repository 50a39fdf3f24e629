#!/usr/bin/env python3
"""The figures that no clock makes noisy against their baseline (bench/regress), one case a run; and
the comparison itself, which must see what got worse."""

import io
import os
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["FATHOM_SOURCE"])
sys.path.insert(0, str(SOURCE / "bench" / "regress"))

import json  # noqa: E402

import regress  # noqa: E402

PROGRAMS = Path(os.environ["FATHOM_BIN"])
BASELINE = json.loads(regress.BASELINE.read_text(encoding="utf-8"))
HINT = "when it is meant: ./dev regress --accept 'why', and commit the baseline"


@unittest.skipUnless(regress.cpu_can(), "the baseline is of AVX2")
class Figures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory(prefix="fathom-regress-") as work:
            cls.measurement = regress.Measurement(PROGRAMS, Path(work))
            cls.figures = cls.measurement.run()

    def check(self, wanted):
        """Fails with a line for each figure that got worse; what got better is printed."""
        verdicts = [
            each for each in regress.compare(BASELINE["figures"], self.figures) if wanted(each[1])
        ]
        text = io.StringIO()
        regress.show(verdicts, text)
        print(text.getvalue(), end="", file=sys.stderr)
        bad = [each for each in verdicts if each[-1] in ("worse", "gone")]
        self.assertFalse(bad, f"\n{text.getvalue()}{HINT}")
        self.assertTrue(verdicts)

    def test_no_count_is_worse_than_the_baseline(self):
        self.check(lambda figure: figure not in regress.INSTRUCTIONS)

    def test_no_more_instructions_than_the_baseline(self):
        if not self.measurement.valgrind:
            self.skipTest("valgrind is not installed")
        if regress.toolchain(PROGRAMS) != BASELINE["toolchain"]:
            self.skipTest(f"the baseline is of {BASELINE['toolchain']}")
        self.check(lambda figure: figure in regress.INSTRUCTIONS)


class Comparison(unittest.TestCase):
    BEFORE = {"run": {"reads_per_query": 2.0, "recall": 0.98, "instructions_per_query": 1000}}

    def verdict(self, figure, now):
        figures = {"run": {**self.BEFORE["run"], figure: now}}
        verdicts = {each[1]: each[-1] for each in regress.compare(self.BEFORE, figures)}
        self.assertEqual({verdicts[other] for other in verdicts if other != figure}, {"same"})
        return verdicts[figure]

    def test_each_figure_has_its_worse_way(self):
        self.assertEqual(self.verdict("reads_per_query", 2.0), "same")
        self.assertEqual(self.verdict("reads_per_query", 2.01), "worse")
        self.assertEqual(self.verdict("reads_per_query", 1.99), "better")
        self.assertEqual(self.verdict("recall", 0.979), "worse")
        self.assertEqual(self.verdict("recall", 0.981), "better")

    def test_instructions_have_a_small_tolerance(self):
        self.assertEqual(self.verdict("instructions_per_query", 1009), "same")
        self.assertEqual(self.verdict("instructions_per_query", 1011), "worse")
        self.assertEqual(self.verdict("instructions_per_query", 989), "better")

    def test_a_figure_that_vanished_is_seen(self):
        verdicts = [each[-1] for each in regress.compare(self.BEFORE, {"run": {"recall": 0.98}})]
        self.assertEqual(sorted(verdicts), ["gone", "gone", "same"])

    def test_every_figure_of_the_baseline_is_known(self):
        for run, figures in BASELINE["figures"].items():
            self.assertEqual(figures.keys() - regress.FIGURES.keys(), set(), run)
            if "build" not in run:
                self.assertIn("instructions_per_query", figures, run)


if __name__ == "__main__":
    unittest.main()
