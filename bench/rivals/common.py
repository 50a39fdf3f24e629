"""What the adapters of the rivals share: the data as every engine gets them, and what an engine is.
Runs inside the engine's own virtual environment; needs numpy and nothing else."""

import math

import numpy as np

THREADS = 2


class Data:
    """A set: base and queries as f32 (unit length under cos, so that l2 ranks alike), and the truth.

    u8 and i8 sets keep their type for engines that ask for it (as_stored). A set may be the first
    rows of its file. Rows of zeros have no place under cos and are left out, as fathom does: engines
    count without them, and row_numbers() leads back.
    """

    def __init__(self, paths):
        self.paths, self.metric, self.rows = paths, paths["metric"], paths["rows"]
        self.dim, self.k, self.kept = paths["dim"], paths["k"], None
        self.is_bytes = paths["dtype"] in ("u8", "i8") and self.metric == "l2"
        if self.metric == "cos":
            rows = _read(paths["base"])[: self.rows]
            self.kept = np.concatenate([begin + np.flatnonzero(np.any(rows[begin:end], axis=1))
                                        for begin, end in chunks(self.rows)])
            self.rows = len(self.kept)

    def base(self, as_stored=False):
        rows = _read(self.paths["base"])
        return self._prepared(rows[: self.rows] if self.kept is None else rows[self.kept], as_stored)

    def row_numbers(self, found):
        """Of the set, for what an engine found; -1 for what it did not find."""
        found = np.asarray(found).astype(np.int64)
        inside = (found >= 0) & (found < self.rows)
        rows = np.where(inside, found, 0)
        return np.where(inside, rows if self.kept is None else self.kept[rows], -1)

    def queries(self, as_stored=False):
        return self._prepared(_read(self.paths["query"]), as_stored)

    def _prepared(self, vectors, as_stored):
        if as_stored and self.is_bytes:
            return np.ascontiguousarray(vectors)
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if self.metric == "cos":
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)  # the file is mapped
        return vectors

    def truth(self):
        """ids and distances, [queries][100]."""
        count, k = np.fromfile(self.paths["truth"], np.uint32, 2)
        ids = np.fromfile(self.paths["truth"], np.uint32, count * k, offset=8)
        distances = np.fromfile(self.paths["truth"], np.float32, offset=8 + ids.nbytes)
        return ids.reshape(count, k), distances.reshape(count, k)


def _read(path):
    """Rows of a .npy or .fbin file, mapped."""
    if path.endswith(".npy"):
        return np.load(path, mmap_mode="r")
    rows, dim = np.fromfile(path, np.uint32, 2)
    return np.memmap(path, np.float32, "r", offset=8, shape=(int(rows), int(dim)))


def recall(found, truth, k):
    """As fathom-bench counts: what ties with the k-th true distance is right too."""
    ids, distances = truth
    limit = distances[:, k - 1] + np.abs(distances[:, k - 1]) * 1e-6
    right = 0
    for row in range(len(found)):
        allowed = set(ids[row][distances[row] <= limit[row]].tolist())
        right += min(len(allowed & set(found[row][:k].tolist())), k)
    return right / (len(found) * k)


def chunks(rows, size=50000):
    return [(begin, min(begin + size, rows)) for begin in range(0, rows, size)]


def steps(first, last, per_doubling=2):
    """Whole numbers from first to last, so many in each doubling: near enough that the fastest search
    which reaches a recall is not far above it."""
    count = round(math.log2(last / first) * per_doubling)
    found = (round(first * 2 ** (step / per_doubling)) for step in range(count + 1))
    return list(dict.fromkeys(found))


def variant(name, build, searches, limit_share=None, **opening):
    """A way to build and open, and the searches to try. limit_share: of the raw f32 size, the most
    memory that the process may add (page cache included), for engines that lean on the cache."""
    return {"name": name, "build": build, "open": opening, "searches": searches,
            "limit_share": limit_share}


class Engine:
    """One engine. Builds into a folder, opens it, searches a batch with THREADS threads."""

    def variants(self, data):
        raise NotImplementedError

    def build(self, data, folder, **options):
        raise NotImplementedError

    def open(self, data, folder, **options):
        raise NotImplementedError

    def search(self, queries, k, threads=THREADS, **options):
        """ids, [len(queries)][k]."""
        raise NotImplementedError
