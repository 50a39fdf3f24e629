"""zvec's DiskANN index: PQ codes in memory, graph and vectors on SSD."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common import THREADS, Engine, chunks, steps, variant


class Zvec(Engine):
    def variants(self, data):
        searches = [{"list_size": each} for each in steps(10, 320)]
        return [variant("DiskANN, 32 B codes",
                        {"code_bytes": 32, "degree": 48, "list_size": 75}, searches)]

    def build(self, data, folder, code_bytes, degree, list_size):
        import zvec
        zvec.init(log_dir=folder, optimize_threads=THREADS, query_threads=THREADS)
        index = zvec.DiskAnnIndexParam(metric_type=zvec.MetricType.L2, max_degree=degree,
                                       list_size=list_size, pq_chunk_num=code_bytes)
        vectors = zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, data.dim, index)
        schema = zvec.CollectionSchema("base", vectors=vectors)
        collection = zvec.create_and_open(os.path.join(folder, "base"), schema)
        base = data.base()
        for begin, end in chunks(data.rows, 1000):
            collection.insert([zvec.Doc(str(row), vectors={"v": base[row]})
                               for row in range(begin, end)])
        collection.optimize()
        collection.flush()

    def open(self, data, folder):
        import zvec
        zvec.init(log_dir=folder, optimize_threads=THREADS, query_threads=THREADS)
        self.zvec, self.pool = zvec, ThreadPoolExecutor(THREADS)
        self.collection = zvec.open(os.path.join(folder, "base"))

    def search(self, queries, k, threads=THREADS, list_size=100):
        parameter = self.zvec.DiskAnnQueryParam(list_size=max(list_size, k))

        def one(vector):
            query = self.zvec.Query("v", vector=vector, param=parameter)
            ids = [int(doc.id) for doc in self.collection.query(query, topk=k)]
            return np.array(ids + [-1] * (k - len(ids)))

        if threads == 1:
            return np.stack([one(vector) for vector in queries])
        return np.stack(list(self.pool.map(one, queries)))


ENGINE = Zvec()
