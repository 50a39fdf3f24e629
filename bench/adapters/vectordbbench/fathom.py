"""fathom in VectorDBBench: goes to vectordb_bench/backend/clients/fathom/fathom.py.

fathom serves immutable indexes. So inserted rows are gathered in a file; optimize() builds the index
from them, which is the time that counts as loading, and starts fathom-server; searches, in as many
processes as the harness likes, connect to it. The server outlives the process that started it and is
ended by the next drop, or by close().
"""

import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from fathom_client import Client
from fathom_local import NAME, LocalIndex, end, running, server_memory_bytes
from vectordb_bench.backend.clients.api import VectorDB


class Fathom(VectorDB):
    name = "Fathom"
    thread_safe = True

    def __init__(self, dim, db_config, db_case_config, collection_name="bench", drop_old=False,
                 **kwargs):
        self.dim, self.case = dim, db_case_config
        self.folder = Path(db_config["folder"]) / collection_name
        self.share = db_config.get("dram_share") or None
        self.options, self.client = db_case_config.search_param(), None
        if drop_old:
            self.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def init(self):
        """A connection, once there is a server."""
        if self.pid():
            self.client = Client(self.local().socket())
        try:
            yield
        finally:
            if self.client:
                self.client.close()
            self.client = None

    def local(self):
        return LocalIndex(self.folder, self.share)

    def pid(self):
        """Of the server that serves this folder; 0 when none does."""
        try:
            pid = int((self.folder / "server.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0
        return pid if running(pid) else 0

    def insert_embeddings(self, embeddings, metadata, labels_data=None, tenant_labels_data=None,
                          **kwargs):
        rows = np.asarray(embeddings, dtype=np.float32)
        with open(self.folder / "rows.f32", "ab") as file:
            file.write(np.ascontiguousarray(rows).tobytes())
        with open(self.folder / "ids.u64", "ab") as file:
            file.write(np.asarray(metadata, dtype=np.uint64).tobytes())
        return len(rows), None

    def optimize(self, data_size=None):
        self.close()
        rows = np.memmap(self.folder / "rows.f32", np.float32, "r").reshape(-1, self.dim)
        ids = np.fromfile(self.folder / "ids.u64", np.uint64)
        local = self.local()
        local.build(rows, self.case.index_param()["metric"], ids)
        local.start(*rows.shape)
        (self.folder / "server.pid").write_text(str(local.process.pid), encoding="ascii")
        local.client.close()

    def search_embedding(self, query, k=100, **kwargs):
        vector = np.asarray(query, dtype=np.float32)
        found = self.client.search(NAME, vector, k=k, **self.options)
        return found.ids[found.valid].tolist()

    def dram_bytes(self):
        """What the server takes; the harness has no field for it, so that a report must add it."""
        return server_memory_bytes(self.pid()) if self.pid() else 0

    def close(self):
        if self.pid():
            end(self.pid())
