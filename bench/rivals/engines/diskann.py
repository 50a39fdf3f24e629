"""DiskANN's disk index (diskannpy): PQ codes in memory, the Vamana graph with the vectors on SSD."""

from common import THREADS, Engine, steps, variant


class DiskAnn(Engine):
    as_stored = True

    def variants(self, data):
        searches = [{"complexity": each} for each in steps(10, 320)]
        return [variant("32 B codes", {"code_bytes": 32, "degree": 48, "list_size": 75}, searches)]

    def build(self, data, folder, code_bytes, degree, list_size):
        import diskannpy
        diskannpy.build_disk_index(
            data.base(as_stored=True), "l2", folder, complexity=list_size, graph_degree=degree,
            search_memory_maximum=data.rows * code_bytes / 2**30, build_memory_maximum=8,
            num_threads=THREADS,
        )

    def open(self, data, folder):
        import diskannpy
        # No nodes are cached, and by 0 none are looked for: by the default, 1, opening searches for
        # a part of the rows to find the nodes that would be worth it (58 s for a million).
        self.index = diskannpy.StaticDiskIndex(folder, THREADS, 0, 0)

    def search(self, queries, k, threads=THREADS, complexity=20):
        return self.index.batch_search(queries, k, max(complexity, k), threads, 2).identifiers


ENGINE = DiskAnn()
