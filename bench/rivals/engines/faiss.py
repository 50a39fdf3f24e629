"""faiss: HNSW over 8 bits a dimension (over f32 it is hnswlib's), inverted lists of product-quantised
and RaBitQ codes with a refinement from 8-bit vectors, or RaBitQ of 4 bits, all in memory; and inverted lists that stay on disk,
mapped, where the page cache is their memory."""

import math
import os

from common import THREADS, Engine, variant

NPROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def list_count(rows):
    """A power of two near 4 sqrt(rows)."""
    return 1 << round(math.log2(4 * math.sqrt(rows)))


class Faiss(Engine):
    def variants(self, data):
        lists, pq = list_count(data.rows), pq_bytes(data.dim)
        hnsw = [{"ef": ef} for ef in (10, 20, 40, 80, 160, 320)]
        plain = [{"nprobe": nprobe} for nprobe in NPROBES]
        refined = [{"nprobe": nprobe, "k_factor": 10} for nprobe in NPROBES]
        disk = [{"nprobe": nprobe} for nprobe in NPROBES[2:8]]
        made = [
            variant("HNSW SQ8", {"factory": "HNSW16,SQ8"}, hnsw),
            variant("IVF PQ+SQ8",
                    {"factory": f"IVF{lists},PQ{pq}x4fs,Refine(SQ8)"}, refined),
            variant("IVF RaBitQ4", {"factory": f"IVF{lists},RaBitQ4"}, plain),
            variant("IVF RaBitQ+SQ8",
                    {"factory": f"IVF{lists},RaBitQ,Refine(SQ8)"}, refined),
        ]
        # The first would read all into the cache; the limits say what it may keep.
        for share in (0.1, 0.3):
            made.append(variant(f"IVF on disk, {share:.0%}",
                                {"factory": f"IVF{lists},SQ8", "on_disk": True}, disk, share))
        return made

    def build(self, data, folder, factory, on_disk=False):
        import faiss
        faiss.omp_set_num_threads(THREADS)
        index = faiss.index_factory(data.dim, factory)
        base = data.base()
        if "HNSW" in factory:
            index.hnsw.efConstruction = 200
        index.train(base[:: max(1, data.rows // 100000)])
        index.add(base)
        if on_disk:
            lists = faiss.OnDiskInvertedLists(
                index.nlist, index.code_size, os.path.join(folder, "lists.bin"))
            lists.merge_from_1(index.invlists)
            index.replace_invlists(lists)
        faiss.write_index(index, os.path.join(folder, "index.faiss"))

    def open(self, data, folder):
        import faiss
        self.faiss = faiss
        self.index = faiss.read_index(os.path.join(folder, "index.faiss"))

    def search(self, queries, k, threads=THREADS, **options):
        self.faiss.omp_set_num_threads(threads)
        return self.index.search(queries, k, params=self.parameters(**options))[1]

    def parameters(self, ef=None, nprobe=None, k_factor=None):
        faiss = self.faiss
        if ef:
            return faiss.SearchParametersHNSW(efSearch=ef)
        inverted = faiss.SearchParametersIVF(nprobe=nprobe)
        if not k_factor:
            return inverted
        return faiss.IndexRefineSearchParameters(k_factor=k_factor, base_index_params=inverted)


def pq_bytes(dim):
    """The product quantiser's bytes: near dim / 4, and a divisor of dim."""
    return max(m for m in range(1, dim // 3 + 1) if dim % m == 0)


ENGINE = Faiss()
