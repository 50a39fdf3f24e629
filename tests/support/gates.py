#!/usr/bin/env python3
"""The gates: rules of the house that no compiler checks. `./dev lint` and the tests run them.

    os calls     only index/env talks to the OS; the other layers of the library, the builder and
                 the dataset readers go through it, so that a fault plan reaches every operation
    renames      only file_finish() publishes a file
    includes     a third party is included by its own layer alone
    sizes        files up to 650 lines, functions up to 75
    marks        no notes to one's later self in the code: an issue or a sentence instead
    machine      no path of somebody's home or work folder
    python       every script compiles
    links        what a document links to within the project is there: the file, and the heading in it
    names        what is on disk, on the wire or in /metrics by a name has it in its document
    tests alone  a function that only tests call says "for (the) tests" in its comment, or its header in its
                 first, or it is not there
    records      each decision has its line in the list of docs/adr/README.md

That a layer includes only what it may is CMake's gate (include paths are per target). Comments and
strings are blanked before the code is searched, so that "open (the file)" in a sentence is no call.

    gates.py [FOLDER]    prints `file:line: gate: what`, one a line; exit 1 when there is any
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

FILE_LINES_MAX = 650
FUNCTION_LINES_MAX = 75

# Folders that must go through index/env. HDF5 and OpenBLAS do their own, inside their own library.
BEHIND_ENV = (
    "index/base/",
    "index/codec/",
    "index/format/",
    "index/search/",
    "index/kernel/",
    "builder/",
    "datasets/",
)
OS_CALLS = (
    "open open64 openat openat2 creat close closefrom close_range read readv pread preadv preadv2 "
    "write writev pwrite pwritev pwritev2 lseek copy_file_range sendfile splice tee vmsplice "
    "fsync fdatasync sync syncfs sync_file_range msync ftruncate truncate fallocate "
    "posix_fallocate posix_fadvise readahead "
    "fstat stat lstat fstatat statx statfs fstatfs statvfs fstatvfs access faccessat eaccess "
    "euidaccess chmod fchmod fchmodat chown fchown lchown utime utimes utimensat futimens umask "
    "rename renameat renameat2 unlink unlinkat remove link linkat symlink symlinkat readlink "
    "readlinkat realpath rmdir mkdir mkdirat mkfifo mknod chdir fchdir getcwd "
    "opendir fdopendir readdir closedir dirfd scandir ftw nftw glob "
    "flock lockf fcntl ioctl dup dup2 dup3 pipe pipe2 "
    "mmap mmap64 munmap mremap mprotect madvise posix_madvise mincore mlock mlock2 mlockall munlock "
    "memfd_create shm_open shmget brk sbrk "
    "fopen fdopen freopen fread fwrite fgets fgetc fscanf getline getdelim fseek fseeko fclose "
    "tmpfile tmpnam mkstemp mkostemp mkdtemp popen pclose system "
    "fork vfork clone posix_spawn posix_spawnp execl execlp execv execve execvp execvpe fexecve "
    "wait waitpid waitid wait4 syscall prctl getrlimit setrlimit prlimit getrusage "
    "socket socketpair connect accept accept4 bind listen send recv sendto recvfrom sendmsg recvmsg "
    "poll ppoll select pselect epoll_create1 epoll_ctl epoll_wait eventfd timerfd_create "
    "inotify_init1 "
    "clock clock_gettime clock_nanosleep gettimeofday time times nanosleep usleep sleep alarm "
    "getrandom getentropy rand rand_r random srand srandom drand48 "
    "malloc calloc realloc reallocarray aligned_alloc posix_memalign memalign valloc strdup "
    "strndup asprintf vasprintf open_memstream "
    "pthread_create pthread_join pthread_detach thrd_create sched_getaffinity sched_setaffinity "
    "sched_setscheduler sysconf io_uring_setup io_uring_enter io_uring_register"
).split()
# A member call (env->open(...), file.read(...)) is not the OS's, nor is a declaration of a member,
# "int (*open)(...)".
OS_CALL = re.compile(r"(?<![\w.>*])(" + "|".join(OS_CALLS) + r")\s*\(")
# Memory is base/mem's; but what the public API has the caller free() must come from malloc.
OS_CALL_OWNERS = {
    "index/base/mem.c": {"aligned_alloc", "mmap", "munmap"},
    "index/search/index.c": {"calloc"},
}

RENAME = re.compile(r"(?<![\w.>*])rename(?:at2?)?\s*\(|->rename\s*\(")
RENAME_OWNERS = ("index/env/", "tests/")

# header -> the folders that may include it (tests may include anything)
THIRD_PARTIES = {
    r"liburing\.h": ("index/env/",),
    r"xxhash\.h": ("index/format/", "builder/"),
    r"(?:cblas|openblas_config|lapacke?)\.h": ("builder/", "datasets/"),
    r"hdf5\w*\.h": ("datasets/",),
    r"event2?/\w+\.h|event\.h": ("server/",),
    r"msgpack(?:/.*)?\.hp?p?": ("server/", "client/"),
    r"jansson\.h": ("index/tool/", "datasets/", "builder/", "server/", "client/cli/", "bench/"),
    r"argp\.h": ("index/tool/", "datasets/", "builder/", "server/", "client/cli/", "bench/"),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')

# Put together from halves, so that this file does not find itself.
MARK = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")) + r")\b")
MACHINE = re.compile(
    r"(?<![\w.])/(?:" + "|".join(("ro" + "ot", "wo" + "rk", "ho" + "me")) + r")/\w"
)

# [text](target), [text](target#place) or [text](#place); links to other sites are not looked at.
LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)")

# Function declarations of a header; what links call is no concern of the tests.
DECLARED = re.compile(r"^(?!typedef|static)\w[\w\s*]*?[\s*](\w+)\([^;{}]*\)[^;{}()]*;", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
FOR_TESTS = re.compile(r"for\s+(?:\*\s+)?(?:the\s+)?(?:\*\s+)?tests", re.IGNORECASE)
INSTALLED = ("index/include/", "client/c/include/")

# Where names are made -> (how, the document that must tell them, and how one stands in it).
NAMES = {
    "client/protocol.h": (
        re.compile(r"define PROTOCOL_(?:METHOD|KEY|ERROR|REASON)_\w+\s+(?:\\\n\s*)?\"(\w+)\""),
        "docs/PROTOCOL.md",
        r"`\"?{}\"?`|^### {}\b|^\| \*?`{}`",
    ),
    "index/format/superblock.c": (
        re.compile(r"\[SECTION_\w+\] = \"(\w+)\""),
        "docs/FORMAT.md",
        r"^\| \d+ \| {} \|",
    ),
    "server/http/metrics.c": (
        re.compile(r"(?:\(out, |\{)\"([a-z_]+)\", (?:\"(?:gauge|counter|histogram)\"|\"[A-Z])"),
        "docs/OPERATIONS.md",
        r"`fathom_{}`",
    ),
}

CODE = (".c", ".h", ".py", ".sh", ".cmake")
TEXT = CODE + (".txt", ".json", ".md", ".toml", ".yml", ".cfg", "dev", "run")


def blank_comments(text):
    """C source with comments, strings and characters blanked; lines stay where they are."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL
    )
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def under(path, folders):
    return path.startswith(tuple(folders))


def check_os_calls(path, code):
    if not under(path, BEHIND_ENV):
        return
    allowed = OS_CALL_OWNERS.get(path, ())
    for number, line in enumerate(code.split("\n"), 1):
        for match in OS_CALL.finditer(line):
            if match.group(1) not in allowed:
                what = f"{match.group(1)}() is index/env's (or base/mem's) to call"
                yield number, "os calls", what


def check_renames(path, code):
    if under(path, RENAME_OWNERS):
        return
    for number, line in enumerate(code.split("\n"), 1):
        if RENAME.search(line):
            yield number, "renames", "only file_finish() in index/env renames"


def check_includes(path, text):
    if under(path, ("tests/",)):
        return
    for number, line in enumerate(text.split("\n"), 1):
        match = INCLUDE.match(line)
        for header, folders in THIRD_PARTIES.items() if match else ():
            if re.fullmatch(header, match.group(1)) and not under(path, folders):
                yield number, "includes", f"{match.group(1)} belongs to {', '.join(folders)}"


def check_functions(code):
    """Lengths of top-level brace blocks that are functions: what stands before `{` ends in `)`."""
    depth, start, head = 0, 0, ""
    for number, line in enumerate(code.split("\n"), 1):
        if line.lstrip().startswith("#"):
            continue
        for character in line:
            if character == "{":
                if depth == 0:
                    start, is_function = number, head.rstrip().endswith(")")
                depth += 1
            elif character == "}":
                depth -= 1
                if depth == 0:
                    if is_function and number - start > FUNCTION_LINES_MAX:
                        what = f"function of {number - start} lines ({FUNCTION_LINES_MAX} allowed)"
                        yield start, "sizes", what
                    head = ""
            elif depth == 0:
                head = "" if character == ";" else head + character
        head += " "


def check_text(path, text):
    lines = text.split("\n")
    if path.endswith(CODE) and len(lines) - 1 > FILE_LINES_MAX:
        yield 1, "sizes", f"file of {len(lines) - 1} lines ({FILE_LINES_MAX} allowed)"
    for number, line in enumerate(lines, 1):
        match = MARK.search(line)
        if match and not path.endswith(".md"):
            yield number, "marks", f"{match.group(1)}: open an issue, or say it in a sentence"
        match = MACHINE.search(line)
        if match:
            yield number, "machine", f"a path of one machine: {line.strip()[:60]}"


def check_python(path, text):
    try:
        compile(text, path, "exec")
    except SyntaxError as error:
        yield error.lineno or 1, "python", str(error)


def headings(text):
    """The names by which headings are linked to: lower case, blanks as -, most other signs left out."""
    found, fenced = set(), False
    for line in text.split("\n"):
        fenced ^= line.startswith("```")
        match = re.match(r"#+ +(.*)", line)
        if match and not fenced:
            found.add(re.sub(r"[^\w\- ]", "", match.group(1).strip().lower()).replace(" ", "-"))
    return found


def check_links(folder, path, text):
    for number, line in enumerate(text.split("\n"), 1):
        for target, place in LINK.findall(line):
            file = (folder / path).parent / target
            if not file.exists():
                yield number, "links", f"{target} is not there"
            elif place and (not target or file.suffix == ".md"):
                told = file.read_text(encoding="utf-8") if target else text
                if place not in headings(told):
                    yield number, "links", f"there is no heading #{place} in {target or path}"


def check_names(folder, path, text):
    pattern, document, form = NAMES[path]
    told = (folder / document).read_text(encoding="utf-8")
    found = list(pattern.finditer(text))
    if not found:
        yield 1, "names", "there are none; is the pattern of this gate still right?"
    for match in found:
        if not re.search(form.replace("{}", match.group(1)), told, re.MULTILINE):
            number = text.count("\n", 0, match.start()) + 1
            yield number, "names", f"{match.group(1)} is not told in {document}"


def check_records(folder, path, text):
    linked = [target for target, _ in LINK.findall(text)]
    for record in sorted((folder / path).parent.glob("[0-9]*.md")):
        if record.name not in linked:
            yield text.count("\n"), "records", f"{record.name} has no line in the list"


def uncalled(headers, sources):
    """(path, line, name) of functions that these headers ({path: text}) declare for nobody in these
    sources (blanked code) and not for tests either: a name stands once where it is defined."""
    words = Counter(word for code in sources for word in re.findall(r"\w+", code))
    for path, text in headers.items():
        code = blank_comments(text)
        words.update(re.findall(r"\w+", DECLARED.sub("", code)))
    for path, text in headers.items():
        comments = [(match.start(), bool(FOR_TESTS.search(match.group()))) for match in COMMENT.finditer(text)]
        if comments and comments[0][1]:
            continue
        for match in DECLARED.finditer(blank_comments(text)):
            told = [for_tests for start, for_tests in comments if start < match.start(1)]
            if words[match.group(1)] <= 1 and not (told and told[-1]):
                yield path, text.count("\n", 0, match.start(1)) + 1, match.group(1)


def check_uncalled(texts):
    headers = {p: t for p, t in texts.items() if p.endswith(".h") and not under(p, INSTALLED)}
    sources = [blank_comments(text) for path, text in texts.items() if path.endswith(".c")]
    for path, line, name in uncalled(headers, sources):
        yield path, line, "tests alone", f"nobody but tests calls {name}()"


def check_file(path, text, folder=Path()):
    yield from check_text(path, text)
    if path.endswith((".c", ".h")):
        code = blank_comments(text)
        yield from check_os_calls(path, code)
        yield from check_renames(path, code)
        yield from check_includes(path, text)
        yield from check_functions(code)
    if path.endswith(".py"):
        yield from check_python(path, text)
    if path.endswith(".md"):
        yield from check_links(folder, path, text)
    if path == "docs/adr/README.md":
        yield from check_records(folder, path, text)
    if path in NAMES:
        yield from check_names(folder, path, text)


def source_files(folder):
    """What git tracks or would add; in an unpacked archive, all but build/."""
    listed = subprocess.run(
        ["git", "-C", str(folder), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        check=False,
    )
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:
        names = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    return sorted(n for n in names if not n.startswith("build/") and (folder / n).is_file())


def main(arguments):
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parents[2]
    texts = {
        name: (folder / name).read_text(encoding="utf-8", errors="replace")
        for name in source_files(folder)
        if name.endswith(TEXT) and name != "LICENSE"
    }
    found = [(name, *what) for name, text in texts.items() for what in check_file(name, text, folder)]
    found += check_uncalled({name: text for name, text in texts.items() if not under(name, ("tests/",))})
    for name, line, gate, what in found:
        print(f"{name}:{line}: {gate}: {what}")
    print(f"gates: {len(texts)} files, {len(found)} found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
