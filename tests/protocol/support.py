"""A fathom-server to speak to, and what to speak with: raw sockets and msgpack, so that nothing of the project's own
clients is between a test and the wire."""

import itertools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import msgpack
import numpy as np

BIN = Path(os.environ.get("FATHOM_BIN", "build/release/bin"))
TESTS = Path(os.environ.get("FATHOM_TESTS", "build/release/tests"))

PATIENCE = 60  # seconds, before what does not come about is a failure: no verdict depends on how busy a machine is
ID_NONE = 2**64 - 1
DIM = 32
ROWS = 2000


def run(*command):
    """Runs a program of ours; its output is shown when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Indexes:
    """A few small indexes over the same rows, made once per process."""

    made = None

    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="fathom-protocol-"))
        run(BIN / "fathom-data", "synth", "--count", ROWS, "--dim", DIM, "--intrinsic", 8, "--seed", 1,
            "--out", self.dir / "base.fbin", "--queries", 50, "--query-out", self.dir / "query.fbin")
        self.base = self.read_fbin("base.fbin")
        self.query = self.read_fbin("query.fbin")

    def read_fbin(self, name):
        raw = (self.dir / name).read_bytes()
        count, dim = struct.unpack("<II", raw[:8])
        return np.frombuffer(raw, "<f4", offset=8).reshape(count, dim)

    def write_fbin(self, name, rows):
        rows = np.ascontiguousarray(rows, "<f4")
        (self.dir / name).write_bytes(struct.pack("<II", *rows.shape) + rows.tobytes())
        return self.dir / name

    def build(self, name, metric="l2", base="base.fbin", seed=1):
        out = self.dir / name
        if not out.exists():
            run(BIN / "fathom-build", "build", "--input", self.dir / base, "--out", out,
                "--metric", metric, "--threads", 1, "--seed", seed)
        return out

    @classmethod
    def get(cls):
        if cls.made is None:
            cls.made = cls()
        return cls.made


def make_fake(directory, **settings):
    """An index of the fake library (fake_fathom.c); written at once, as a new generation is published."""
    settings = {"rows": 1000, "dim": 4, "generation": 7, **settings}
    directory.mkdir(exist_ok=True)
    temporary = directory / "fake.new"
    temporary.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    temporary.replace(directory / "fake")
    return directory


def make_stuck(directory, **settings):
    """An index that gives no query back until let_go()."""
    make_fake(directory, stuck=1, **settings)
    (directory / "hold").touch()
    return directory


def let_go(directory):
    (directory / "hold").unlink()


def until(condition, what):
    """Waits for what comes about by itself."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"after {PATIENCE} s it is still not so that {what}")
        time.sleep(0.01)


class Server:
    """A server process on free ports. Its log is read from a file; stop() tells how it ended."""

    def __init__(self, *flags, indexes, fake=False, sick=False, listen="127.0.0.1:0", http="127.0.0.1:0", env=None,
                 limit_files=None, wait=True):
        program = TESTS / f"fathom-server-{'fake' if fake else 'sick'}" if fake or sick else BIN / "fathom-server"
        command = [str(program), "--listen", listen, "--http", http]
        for name, directory in indexes.items():
            command += ["--index", f"{name}={directory}"]
        command += [str(flag) for flag in flags]
        if limit_files:
            command = ["sh", "-c", f'ulimit -n {limit_files}; exec "$@"', "sh", *command]
        self.log_file = tempfile.NamedTemporaryFile(mode="w+", prefix="fathom-server-", suffix=".log")
        self.process = subprocess.Popen(command, stderr=self.log_file, stdout=subprocess.DEVNULL,
                                        env={**os.environ, **(env or {})})
        self.listen = listen
        if wait:
            try:
                self.find_ports()
            except Exception:
                self.process.kill()  # or it would outlive the test
                self.process.wait()
                raise

    def find_ports(self):
        self.wait_for("ready:")
        if not self.listen.startswith("unix:"):
            self.port = int(re.search(r'(?<!http )listening on [^\s"]*:(\d+)', self.log()).group(1))
        found = re.search(r'http listening on [^\s"]*:(\d+)', self.log())
        self.http_port = int(found.group(1)) if found else None

    def log(self):
        return Path(self.log_file.name).read_text(errors="replace")

    def wait_for(self, text):
        end = time.monotonic() + PATIENCE
        while text not in self.log():
            if self.process.poll() is not None and text not in self.log():
                raise RuntimeError(f"the server ended ({self.process.returncode}):\n{self.log()}")
            if time.monotonic() > end:
                raise RuntimeError(f"no {text!r} in the log after {PATIENCE} s:\n{self.log()}")
            time.sleep(0.01)

    def wait_until_taken(self, queries):
        """Until so many are in slots or wait for one."""
        with self.client() as client:
            def taken():
                stats = client.call("stats")
                return stats["running"] + stats["waiting"] == queries
            until(taken, f"{queries} queries are taken")

    def client(self, **options):
        if self.listen.startswith("unix:"):
            return Client(self.listen[5:], **options)
        return Client(("127.0.0.1", self.port), **options)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self):
        return self.process.wait(PATIENCE)

    def stop(self):
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            status = self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError(f"the server did not end:\n{self.log()}") from None
        self.log_file.close()
        return status

    def resident_bytes(self, most=False):
        field = "VmHWM" if most else "VmRSS"
        return int(re.search(field + r":\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text()).group(1)) * 1024

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error["code"]
        self.message = error["message"]
        self.retryable = error["retryable"]
        self.retry_after_ms = error.get("retry_after_ms")
        self.details = error.get("details", {})


class Client:
    def __init__(self, address, timeout=PATIENCE):
        family = socket.AF_UNIX if isinstance(address, (str, bytes)) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=2**30)
        self.msgids = itertools.count(1)
        self.closing = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, method, params=None, msgid=None):
        msgid = next(self.msgids) if msgid is None else msgid
        self.socket.sendall(msgpack.packb([0, msgid, method, [{} if params is None else params]]))
        return msgid

    def notify(self, method, params):
        self.socket.sendall(msgpack.packb([2, method, [params]]))

    def receive(self):
        """The next message, or None at the end of the connection."""
        while True:
            for message in self.unpacker:
                if message[0] == 2 and message[1] == "closing":
                    self.closing = message[2][0]
                    continue
                return message
            chunk = self.socket.recv(1 << 20)
            if not chunk:
                return None
            self.unpacker.feed(chunk)

    def reply(self):
        """(msgid, result) of the next reply; raises its error."""
        message = self.receive()
        if message is None:
            raise EOFError(f"the server closed: {self.closing}")
        assert message[0] == 1 and len(message) == 4, message
        if message[2] is not None:
            assert message[3] is None, message
            raise RpcError(message[2])
        return message[1], message[3]

    def call(self, method, params=None):
        msgid = self.send(method, params)
        answered, result = self.reply()
        assert answered == msgid, (answered, msgid)
        return result

    def end(self):
        """Reads to the end of the connection; the closing error, or None."""
        while self.receive() is not None:
            pass
        return self.closing


def search_params(index, vectors, k=10, dtype="f32", **more):
    scalars = {"f32": "<f4", "f16": "<f2", "u8": "u1", "i8": "i1"}
    vectors = np.ascontiguousarray(vectors, scalars[dtype])
    return {"index": index, "vectors": vectors.tobytes(), "dtype": dtype, "shape": list(vectors.shape), "k": k, **more}


def results(reply):
    """The arrays of a search's result."""
    n, k = reply["shape"]
    return (np.frombuffer(reply["ids"], "<u8").reshape(n, k), np.frombuffer(reply["distances"], "<f4").reshape(n, k))


class ProtocolTest(unittest.TestCase):
    """Tests that end with every server stopped, and stopped well."""

    def setUp(self):
        self.scratch = Path(tempfile.mkdtemp(prefix="fathom-protocol-"))
        self.addCleanup(shutil.rmtree, self.scratch, True)

    def serve(self, *flags, **options):
        server = Server(*flags, **options)
        self.addCleanup(self.stop, server)
        return server

    def stop(self, server):
        if not server.log_file.closed:
            self.assertEqual(server.stop(), 0)

    def expect(self, code, client, method, params, field=None, text=None):
        with self.assertRaises(RpcError) as caught:
            client.call(method, params)
        self.assertEqual(caught.exception.code, code, caught.exception.message)
        if field:
            self.assertEqual(caught.exception.details.get("field"), field, caught.exception.message)
        if text:
            self.assertIn(text, caught.exception.message)
        return caught.exception


def main():
    try:
        unittest.main(verbosity=2, buffer=False)
    finally:
        if Indexes.made:
            shutil.rmtree(Indexes.made.dir, ignore_errors=True)
        sys.stdout.flush()
