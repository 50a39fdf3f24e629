"""usearch: the graph in memory, with vectors of 16 bits. Mapped from its file within less memory than
it is large, which it can do too, it answers a few queries a second, and is not in the suite."""

import os

import numpy as np

from common import THREADS, Engine, steps, variant

NAME = "index.usearch"


class Usearch(Engine):
    def variants(self, data):
        searches = [{"expansion": each} for each in steps(10, 640)]
        build = {"dtype": "f16", "connectivity": 16, "expansion_add": 128}
        return [variant("f16", build, searches)]

    def build(self, data, folder, dtype, connectivity, expansion_add):
        from usearch.index import Index
        index = Index(ndim=data.dim, metric="l2sq", dtype=dtype, connectivity=connectivity,
                      expansion_add=expansion_add)
        index.add(np.arange(data.rows, dtype=np.uint64), data.base(), threads=THREADS)
        index.save(os.path.join(folder, NAME))

    def open(self, data, folder):
        from usearch.index import Index
        self.index = Index.restore(os.path.join(folder, NAME))

    def search(self, queries, k, threads=THREADS, expansion=64):
        self.index.expansion_search = expansion
        return self.index.search(queries, k, threads=threads).keys.reshape(len(queries), -1)


ENGINE = Usearch()
