"""fathom in ann-benchmarks: goes to ann_benchmarks/algorithms/fathom/module.py.

The index is on disk and fathom-server answers, a process of its own; its memory is what
get_memory_usage() tells, not this process', which holds the whole data set.
"""

import tempfile

import numpy as np
from fathom_local import LocalIndex

from ..base.module import BaseANN


class Fathom(BaseANN):
    def __init__(self, metric, method_param):
        """method_param: dram_share, of the raw f32 size (none: no budget)."""
        self.metric, self.share = metric, method_param.get("dram_share")
        self.folder = tempfile.TemporaryDirectory(prefix="fathom-ann-")
        self.local = LocalIndex(self.folder.name, self.share, workers=method_param.get("workers"))
        self.options, self.name = {}, "fathom"

    def fit(self, X):
        X = np.asarray(X)
        self.local.build(X, self.metric)
        self.local.start(*X.shape)

    def set_query_arguments(self, search_list, rerank="off"):
        """rerank "on": full vectors are read of rows whose place 8 bits leave in doubt."""
        self.options = {"search_list": search_list, "rerank": rerank}
        share = "no budget" if self.share is None else f"{self.share:.0%} of raw in DRAM"
        self.name = f"fathom({share}, L={search_list}{', reranked' if rerank == 'on' else ''})"

    def query(self, v, n):
        found = self.local.search(v, n, **self.options)[0]
        return found[found >= 0]

    def batch_query(self, X, n):
        self.res = [row[row >= 0] for row in self.local.search(np.asarray(X), n, **self.options)]

    def get_memory_usage(self):
        """KiB, of the server."""
        return self.local.memory_bytes() / 1024

    def get_additional(self):
        return {"dram_bytes": self.local.memory_bytes()}

    def done(self):
        self.local.stop()
        self.folder.cleanup()
