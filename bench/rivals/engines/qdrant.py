"""Qdrant Edge, which is Qdrant's segments in process: graph and codes of 4 bits a dimension pinned in
memory, vectors on disk, mapped, by which all that the graph found is scored again. Their memory is
the page cache: once as much of it as they want, once a tenth of the raw size."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common import THREADS, Engine, chunks, steps, variant


PINNED_EACH, PINNED_DIMENSION = 200, 0.5  # bytes of a row, beside the page cache
CACHE_SHARE = 0.1  # of the raw size


class Qdrant(Engine):
    def variants(self, data):
        cached, on_disk = ([{"ef": ef} for ef in steps(14, 448, fine)] for fine in (2, 1))
        build = {"m": 16, "ef_construct": 100}  # both are its defaults
        share = round((PINNED_EACH / data.dim + PINNED_DIMENSION) / 4 + CACHE_SHARE, 2)
        return [variant("vectors cached", build, cached),
                variant(f"vectors on disk, {share:.0%}", build, on_disk, share)]

    def build(self, data, folder, m, ef_construct):
        import qdrant_edge as q
        config = q.EdgeConfig(
            vectors=q.EdgeVectorParams(size=data.dim, distance=q.Distance.Euclid, memory=q.Memory.Cold),
            hnsw_config=q.HnswIndexConfig(m, ef_construct, 1, max_indexing_threads=THREADS,
                                          memory=q.Memory.Pinned),
            quantization_config=q.TurboQuantQuantizationConfig(bits=q.TurboQuantBitSize.Bits4,
                                                               memory=q.Memory.Pinned),
            optimizers=q.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=1),
            wal_enabled=False,
        )
        path = os.path.join(folder, "shard")
        os.mkdir(path)
        shard, base = q.EdgeShard.create(path, config), data.base()
        for begin, end in chunks(data.rows, 1000):
            shard.update(q.UpdateOperation.upsert_points(
                [q.Point(row, base[row].tolist()) for row in range(begin, end)]))
        shard.optimize()
        shard.flush()
        shard.close()

    def open(self, data, folder):
        import qdrant_edge
        self.q, self.pool = qdrant_edge, ThreadPoolExecutor(THREADS)
        self.shard = qdrant_edge.EdgeShard.load(os.path.join(folder, "shard"))

    def search(self, queries, k, threads=THREADS, ef=10):
        q = self.q
        parameters = q.SearchParams(hnsw_ef=ef, quantization=q.QuantizationSearchParams(
            rescore=True, oversampling=ef / k))

        def one(vector):
            found = self.shard.query(q.QueryRequest(
                limit=k, query=q.Query.Nearest(vector.tolist()), params=parameters))
            ids = [point.id for point in found]
            return np.array(ids + [-1] * (k - len(ids)))

        if threads == 1:
            return np.stack([one(vector) for vector in queries])
        return np.stack(list(self.pool.map(one, queries)))


ENGINE = Qdrant()
