"""What the adapters share: builds an index from an array or a file, runs fathom-server over it on a
unix socket, and says what that server takes in memory.

    local = LocalIndex("folder", dram_share=0.1)
    local.build(array, "l2")
    local.start()
    local.client.search(NAME, queries, k=10, search_list=40).ids
    local.memory_bytes()

Programs are looked for in FATHOM_BIN, then in PATH. Needs numpy and fathom_client.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
from fathom_client import Client

NAME = "bench"
BATCH = 512  # vectors in one request
READY_SECONDS, STOP_SECONDS = 120, 20
METRICS = {"euclidean": "l2", "l2": "l2", "angular": "cos", "cosine": "cos", "ip": "ip"}
EXTENSIONS = {"f": ".fbin", "u": ".u8bin", "i": ".i8bin"}


class Failed(RuntimeError):
    """A program ended with an error; has what it said."""


def program(name):
    folder = os.environ.get("FATHOM_BIN")
    found = str(Path(folder, name)) if folder else shutil.which(name)
    if not found or not os.path.exists(found):
        raise Failed(f"{name} is not in PATH; set FATHOM_BIN to the folder of fathom's programs")
    return found


def server_memory_bytes(pid):
    """Anonymous and shared memory of a process: what an index costs, wherever it runs. The index's
    pages are not in the page cache, since they are read past it."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def running(pid):
    """Whether this is a fathom-server that has not ended."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").partition(")")
    except OSError:
        return False
    return name.endswith("(fathom-server") and rest.split()[0] != "Z"


def end(pid):
    """Has a server drain and end, whoever started it."""
    limit = time.monotonic() + STOP_SECONDS
    if running(pid):
        os.kill(pid, signal.SIGTERM)
    while running(pid):
        if time.monotonic() > limit:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


class LocalIndex:
    """An index in a folder and its server. dram_share: of the raw f32 size; None: no budget."""

    def __init__(self, folder, dram_share=None, workers=None):
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.index = self.folder / "index"
        self.dram_share, self.workers = dram_share, workers
        self.process = self.client = None

    # ---- building ----

    def build(self, base, metric, ids=None):
        """base: an array, or the path of a vector file that fathom reads."""
        path = base
        if not isinstance(base, (str, Path)):
            path = self.folder / "base.npy"
            known = base.dtype in (np.float32, np.float16, np.int8, np.uint8)
            np.save(path, np.ascontiguousarray(base, dtype=None if known else np.float32))
        command = [program("fathom-build"), "build", "--input", str(path), "--out",
                   str(self.index), "--metric", METRICS[metric]]
        if METRICS[metric] == "cos":
            command += ["--zero-rows", "skip"]
        if ids is not None:
            np.save(self.folder / "ids.npy", np.ascontiguousarray(ids, dtype=np.uint64))
            command += ["--ids", str(self.folder / "ids.npy")]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                              check=False)
        if done.returncode:
            raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
        if path == self.folder / "base.npy":
            path.unlink()

    def exists(self):
        return (self.index / "index.fathom").exists()

    # ---- serving ----

    def socket(self):
        return f"unix:{self.folder / 'server.sock'}"

    def start(self, rows=None, dim=None):
        """rows and dim are needed for a share of the raw size."""
        if self.dram_share is None:
            return self.launch([])
        share = int(self.dram_share * rows * dim * 4)
        return self.launch(["--dram-budget", str(share + self.scratch_bytes())])

    def scratch_bytes(self):
        """What queries in flight take, for the share to be the index's alone: a server that is
        given next to nothing says it as it refuses to start."""
        try:
            self.launch(["--dram-budget", "1KiB"])
        except Failed as refusal:
            found = re.search(r"(\d+) for \d+ threads", str(refusal))
            if found:
                return int(found.group(1))
            raise
        self.stop()
        return 0

    def launch(self, budget):
        command = [program("fathom-server"), "--index", f"{NAME}={self.index}", "--listen",
                   self.socket(), "--http", "off", *budget]
        if self.workers:
            command += ["--workers", str(self.workers)]
        log_path = self.folder / "server.log"
        with open(log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True)
        limit = time.monotonic() + READY_SECONDS
        while "ready: " not in log_path.read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > limit:
                raise Failed(f"{' '.join(command)}: {log_path.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        self.client = Client(self.socket())
        return self

    def memory_bytes(self):
        """Of the server; 0 while none runs."""
        return server_memory_bytes(self.process.pid) if self.process else 0

    def search(self, queries, k, **options):
        """ids, [n][k], -1 where there are fewer; batches of any size."""
        queries = np.atleast_2d(queries)
        parts = [self.client.search(NAME, queries[begin : begin + BATCH], k=k, **options).ids
                 for begin in range(0, len(queries), BATCH)]
        return np.concatenate(parts).astype(np.int64)  # ID_NONE, 2^64 - 1, becomes -1

    def stop(self):
        if self.client:
            self.client.close()
        if self.process:
            end(self.process.pid)
            self.process.wait()
        self.process = self.client = None


def with_extension(path, dtype, folder):
    """A name by which fathom knows the format of a big-ann-benchmarks file, whose own name may end in
    anything: a link in the folder."""
    kind = EXTENSIONS[np.dtype(dtype).kind]
    if str(path).endswith(kind):
        return Path(path)
    link = Path(folder) / f"base{kind}"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(path).absolute())
    return link
