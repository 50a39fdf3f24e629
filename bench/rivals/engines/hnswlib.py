"""hnswlib: the graph in memory, with the vectors in it."""

import os

from common import THREADS, Engine, chunks, steps, variant


class Hnswlib(Engine):
    def variants(self, data):
        searches = [{"ef": ef} for ef in steps(10, 640)]
        return [variant("M=16 efC=200", {"m": 16, "ef_construction": 200}, searches)]

    def build(self, data, folder, m, ef_construction):
        import hnswlib
        index = hnswlib.Index("l2", data.dim)
        index.init_index(data.rows, M=m, ef_construction=ef_construction, random_seed=1)
        index.set_num_threads(THREADS)
        base = data.base()
        for begin, end in chunks(data.rows):
            index.add_items(base[begin:end])
        index.save_index(os.path.join(folder, "hnsw.bin"))

    def open(self, data, folder):
        import hnswlib
        self.index = hnswlib.Index("l2", data.dim)
        self.index.load_index(os.path.join(folder, "hnsw.bin"))

    def search(self, queries, k, threads=THREADS, ef=10):
        self.index.set_ef(max(ef, k))
        return self.index.knn_query(queries, k, num_threads=threads)[0]


ENGINE = Hnswlib()
