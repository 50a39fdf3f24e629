"""What a process costs in memory, seen from outside, so that nobody's own book-keeping is believed.

    with Watched(command, folder) as process:
        process.wait_for("ready")      it has started and holds its queries, nothing of the index
        process.go(limit_bytes)        from here on what it adds is counted
        ...
    process.dram()                     {"anon_bytes": .., "page_cache_bytes": .., "total_bytes": ..}

Counted are anonymous and shared memory at their peak (sampled), less what there was at "ready", and
what the page cache holds of the files in the index's folder at the end: a mapped index has its
memory there. Pages that only opening left behind are dropped before the searches. A limit holds
the process to that much more than at "ready", page cache included, by a cgroup (v1 or v2) where
the machine lets us make one.
"""

import contextlib
import ctypes
import mmap
import os
import subprocess
import threading
import time
from pathlib import Path

SAMPLE_SECONDS = 0.02
SYS_CACHESTAT = 451
PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
GROUPS = Path("/sys/fs/cgroup")


# ---- the page cache ----


def files_in(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def drop_cache(folder):
    """Writes back what is dirty and asks the cache to forget; mapped pages stay."""
    for path in files_in(folder):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def cached_bytes(folder):
    return sum(cached_bytes_of(path) for path in files_in(folder) if path.stat().st_size)


def cached_bytes_of(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        span, counts = (ctypes.c_uint64 * 2)(0, 0), (ctypes.c_uint64 * 5)()
        if LIBC.syscall(SYS_CACHESTAT, fd, span, counts, 0) == 0:
            return counts[0] * PAGE
        return PAGE * pages_by_mincore(fd)
    finally:
        os.close(fd)


def pages_by_mincore(fd):
    """For kernels before 6.5."""
    size = os.fstat(fd).st_size
    LIBC.mmap.restype = ctypes.c_void_p
    LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    address = LIBC.mmap(None, size, 0, mmap.MAP_SHARED, fd, 0)
    present = (ctypes.c_ubyte * ((size + PAGE - 1) // PAGE))()
    try:
        if LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), present):
            raise OSError(ctypes.get_errno(), "mincore")
        return sum(page & 1 for page in present)
    finally:
        LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))


# ---- limits ----


class NoLimit(Exception):
    """This machine does not let us limit a process' memory; says why."""


class Group:
    """A cgroup that one process is moved to."""

    def __init__(self, pid):
        v1 = (GROUPS / "memory" / "memory.limit_in_bytes").exists()
        parent = GROUPS / "memory" if v1 else GROUPS
        self.limit_file = "memory.limit_in_bytes" if v1 else "memory.max"
        self.usage_file = "memory.usage_in_bytes" if v1 else "memory.current"
        self.folder = parent / f"fathom-bench-{os.getpid()}-{pid}"
        try:
            self.folder.mkdir()
            (self.folder / "cgroup.procs").write_text(str(pid), encoding="ascii")
            (self.folder / self.limit_file).stat()
        except OSError as error:
            self.remove()
            raise NoLimit(f"no memory cgroup can be made here: {error}") from error

    def limit(self, bytes_more, resident_bytes):
        """So much above what the process holds: what it had before it was moved here is not in the
        group's own count."""
        charged = int((self.folder / self.usage_file).read_text())
        total = bytes_more + min(charged, resident_bytes)
        (self.folder / self.limit_file).write_text(str(total), encoding="ascii")

    def remove(self):
        try:
            self.folder.rmdir()
        except OSError:
            pass  # never made, or a process lingers: the system's to clean


def remove_groups_of_the_dead():
    """Of a suite that was killed and could not tidy up. A group that holds a process stays."""
    for folder in (*GROUPS.glob("fathom-bench-*"), *GROUPS.glob("memory/fathom-bench-*")):
        owner = folder.name.split("-")[2]
        if not Path("/proc", owner).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


# ---- who else was there ----


class Others:
    """How much of the machine's CPUs others used meanwhile: from 0 to 1. A speed that was measured
    beside others is too low, and a record says so."""

    def __init__(self):
        self.begin, self.busy, self.own = time.monotonic(), self.busy_seconds(), self.own_seconds()

    @staticmethod
    def busy_seconds():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, softirq = map(int, file.readline().split()[1:8])
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def own_seconds():
        """This process' and those of its children that have ended."""
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    def share(self):
        others = self.busy_seconds() - self.busy - (self.own_seconds() - self.own)
        capacity = (time.monotonic() - self.begin) * os.cpu_count()
        return min(max(others / max(capacity, 1e-9), 0.0), 1.0)


# ---- the process ----


def memory_of(pid):
    """Anonymous and shared memory of a process, and all of its resident memory; 0 when it is gone."""
    fields = {}
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in ("RssAnon", "RssShmem", "VmRSS"):
                fields[name] = int(value.split()[0]) * 1024
    except (OSError, ValueError):
        pass
    return fields.get("RssAnon", 0) + fields.get("RssShmem", 0), fields.get("VmRSS", 0)


class Watched:
    """A process under observation. It says where it is by lines on a pipe (pipe=True: its number
    is put in place of {pipe} in the command) or on stderr, and waits for a line on stdin. From its start
    on it has limit_seconds, if any; then it is killed and timed_out is set."""

    def __init__(self, command, folder, environment, log, limited=False, pipe=False,
                 limit_seconds=None):
        self.folder, self.peak, self.baseline = folder, 0, 0
        self.command, self.environment, self.log = command, environment, log
        self.limited, self.with_pipe = limited, pipe
        self.group = self.process = self.lines = None
        self.over = threading.Event()
        self.timed_out = False
        self.timer = threading.Timer(limit_seconds or threading.TIMEOUT_MAX, self.expire)
        self.timer.daemon = True

    def __enter__(self):
        passed = ()
        if self.with_pipe:
            reader, writer = os.pipe()
            passed = (writer,)
            self.command = [str(word).replace("{pipe}", str(writer)) for word in self.command]
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE if not passed else self.log,
            stderr=self.log if passed else subprocess.PIPE, env=self.environment, pass_fds=passed,
        )
        self.timer.start()
        if passed:
            os.close(writer)
            self.lines = os.fdopen(reader)
        else:
            self.lines = os.fdopen(os.dup(self.process.stderr.fileno()))
        if self.limited:
            try:
                self.group = Group(self.process.pid)
            except NoLimit:
                self.process.kill()
                raise
        return self

    def expire(self):
        self.timed_out = True
        self.process.kill()

    def __exit__(self, *_):
        self.over.set()
        self.timer.cancel()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.lines, self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):  # a line that it never took
                if stream:
                    stream.close()
        if self.group:
            self.group.remove()

    def wait_for(self, station):
        """False when the process ended before it came there."""
        for line in self.lines:
            if line.strip() == station:
                return True
        return False

    def start_counting(self, limit_bytes=None):
        """At "ready"."""
        self.baseline, resident = memory_of(self.process.pid)
        drop_cache(self.folder)
        if self.group:
            self.group.limit(limit_bytes, resident)
        threading.Thread(target=self.sample, daemon=True).start()

    def go(self):
        try:
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.process.wait()  # it has ended; wait_for says so

    def sample(self):
        while not self.over.is_set():
            self.peak = max(self.peak, memory_of(self.process.pid)[0])
            time.sleep(SAMPLE_SECONDS)

    def dram(self):
        """While the process is there still, however seldom it could be looked at."""
        self.peak = max(self.peak, memory_of(self.process.pid)[0])
        anonymous, cached = max(self.peak - self.baseline, 0), cached_bytes(self.folder)
        return {"anon_bytes": anonymous, "page_cache_bytes": cached,
                "baseline_bytes": self.baseline, "total_bytes": anonymous + cached}


def run_and_measure(command, environment, log, cwd=None, limit_seconds=None):
    """Runs to the end, or kills it; (exit code, peak resident bytes, seconds)."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                               env=environment, cwd=cwd)
    timer = threading.Timer(limit_seconds or threading.TIMEOUT_MAX, process.kill)
    timer.daemon = True
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * 1024, time.monotonic() - begin
