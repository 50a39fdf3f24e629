"""Clients that mean harm, as many at once as there are threads: noise, bombs, messages cut short or spoiled, resets,
silence, and replies that nobody reads. What becomes of them does not matter, only that the server stays well; what
they do is drawn from a seed. Used by endure.py."""

import random
import socket
import struct
import threading

import msgpack

HELD = 50  # connections that a thread keeps open and says nothing more on
PATIENCE_SECONDS = 2
BOMBS = (b"\xdd\xff\xff\xff\xff", b"\x91" * 10000, b"\x94\x00\x01\xa6search\x91\x81\xa7vectors\xc6\xff\xff\xff\xff")


class Hostile:
    """In a with block. request: the bytes of a large search, to be cut and spoiled."""

    def __init__(self, address, threads, vectors, k):
        host, port = address.rsplit(":", 1)
        self.place, self.done = (host, int(port)), 0
        params = {"index": "a", "vectors": vectors.tobytes(), "dtype": "f32", "shape": list(vectors.shape), "k": k}
        self.request = msgpack.packb([0, 1, "search", [params]])
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(seed,)) for seed in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join()

    def run(self, seed):
        chance, held = random.Random(seed), []
        while not self.ending.wait(0.01):
            try:
                connection = socket.create_connection(self.place, PATIENCE_SECONDS)
                if self.harm(connection, chance):
                    held.append(connection)
                else:
                    connection.close()
            except OSError:
                pass  # the server's answer to most of it
            self.done += 1  # roughly: it is a figure to read
            if len(held) > HELD:
                held.pop(0).close()
        for connection in held:
            connection.close()

    def harm(self, connection, chance):
        """Does one thing; whether the connection is to be held open."""
        kind = chance.randrange(7)
        if kind == 0:
            connection.sendall(chance.randbytes(chance.randint(1, 3000)))
        elif kind == 1:
            connection.sendall(chance.choice(BOMBS))
        elif kind == 2:
            connection.sendall(self.request[: chance.randrange(len(self.request))])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
        elif kind == 3:
            spoiled = bytearray(self.request)
            for _ in range(3):
                spoiled[chance.randrange(80)] = chance.randrange(256)
            connection.sendall(spoiled)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        elif kind == 4:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(20 * self.request)
        elif kind == 5:
            connection.sendall(self.request[:9])
        return kind >= 4
