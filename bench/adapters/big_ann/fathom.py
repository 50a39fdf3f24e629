"""fathom in big-ann-benchmarks, over its HTTP protocol: goes to benchmark/algorithms/fathom.py.

The class runs in the harness; it starts this file again as the HTTP server, which builds the index,
runs fathom-server and asks it. Memory is that of fathom-server, not of either Python process.
"""

import contextlib
import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from fathom_local import Failed, LocalIndex, with_extension

PORT = 8080
START_SECONDS = 60
INDICES = Path("data/indices/fathom")


class Engine:
    """One method for each route; all take the fields of the request."""

    def __init__(self):
        self.local = self.dataset = None
        self.options, self.found = {}, []
        self.end = lambda: None  # what done() does beside stopping fathom-server

    def init(self, metric, dimension, dram_share=None, workers=None):
        self.metric, self.dram_share, self.workers = metric, dram_share, workers
        return {}

    def open(self, name):
        from benchmark.datasets import DATASETS
        self.dataset = DATASETS[name]()
        share = f"{self.dram_share:g}" if self.dram_share else "all"
        folder = INDICES / f"{self.dataset.short_name()}-{share}"
        self.local = LocalIndex(folder, self.dram_share, self.workers)

    def load_index(self, dataset):
        """False for an index of another version too: then the harness has it built anew."""
        self.open(dataset)
        if not self.local.exists():
            return {"load_index": False}
        try:
            self.local.start(self.dataset.nb, self.dataset.d)
        except Failed as refusal:
            print(f"fathom: {refusal}", file=sys.stderr, flush=True)
            return {"load_index": False}
        return {"load_index": True}

    def fit(self, dataset):
        self.open(dataset)
        base = with_extension(self.dataset.get_dataset_fn(), self.dataset.dtype, self.local.folder)
        self.local.build(base, self.metric)
        self.local.start(self.dataset.nb, self.dataset.d)
        return {}

    def set_query_arguments(self, query_args):
        self.options = dict(query_args[0])
        return {}

    def query(self, X, k):
        queries = np.asarray(X, dtype=np.float32)
        self.found = self.local.search(queries, k, **self.options).tolist()
        return {}

    def get_results(self):
        return {"get_results": self.found}

    def get_additional(self):
        return {"get_additional": {"dram_bytes": self.local.memory_bytes()}}

    def done(self):
        """Not of the protocol: the harness leaves its HTTP server running, which is well in a
        container and nowhere else."""
        if self.local:
            self.local.stop()
        threading.Thread(target=self.end, daemon=True).start()
        return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine = Engine()
    ROUTES = ("init", "load_index", "fit", "set_query_arguments", "query", "get_results",
              "get_additional", "done")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        name = self.path.strip("/")
        if name not in self.ROUTES:
            return self.reply(501, {"error": f"fathom has no {name}"})
        try:
            return self.reply(200, getattr(self.engine, name)(**json.loads(body or b"{}")))
        except Exception as error:  # the harness sees the status alone; the log has the reason
            print(f"fathom: {name}: {error}", file=sys.stderr, flush=True)
            return self.reply(500, {"error": str(error)})

    def do_GET(self):
        self.reply(200 if self.path == "/status" else 404, {})

    def reply(self, status, document):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def serve():
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    Handler.engine.end = server.shutdown
    server.serve_forever()


def wait_for_server():
    """The harness would sleep for a fixed time, which on a busy machine may not suffice. When the server
    never comes, it finds that out by its first request."""
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", PORT), 1).close()
            return
        time.sleep(0.05)


if __name__ == "__main__":
    serve()
else:
    from .httpann import HttpANN, HttpANNSubprocess

    class Fathom(HttpANN, HttpANNSubprocess):
        """What the harness makes: starts the server and speaks its protocol."""

        def __init__(self, metric, dimension, options):
            HttpANNSubprocess.__init__(self, f"{sys.executable} -m benchmark.algorithms.fathom")
            wait_for_server()
            HttpANN.__init__(self, server_url=f"http://127.0.0.1:{PORT}", start_seconds=0,
                             name=f"fathom-{options.get('dram_share', 'all')}", metric=metric,
                             dimension=dimension, **options)
            self.ready = False

        def track(self):
            return "T2"

        def load_index(self, dataset):
            self.ready = HttpANN.load_index(self, dataset)
            return self.ready

        def fit(self, dataset):
            HttpANN.fit(self, dataset)
            self.ready = True

        def done(self):
            self.post("done", {}, 200)

        def get_memory_usage(self):
            """KiB, of fathom-server."""
            return self.get_additional()["dram_bytes"] / 1024 if self.ready else 0
