"""The second reader against real indexes: everything that FORMAT.md promises, read without libfathom.

Builds small indexes with fathom-build (FATHOM_BIN), reads them by second_reader.py and compares with the vectors that went in.
Exits 77 (skipped) where numpy or xxhash are missing.
"""
import os
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy as np
    import second_reader
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

BIN = os.environ["FATHOM_BIN"]
CASES = [("l2", "<f4", 24), ("cos", "<f2", 40), ("ip", "<f4", 13), ("l2", "u1", 16), ("l2", "i1", 6), ("cos", "i1", 33),
         ("l2", "<f4", 1500)]


def make_vectors(rows, dim, dtype, seed):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, dim))
    values = centres[rng.integers(20, size=rows)] + 0.3 * rng.normal(size=(rows, dim))
    if dtype == "u1":
        return np.clip(values * 30 + 128, 0, 255).astype("u1")
    if dtype == "i1":
        return np.clip(values * 30, -128, 127).astype("i1")
    return values.astype(dtype)


class SecondReader(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        cls.directory = scratch.name

    def build(self, metric, dtype, dim, rows=700):
        """Each index is built once, and read anew for each test."""
        vectors = make_vectors(rows, dim, dtype, dim)
        folder = os.path.join(self.directory, str(rows))
        path = os.path.join(folder, f"{metric}-{dim}.npy")
        out = path[:-4] + ".fathom"
        if not os.path.exists(out):
            os.makedirs(folder, exist_ok=True)
            np.save(path, vectors)
            subprocess.run([f"{BIN}/fathom-build", "build", "--input", path, "--out", out, "--metric", metric], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return vectors, second_reader.Index(os.path.join(out, "index.fathom"))

    def work(self, index, vectors, query=False):
        v = vectors.astype(np.float64)
        if index.metric == "cos":
            return v / np.linalg.norm(v, axis=1, keepdims=True)
        if index.metric == "ip":
            norms = (v ** 2).sum(axis=1)
            last = np.zeros(len(v)) if query else np.sqrt(np.maximum(index.max_norm ** 2 - norms, 0))
            return np.concatenate([v, last[:, None]], axis=1)
        return v

    def test_vectors_and_ids_come_back_bit_for_bit(self):
        for metric, dtype, dim in CASES:
            with self.subTest(metric=metric, dtype=dtype, dim=dim):
                vectors, index = self.build(metric, dtype, dim)
                self.assertEqual(index.check_pages(), [])
                ids = index.ids()
                self.assertEqual(sorted(ids.tolist()), list(range(len(vectors))))
                np.testing.assert_array_equal(index.vectors(), vectors[ids.astype(int)])

    def test_the_8_bit_form_is_near(self):
        for metric, dtype, dim in CASES:
            with self.subTest(metric=metric, dtype=dtype, dim=dim):
                vectors, index = self.build(metric, dtype, dim)
                work = self.work(index, vectors[index.ids().astype(int)])
                error = np.abs(index.records() - work) / (index.record_scales() * index.step)
                self.assertLessEqual(error.max(), 0.5 + 1e-3)

    def test_lists_cells_and_entries_refer_to_rows(self):
        vectors, index = self.build("l2", "<f4", 24)
        lists, seen, stack = index.lists(), set(), []
        for row, neighbours in enumerate(lists):
            self.assertEqual(neighbours, sorted(set(neighbours)))
            self.assertNotIn(row, neighbours)
            self.assertLessEqual(len(neighbours), index.degree_max)
        stack = [int(e) for e in index.entries()]
        seen.update(stack)
        while stack:
            for neighbour in lists[stack.pop()]:
                if neighbour not in seen:
                    seen.add(neighbour)
                    stack.append(neighbour)
        self.assertEqual(len(seen), len(vectors))
        first = index.cell_first()
        self.assertEqual((first[0], first[-1]), (0, len(vectors)))
        self.assertTrue((np.diff(first.astype(np.int64)) >= 0).all())

    def test_ranks_of_heat_hold_equal_shares_of_the_lists(self):
        _, index = self.build("l2", "<f4", 24)
        lengths = np.array(index.list_lengths())
        heat, begin = index.heat(), 0
        self.assertEqual(len(heat), index.rows)
        for rank in range(256):
            end = int(lengths[heat <= rank].sum())
            self.assertLess(end - lengths.max(), (rank + 1) * index.list_bytes / 256)
            self.assertGreaterEqual(end + lengths.max(), (rank + 1) * index.list_bytes / 256)
            self.assertGreaterEqual(end, begin)
            begin = end
        self.assertEqual(begin, index.list_bytes)

    def test_estimates_follow_the_document(self):
        for metric, dtype, dim in CASES[:5]:
            with self.subTest(metric=metric, dtype=dtype, dim=dim):
                vectors, index = self.build(metric, dtype, dim)
                query = self.work(index, make_vectors(1, dim, dtype, 1234), query=True)[0]
                units = (query - index.mean) / index.step
                rows = (index.records() - index.mean) / index.step
                truth = ((rows - units) ** 2).sum(axis=1)
                errors = [np.abs(index.estimate(l, units) - truth).mean() / truth.mean()
                          for l in range(len(index.levels))]
                self.assertLess(errors[-1], 0.05)
                self.assertLess(errors[-1], errors[0] + 1e-9)

    def test_scan_repeats_codes_and_factors_of_one_level(self):
        for metric, dtype, dim in CASES:
            with self.subTest(metric=metric, dtype=dtype, dim=dim):
                _, index = self.build(metric, dtype, dim)
                codes, factors, level = index.scan()
                np.testing.assert_array_equal(codes, index.codes()[:, :codes.shape[1]])
                np.testing.assert_array_equal(factors, index.packed_factors(level))

    def test_a_flipped_bit_is_found(self):
        _, index = self.build("l2", "u1", 16)
        data = bytearray(index.data)
        data[5 * 4096 + 77] ^= 4
        index.data = bytes(data)
        self.assertEqual(index.check_pages(), [5])

    def test_the_manifest_tells_where_the_index_comes_from(self):
        _, index = self.build("l2", "u1", 16)
        manifest = index.manifest()
        self.assertEqual(manifest["input"]["name"], "l2-16.npy")
        self.assertEqual((manifest["input"]["rows"], manifest["input"]["dim"]), (700, 16))
        self.assertEqual(manifest["options"]["metric"], "l2")
        self.assertIn("seed", manifest["options"])
        for key in ("version", "format_version", "cpu_level"):
            self.assertIn(key, manifest["fathom"])

    def test_a_small_index_may_do_without_operating_points(self):
        _, index = self.build("l2", "u1", 16)
        self.assertEqual(index.points(), [])

    def test_operating_points_are_in_order_and_possible(self):
        for metric, dtype, dim in CASES[:3]:
            with self.subTest(metric=metric, dtype=dtype, dim=dim):
                _, index = self.build(metric, dtype, dim, rows=2500)
                points = index.points()
                code_bytes = [level["code_bytes"] for level in index.levels] + [index.sections["records"]["row_bytes"]]
                self.assertGreater(len(points), 0)
                order = [point[:5] for point in points]
                self.assertEqual(order, sorted(order))
                for navigator, size, k, search_list, threshold, *figures in points:
                    self.assertIn(navigator, (1, 2))
                    self.assertIn(size, code_bytes)
                    self.assertLessEqual(k, search_list if navigator == 1 else 4 * search_list)
                    self.assertTrue(0 < threshold < 0.5)
                    for recall, low, reads in (figures[:3], figures[3:]):
                        self.assertTrue(0 <= low <= recall <= 1)
                        self.assertGreaterEqual(reads, 0)
                    if "vectors" in index.sections:  # re-ranking reads more, and finds more
                        self.assertGreaterEqual(figures[5], figures[2])
                        self.assertGreater(figures[3], figures[0] - 0.01)
                    else:
                        self.assertEqual(figures[3:], [0, 0, 0])


if __name__ == "__main__":
    unittest.main(verbosity=1)
