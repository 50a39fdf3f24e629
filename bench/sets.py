"""The data sets of the suite: the dictionary that ships with the project, what fathom-data makes, and
real sets that lie beside the project on some machines (FATHOM_SHARED, or ../shared/data)."""

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("FATHOM_SHARED", ROOT.parent / "shared" / "data"))
K = 10

# name -> rows, dimension, intrinsic dimension, queries
SYNTHETIC = {"syn1m": (1000000, 128, 24, 2000), "syn20k": (20000, 64, 16, 1000)}
REAL = {"sift128": "l2", "fashion784": "l2", "word100": "cos", "passages256": "cos",
        "bible1024": "cos"}
TITLES = {
    "wordnet": "definitions of a dictionary, i8, cosine (ships with the project)",
    "syn1m": "`fathom-data synth`, f32, L2",
    "syn20k": "`fathom-data synth`, f32, L2",
    "sift128": "SIFT descriptors of photographs, u8, L2",
    "fashion784": "images of clothes, u8, L2",
    "word100": "word vectors, f32, cosine",
    "passages256": "text passages (LSA), f16, cosine",
    "bible1024": "sentence embeddings, f16, cosine; the queries are questions",
}
STANDARD = ("sift128", "syn1m", "wordnet", "word100", "passages256", "fashion784")


class Missing(Exception):
    """The set is not on this machine; says where it was looked for."""


def open_set(name, programs, work):
    """{name, metric, base, query, truth, rows, dim, dtype, k}; makes what can be made."""
    work.mkdir(parents=True, exist_ok=True)
    if name == "wordnet":
        folder = ROOT / "datasets" / "wordnet"
        base, query, metric = folder / "base.npy", folder / "query.npy", "cos"
        truth = make_truth(programs, work / "truth.bin", base, query, metric)
    elif name in SYNTHETIC:
        base, query, metric = make_synthetic(programs, work, *SYNTHETIC[name])
        truth = make_truth(programs, work / "truth.bin", base, query, metric)
    elif name in REAL:
        folder, metric = SHARED / name, REAL[name]
        if not folder.is_dir():
            raise Missing(f"{folder} is not there")
        base, query, truth = (folder / part for part in ("base.npy", "query.npy", "gt100.bin"))
    else:
        raise Missing(f"no set of this name; there are {', '.join(TITLES)}")
    info = programs.json("fathom-data", "info", base)
    return {"name": name, "metric": metric, "base": str(base), "query": str(query),
            "truth": str(truth), "rows": info["rows"], "dim": info["dim"],
            "dtype": info.get("type") or info["dtype"], "k": K}


def make_synthetic(programs, work, rows, dim, intrinsic, queries):
    base, query = work / "base.fbin", work / "query.fbin"
    if not (base.exists() and query.exists()):
        programs.json("fathom-data", "synth", count=rows, dim=dim, intrinsic=intrinsic, seed=1,
                      out=base, queries=queries, query_out=query)
    return base, query, "l2"


def make_truth(programs, path, base, query, metric):
    if not path.exists():
        programs.json("fathom-data", "gt", base=base, query=query, metric=metric, k=100, out=path)
    return path


def spread(rows, count):
    """Places of so many of the rows, or of all, evenly from the first to the last: the beginning of a
    file may be harder than the rest (word100: .9366 for .9528)."""
    import numpy as np

    return np.arange(min(count, rows)) * rows // min(count, rows)


def write_some_queries(data, path, count):
    """So many queries of a set in a file of their own; its path."""
    import numpy as np  # only who measures needs it

    query = data["query"]
    if query.endswith(".npy"):
        rows = np.load(query, mmap_mode="r")
    else:
        rows = np.fromfile(query, np.float32, offset=8).reshape(-1, data["dim"])
    np.save(path, np.ascontiguousarray(rows[spread(len(rows), count)]))
    return path


def write_some_truth(data, path, count):
    """What is right for them."""
    import numpy as np

    queries, k = np.fromfile(data["truth"], np.uint32, 2)
    tables = np.fromfile(data["truth"], np.uint32, offset=8).reshape(2, queries, k)  # ids, distances
    tables = tables[:, spread(queries, count)]
    with open(path, "wb") as file:
        np.array([tables.shape[1], k], np.uint32).tofile(file)
        tables.tofile(file)
    return path


def raw_bytes(data):
    """As f32, whatever the type: the size that shares of memory are of."""
    return data["rows"] * data["dim"] * 4


def command_of(data, out="DIR"):
    """The commands that make this set's files, for people to repeat."""
    if data["name"] not in SYNTHETIC:
        return []
    rows, dim, intrinsic, queries = SYNTHETIC[data["name"]]
    return [
        f"fathom-data synth --count {rows} --dim {dim} --intrinsic {intrinsic} --seed 1 "
        f"--out base.fbin --queries {queries} --query-out query.fbin",
        "fathom-data gt --base base.fbin --query query.fbin --metric l2 --k 100 --out truth.bin",
    ]


def load_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))
