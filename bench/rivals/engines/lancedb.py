"""LanceDB: product-quantised inverted lists on disk, refined from the vectors on disk. It reads
through the page cache, which is part of its memory."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common import THREADS, Engine, chunks, steps, variant


# Of k-means, which is nearly all of a build. By default 50, which find no more (docs/adr/0036);
# faiss does 10 for lists and 25 for codes.
ITERATIONS = 15


class LanceDb(Engine):
    def variants(self, data):
        searches = [{"nprobes": nprobes, "refine": 10} for nprobes in steps(4, 256, 1)]
        return [variant("IVF_PQ", {"iterations": ITERATIONS}, searches)]

    def build(self, data, folder, iterations):
        import lancedb
        import pyarrow as pa
        kind = pa.schema([("id", pa.int32()), ("vector", pa.list_(pa.float32(), data.dim))])
        base = data.base()

        def batches():
            for begin, end in chunks(data.rows):
                flat = pa.array(base[begin:end].reshape(-1))
                vectors = pa.FixedSizeListArray.from_arrays(flat, data.dim)
                ids = pa.array(np.arange(begin, end, dtype=np.int32))
                yield pa.RecordBatch.from_arrays([ids, vectors], schema=kind)

        reader = pa.RecordBatchReader.from_batches(kind, batches())
        table = lancedb.connect(folder).create_table("base", reader)
        table.create_index(metric="l2", index_type="IVF_PQ",
                           num_partitions=max(16, int(data.rows**0.5)),
                           num_sub_vectors=sub_vectors(data.dim),
                           max_iterations=iterations)

    def open(self, data, folder):
        import lancedb
        self.table = lancedb.connect(folder).open_table("base")
        self.pool = ThreadPoolExecutor(THREADS)

    def search(self, queries, k, threads=THREADS, nprobes=20, refine=10):
        def one(vector):
            found = (self.table.search(vector).limit(k).nprobes(nprobes).refine_factor(refine)
                     .select(["id"]).to_arrow())
            ids = found["id"].to_numpy()
            return np.pad(ids, (0, k - len(ids)), constant_values=-1)

        if threads == 1:
            return np.stack([one(vector) for vector in queries])
        return np.stack(list(self.pool.map(one, queries)))


def sub_vectors(dim):
    """Near dim / 4, and a divisor of dim, as for faiss."""
    return max(m for m in range(1, dim // 3 + 1) if dim % m == 0)


ENGINE = LanceDb()
