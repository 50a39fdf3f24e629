"""The golden indexes by the second reader: the vectors of make.py's formula, and the nearest rows that they have.

Exits 77 (skipped) where numpy or xxhash are missing.
"""
import json
import os
import sys
import tempfile
import unittest

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
sys.path.insert(0, GOLDEN)

try:
    import numpy as np
    import second_reader
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

import make  # pylint: disable=wrong-import-position

BIN = os.environ.get("FATHOM_BIN", "build/release/bin")
# Sections of bytes under l2 that no float has a part in.
EXACT = ("centroids", "cells", "list_pages", "lists", "heat", "ids", "entries", "records")


def nearest(metric, query, rows, k):
    rows, query = rows.astype(np.float64), np.asarray(query, np.float64)
    if metric == "l2":
        distances = ((rows - query) ** 2).sum(axis=1)
    elif metric == "ip":
        distances = -rows @ query
    else:
        distances = 1 - rows @ query / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))
    order = np.argsort(distances, kind="stable")[:k]
    return order, distances[order]


class Golden(unittest.TestCase):
    @staticmethod
    def each():
        for folder in make.SETS:
            with open(os.path.join(GOLDEN, folder, "answers.json"), encoding="ascii") as file:
                answers = json.load(file)
            yield folder, second_reader.Index(os.path.join(GOLDEN, folder, "index.fathom")), answers

    def test_every_page_is_sound(self):
        for _, index, _ in self.each():
            self.assertEqual((index.version, index.check_pages()), (3, []))

    def test_the_vectors_are_those_of_the_formula(self):
        for folder, index, answers in self.each():
            rows, ids = make.vectors(folder, answers["rows"], 1), make.external_ids(folder)
            by_id = {(ids[row] if ids else row): vector for row, vector in enumerate(rows)}
            self.assertEqual(index.vectors().tolist(), [by_id[i] for i in index.ids().tolist()])

    def test_the_answers_are_what_the_formula_gives(self):
        for folder, _, answers in self.each():
            self.assertEqual(make.answers(folder), answers)

    def test_the_nearest_rows_are_the_golden_answers(self):
        for _, index, answers in self.each():
            ids, rows = index.ids(), index.vectors()
            for query, wanted, distances in zip(answers["queries"], answers["ids"], answers["distances"]):
                order, got = nearest(answers["metric"], query, rows, answers["k"])
                self.assertEqual(ids[order].tolist(), wanted)
                np.testing.assert_allclose(got, distances, rtol=1e-6, atol=1e-9)

    def test_builds_give_the_same_rows_cells_and_lists_again(self):
        """Whatever the machine: what decides is computed in integers where the input is bytes under l2."""
        for folder in ("l2-u8", *make.BUILDS):
            golden = second_reader.Index(os.path.join(GOLDEN, folder, "index.fathom"))
            for level in ("scalar", "avx512"):
                with self.subTest(folder=folder, level=level), tempfile.TemporaryDirectory() as out:
                    make.build(os.path.dirname(BIN), folder, out, {"FATHOM_CPU_MAX": level})
                    index = second_reader.Index(os.path.join(out, "index.fathom"))
                    self.assertEqual(index.manifest()["chosen"].get("parts"), make.BUILDS.get(folder, [None])[0])
                    for name in EXACT:
                        self.assertEqual(index.payloads(name).tobytes(), golden.payloads(name).tobytes(), name)

    def test_the_graph_leads_to_every_row(self):
        for _, index, _ in self.each():
            lists, stack = index.lists(), [int(entry) for entry in index.entries()]
            seen = set(stack)
            while stack:
                fresh = set(lists[stack.pop()]) - seen
                seen |= fresh
                stack += fresh
            self.assertEqual(len(seen), index.rows)


if __name__ == "__main__":
    unittest.main(verbosity=1)
