"""A small fathom-server in Python, for the tests of the client: exact search over a few vectors, and a
script of misbehaviour. It speaks the protocol through msgpack alone, and shares no code with the client.

    python3 fake_server.py DIM ROWS    serves random vectors as "tiny" and prints its address
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Optional

import msgpack
import numpy as np

DTYPES = {"f32": "<f4", "f16": "<f2", "i8": "i1", "u8": "u1"}
ID_NONE = 2**64 - 1
GENERATION = 2**64 - 7


class FakeServer:
    """One thread a connection. `hooks` maps a method to a function (connection, msgid, params) that
    answers in place of the server; `requests` keeps what came: (method, params)."""

    def __init__(self, base: np.ndarray, address: str = "127.0.0.1:0") -> None:
        self.base = base.astype(np.float32)
        self.hooks: Dict[str, Callable[["Connection", int, Dict[str, Any]], None]] = {}
        self.requests: List[Any] = []
        self.max_message_bytes = 1 << 20
        self.protocol = 1
        self.connections: List["Connection"] = []
        self._threads: List[threading.Thread] = []
        if address.startswith("unix:"):
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(address[5:])
            self.address = address
        else:
            host, port = address.rsplit(":", 1)
            self._listener = socket.create_server((host, int(port)))
            self.address = "%s:%d" % self._listener.getsockname()[:2]
        self._listener.listen(16)
        self._start(self._accept)

    def __enter__(self) -> "FakeServer":
        return self

    def __exit__(self, *_: Any) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(self, accepted)
            self.connections.append(connection)
            self._start(connection.serve)

    def wait_for(self, method: str, count: int = 1) -> List[Any]:
        """The params of the requests of a method, once there are that many."""
        for _ in range(500):
            found = [params for name, params in self.requests if name == method]
            if len(found) >= count:
                return found
            time.sleep(0.01)
        raise AssertionError(f"{method} did not come {count} times")

    # ---- answers ----

    def search(self, params: Dict[str, Any]) -> Dict[str, Any]:
        n, dim = params["shape"]
        data = params["vectors"]
        query = np.frombuffer(data, DTYPES[params["dtype"]]).reshape(n, dim).astype(np.float32)
        distances = ((query[:, None, :] - self.base[None]) ** 2).sum(axis=2)
        k, rows = params["k"], len(self.base)
        ids = np.full((n, k), ID_NONE, np.uint64)
        found = np.full((n, k), np.inf, np.float32)
        order = np.argsort(distances, axis=1, kind="stable")[:, : min(k, rows)]
        ids[:, : order.shape[1]] = order
        found[:, : order.shape[1]] = np.take_along_axis(distances, order, axis=1)
        result = {
            "ids": ids.astype("<u8").tobytes(),
            "distances": found.astype("<f4").tobytes(),
            "shape": [n, k],
            "generation": GENERATION,
            "complete": True,
        }
        if params.get("explain"):
            one = {"hops": 3, "bytes": 8192, "device_us": 1.5, "stop_reason": "converged", "io_engine": "pread",
                   "navigator": "graph", "of_later": 1}
            result["stats"] = {**one, "queries": [one] * n} if n > 1 else one
        return result

    def answer(self, method: str, params: Dict[str, Any]) -> Any:
        if method == "hello":
            return {"server": "fake/1", "protocol": self.protocol, "max_message_bytes": self.max_message_bytes,
                    "methods": ["search"], "indexes": ["tiny"]}
        if method == "search":
            return self.search(params)
        if method in ("info", "stats", "reload"):
            return {"method": method, "index": params.get("index"), "generation": GENERATION,
                    "dram_budget": params.get("dram_budget")}
        return None


class Connection:
    def __init__(self, server: FakeServer, connected: socket.socket) -> None:
        self.server = server
        self.socket = connected
        self._lock = threading.Lock()

    def serve(self) -> None:
        unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1 << 28)
        try:
            while True:
                data = self.socket.recv(1 << 16)
                if not data:
                    return
                unpacker.feed(data)
                for message in unpacker:
                    self._take(message)
        except OSError:
            return
        finally:
            self.close()

    def _take(self, message: List[Any]) -> None:
        if message[0] == 2:
            self.server.requests.append((message[1], message[2][0]))
            return
        _, msgid, method, (params,) = message
        hook: Optional[Callable[..., None]] = self.server.hooks.get(method)
        self.server.requests.append((method, params))
        if hook is not None:
            hook(self, msgid, params)
        elif method == "search" and params["index"] != "tiny":
            self.fail(msgid, "not_found", f"there is no index {params['index']!r}")
        else:
            self.reply(msgid, self.server.answer(method, params))

    def send(self, data: bytes) -> None:
        with self._lock:
            self.socket.sendall(data)

    def reply(self, msgid: int, result: Any) -> None:
        self.send(msgpack.packb([1, msgid, None, result]))

    def fail(self, msgid: int, code: str, message: str, **more: Any) -> None:
        error = {"code": code, "message": message, "retryable": False, **more}
        self.send(msgpack.packb([1, msgid, error, None]))

    def close(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


def main() -> None:
    dim, rows = int(sys.argv[1]), int(sys.argv[2])
    with FakeServer(np.random.default_rng(1).normal(size=(rows, dim)), *sys.argv[3:]) as server:
        server.max_message_bytes = 16 << 20
        print(server.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
