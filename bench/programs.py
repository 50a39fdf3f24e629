"""Runs the programs of a build from Python, for the demo and the benchmark suite.

    programs = Programs(Path("build/release/bin"))
    programs.json("fathom-data", "info", "base.npy")          -> the document it printed
    with programs.server(work, {"wordnet": index_dir}, dram_budget="20MiB") as server:
        server.start()
        server.address                                        -> "127.0.0.1:40123"

Logs and progress of a program go to this terminal as they come; a server's log goes to a file.
"""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path


class ProgramFailed(Exception):
    """A program exited with something else than 0, having said why on stderr, or was ended for taking
    too long."""


class Programs:
    """until: by the monotonic clock, when all that it runs is to be over; limit_seconds: the most for
    one program. None: as long as it takes."""

    def __init__(self, folder, until=None, limit_seconds=None):
        self.folder, self.until, self.limit_seconds = folder, until, limit_seconds

    def seconds_left(self):
        """What a program that begins now may take, or None."""
        limits = [] if self.limit_seconds is None else [self.limit_seconds]
        if self.until is not None:
            limits.append(self.until - time.monotonic())
        if limits and min(limits) <= 0:
            raise ProgramFailed("no time left (--minutes)")
        return min(limits, default=None)

    def command(self, name, *arguments, **options):
        """The words of a command: search_list="20,40" is --search-list 20,40, True a bare flag."""
        words = [str(self.folder / name), *map(str, arguments)]
        for option, value in options.items():
            words.append("--" + option.replace("_", "-"))
            if value is not True:
                words.append(str(value))
        return words

    def json(self, name, *arguments, **options):
        """Runs a program with --json and returns the document it prints."""
        command = self.command(name, *arguments, **options, json=True)
        done = self.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        sys.stderr.write(done.stderr)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"exited with {done.returncode}"])[-1]
            raise ProgramFailed(f"{' '.join(command)}\n{said}")
        return json.loads(done.stdout)

    def run(self, command, **options):
        limit = self.seconds_left()
        try:
            return subprocess.run(command, check=False, timeout=limit, **options)
        except subprocess.TimeoutExpired as failure:
            raise ProgramFailed(too_long(command, limit)) from failure

    def server(self, work, indexes, **options):
        return Server(self, work, indexes, options)


def too_long(command, seconds):
    return f"{' '.join(map(str, command))}\n{Path(command[0]).name} took more than the {seconds:.0f} s that it had"


class Server:
    """fathom-server on free ports; started in a with block, it ends with it."""

    READY_SECONDS = 60
    STOP_SECONDS = 15

    def __init__(self, programs, work, indexes, options):
        self.log_path = work / "server.log"
        named = [f"--index={name}={folder}" for name, folder in indexes.items()]
        free = {"listen": "127.0.0.1:0", "http": "127.0.0.1:0"}
        self.command = programs.command("fathom-server", *named, **free, **options)
        self.process = None
        self.address = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.address = self.wait_until_ready()
        return self.address

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_until_ready(self):
        """The address it listens on, from the line that says so."""
        limit = time.monotonic() + self.READY_SECONDS
        while time.monotonic() < limit:
            log = self.log()
            found = re.search(r"(?<!http )listening on (127\.0\.0\.1:\d+)", log)
            if found and "ready: " in log:
                return found.group(1)
            if self.process.poll() is not None:
                raise ProgramFailed(
                    f"{' '.join(self.command)}\nended at once; its log:\n{self.log()}"
                )
            time.sleep(0.02)
        raise ProgramFailed(
            f"fathom-server is not ready after {self.READY_SECONDS} s; its log:\n" f"{self.log()}"
        )

    def stop(self):
        """Asks it to drain and end; insists when it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(self.STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(
                f"fathom-server did not end within {self.STOP_SECONDS} s: killed", file=sys.stderr
            )
            self.process.kill()
            self.process.wait()


def die_on_terminate():
    """Makes SIGTERM unwind like Ctrl-C does, so that with blocks end their servers."""

    def leave(number, _):
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
