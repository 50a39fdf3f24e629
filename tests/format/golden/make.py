#!/usr/bin/env python3
"""Makes the golden indexes and what they must answer. Needs nothing but Python and a fathom-build.

    make.py FATHOM_BUILD [FOLDER...]    writes the folders beside this file again, or these of them

Those in BUILDS are made by golden_build, which the tests have beside them (../tests from FATHOM_BUILD).

Only a new version of the format is a reason to run it, and then beside the old folders, not over them (README.md). The
vectors come from a formula, so that a test can compare what a reader reads with what was written.
"""
import array
import json
import math
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
K, QUERIES = 5, 12

# folder: metric, dtype, rows, dim, external ids
SETS = {
    "l2-u8": ("l2", "u8", 120, 8, True),
    "cos-f32": ("cos", "f32", 150, 12, False),
    "ip-i8": ("ip", "i8", 100, 10, True),
    "l2-u8-parts": ("l2", "u8", 400, 8, True),
    "l2-u8-held": ("l2", "u8", 400, 9, False),
}
# folder: parts of the graph, and rows that are in memory at a time until then (0: all)
BUILDS = {"l2-u8-parts": (3, 0), "l2-u8-held": (2, 150)}


def numbers(seed):
    """Uniform in [0, 1): a linear congruential generator, the same in every language."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2 ** 64
        yield (state >> 40) / 2 ** 24


def vectors(folder, count, stream):
    """count rows of a set; stream 1 is the base, 2 the queries. f32 values are exact in binary."""
    _, dtype, _, dim, _ = SETS[folder]
    draw, rows = numbers(1000 * stream + len(folder)), []
    for _ in range(count):
        row = [next(draw) + next(draw) for _ in range(dim)]
        if dtype == "u8":
            rows.append([int(127 * x) for x in row])
        elif dtype == "i8":
            rows.append([int(120 * x) - 120 for x in row])
        else:
            rows.append([round(x * 4096) / 1024 - 3 for x in row])
    return rows


def external_ids(folder):
    """Ids by row, or None: they are row numbers."""
    _, _, rows, _, external = SETS[folder]
    return [10 ** 12 + 17 * (rows - row) for row in range(rows)] if external else None


def distance(metric, a, b):
    product = sum(x * y for x, y in zip(a, b))
    if metric == "l2":
        return sum((x - y) ** 2 for x, y in zip(a, b))
    if metric == "ip":
        return -product
    return 1 - product / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


def answers(folder):
    metric, dtype, count, dim, _ = SETS[folder]
    base, ids = vectors(folder, count, 1), external_ids(folder)
    result = {"metric": metric, "dtype": dtype, "rows": count, "dim": dim, "k": K, "queries": vectors(folder, QUERIES, 2),
              "ids": [], "distances": []}
    for query in result["queries"]:
        nearest = sorted((distance(metric, query, row), i) for i, row in enumerate(base))[:K + 1]
        for (near, _), (far, _) in zip(nearest, nearest[1:]):
            if far - near < 1e-4 * abs(far):
                raise SystemExit(f"{folder}: two rows are equally near; change the formula")
        result["ids"].append([ids[i] if ids else i for _, i in nearest[:K]])
        result["distances"].append([d for d, _ in nearest[:K]])
    return result


def write_input(folder, path):
    _, dtype, count, dim, _ = SETS[folder]
    with open(path, "wb") as file:
        array.array("I", [count, dim]).tofile(file)
        array.array({"u8": "B", "i8": "b", "f32": "f"}[dtype],
                    [x for row in vectors(folder, count, 1) for x in row]).tofile(file)


def build(programs, folder, out, environment=None):
    """Builds a set. programs: the folder that holds bin/ and tests/."""
    metric, dtype, _, _, external = SETS[folder]
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, folder + {"u8": ".u8bin", "i8": ".i8bin", "f32": ".fbin"}[dtype])
        write_input(folder, path)
        if folder in BUILDS:
            command = [os.path.join(programs, "tests", "golden_build"), path, out, metric, *map(str, BUILDS[folder])]
        else:
            command = [os.path.join(programs, "bin", "fathom-build"), "build", "--input", path, "--out", out, "--metric",
                       metric, "--degree", "8", "--build-list", "16"]
        if external:
            ids = os.path.join(scratch, "ids.txt")
            with open(ids, "w", encoding="ascii") as file:
                file.writelines(f"{i}\n" for i in external_ids(folder))
            command += [ids] if folder in BUILDS else ["--ids", ids]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})})


def make(program, folder):
    build(os.path.dirname(os.path.dirname(os.path.abspath(program))), folder, os.path.join(HERE, folder))
    with open(os.path.join(HERE, folder, "answers.json"), "w", encoding="ascii") as file:
        json.dump(answers(folder), file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    if len(sys.argv) < 2 or set(sys.argv[2:]) - SETS.keys():
        raise SystemExit(__doc__)
    for name in sys.argv[2:] or SETS:
        make(sys.argv[1], name)
