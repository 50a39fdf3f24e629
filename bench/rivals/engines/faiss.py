"""faiss: HNSW over 8 bits a dimension (over f32 it is hnswlib's), inverted lists of product-quantised
and RaBitQ codes with a refinement from 8-bit vectors, or RaBitQ of 4 bits, all in memory; and inverted
lists that stay on disk, mapped, where the page cache is their memory."""

import math
import os

from common import THREADS, Engine, steps, variant

NPROBES = steps(1, 256)
# On sets of more rows two ways are left out, which the smaller ones tell of: RaBitQ codes with a
# refinement, which take as much memory as PQ codes with one, and lists on disk, which answer tens of
# queries a second.
MANY_ROWS = 200000


def list_count(rows):
    """A power of two near 4 sqrt(rows)."""
    return 1 << round(math.log2(4 * math.sqrt(rows)))


class Faiss(Engine):
    def variants(self, data):
        lists, pq, sq = list_count(data.rows), pq_bytes(data.dim), bytes_of(data)
        hnsw = [{"ef": ef} for ef in steps(10, 640)]
        plain = [{"nprobe": nprobe} for nprobe in NPROBES]
        refined = [{"nprobe": nprobe, "k_factor": 10} for nprobe in NPROBES]
        made = [
            variant("HNSW SQ8", {"factory": f"HNSW16,{sq}"}, hnsw),
            variant("IVF PQ+SQ8",
                    {"factory": f"IVF{lists},PQ{pq}x4fs,Refine({sq})"}, refined),
            variant("IVF RaBitQ4", {"factory": f"IVF{lists},RaBitQ4"}, plain),
        ]
        if data.rows > MANY_ROWS:
            return made
        made.append(variant("IVF RaBitQ+SQ8",
                            {"factory": f"IVF{lists},RaBitQ,Refine({sq})"}, refined))
        # Unbounded it would read all into the cache; the limit says what it may keep, of lists that
        # take a quarter of the raw size.
        disk = [{"nprobe": nprobe} for nprobe in steps(8, 256, 1)]
        made.append(variant("IVF on disk, 20%", {"factory": f"IVF{lists},{sq}", "on_disk": True},
                            disk, 0.2))
        return made

    def build(self, data, folder, factory, on_disk=False):
        import faiss
        faiss.omp_set_num_threads(THREADS)
        index = faiss.index_factory(data.dim, factory)
        base = data.base()
        if "HNSW" in factory:
            index.hnsw.efConstruction = 200
        if on_disk and "SQ8_direct" in factory:
            index.by_residual = False  # bytes as they are: differences from a centroid are none
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


def bytes_of(data):
    """How eight bits a dimension are had: data of bytes is itself, without loss."""
    return "SQ8_direct" if data.is_bytes and data.paths["dtype"] == "u8" else "SQ8"


def pq_bytes(dim):
    """The product quantiser's bytes: near dim / 4, and a divisor of dim."""
    return max(m for m in range(1, dim // 3 + 1) if dim % m == 0)


ENGINE = Faiss()
