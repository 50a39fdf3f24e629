"""A small index and servers for it, for the tests of the clients. Everything lives in one temporary
folder that the tests' module removes; programs come from FATHOM_BIN."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

BIN = Path(os.environ.get("FATHOM_BIN", "build/release/bin"))
ROWS, DIM, QUERIES, K = 4000, 24, 200, 10


def run(program, *arguments, status=0, **environment):
    """stdout and stderr of a program that must end with this status."""
    command = [str(BIN / program), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **environment}
    )
    if done.returncode != status:
        raise AssertionError(
            f"{' '.join(command)} ended with {done.returncode}, not {status}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout, done.stderr


def read_bin(path, dtype=np.float32):
    count, dim = np.fromfile(path, np.uint32, 2)
    return np.fromfile(path, dtype, offset=8).reshape(count, dim)


def read_truth(path, id_type=np.uint32):
    """ids and distances of a truth set."""
    count, k = np.fromfile(path, np.uint32, 2)
    ids = np.fromfile(path, id_type, count * k, offset=8).reshape(count, k)
    distances = np.fromfile(path, np.float32, offset=8 + ids.nbytes).reshape(count, k)
    return ids, distances


def recall(found, truth):
    """The share of true neighbours that were found."""
    k = truth.shape[1]
    return sum(len(set(map(int, f[:k])) & set(map(int, t))) for f, t in zip(found, truth)) / truth.size


class World:
    """The files: base, queries, truth and the index built from them."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="fathom-client-"))
        self.base, self.query, self.truth = (self.folder / name for name in ("base.fbin", "query.fbin", "gt.bin"))
        self.index = self.folder / "index"
        run("fathom-data", "synth", "--count", ROWS, "--dim", DIM, "--intrinsic", 8, "--seed", 11, "--out", self.base,
            "--queries", QUERIES, "--query-out", self.query)
        run("fathom-data", "gt", "--base", self.base, "--query", self.query, "--metric", "l2", "--k", K,
            "--out", self.truth)
        run("fathom-build", "build", "--input", self.base, "--out", self.index, "--metric", "l2")
        self.queries = read_bin(self.query)
        self.truth_ids, self.truth_distances = read_truth(self.truth)

    def close(self):
        shutil.rmtree(self.folder)


class Server:
    """fathom-server over an index, on a free port and on a unix socket."""

    def __init__(self, world, *arguments, name="server"):
        self.path = world.folder / f"{name}.log"
        self.unix = f"unix:{world.folder / name}.sock"
        self.tcp = None
        with open(self.path, "wb") as log:
            self.process = subprocess.Popen(
                [str(BIN / "fathom-server"), "--index", f"tiny={world.index}", "--listen", "127.0.0.1:0",
                 "--listen", self.unix, "--http", "off", "--workers", "2", *map(str, arguments)],
                stdout=log, stderr=log,
            )
        for _ in range(6000):  # a minute, on however busy a machine
            found = re.search(r"listening on (127\.0\.0\.1:\d+)", self.log())
            if found and "ready:" in self.log():
                self.tcp = found.group(1)
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.close()
        raise RuntimeError(f"fathom-server did not start:\n{self.log()}")

    def log(self):
        return self.path.read_text(errors="replace")

    def addresses(self):
        return self.tcp, self.unix

    def wait(self):
        return self.process.wait(60)

    def close(self):
        """Ends the server. One that had ended by itself, or ends badly, has told why in its log."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.tcp and self.process.returncode != 0:
            self.tcp = None  # told once
            raise AssertionError(f"fathom-server ended with {self.process.returncode}:\n{self.log()[-8000:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
