"""The records of the suite: one JSON file for each set and engine, and what is read off them.

A record says what was run, where, and on which commit; "variants" are the ways an engine was built
and opened, each with its memory seen from outside and its runs (search parameters, recall, QPS).
"""

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path

SCHEMA = 2
TARGETS = (0.90, 0.95, 0.98, 0.99)
RECALL_RANGE = (0.88, 0.99)  # of what is drawn, and from which on no sweep goes on
NEAR_SHARE, NEAR_BYTES = 0.005, 512 << 10  # see counts_as()
TITLES = {"fathom": "fathom", "hnswlib": "hnswlib", "faiss": "faiss", "usearch": "usearch",
          "diskann": "DiskANN", "lancedb": "LanceDB", "zvec": "zvec", "qdrant": "Qdrant"}


def describe_machine(folder):
    """CPU, memory, kernel, and what the folder lies on."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": cpu.group(1) if cpu else platform.machine(), "cpus": os.cpu_count(),
        "memory_bytes": int(memory.group(1)) * 1024,
        "kernel": f"{platform.system()} {platform.release()}", "device": device_of(folder),
    }


def device_of(folder):
    """"/dev/vda ext4": the mount with the longest path above the folder."""
    best, name = "", "unknown device"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        if os.path.commonpath([point, str(Path(folder).resolve())]) == point and point >= best:
            kind, source = right.split()[:2]
            best, name = point, f"{source} {kind}"
    return name


def commit():
    """"4fd1fee", or "4fd1fee-dirty" when sources differ from it; what the suite itself writes does not
    count."""
    root = Path(__file__).resolve().parents[1]
    sources = [":!bench/results", ":!docs/BENCHMARKS.md", ":!docs/benchmarks"]
    name = git(root, "rev-parse", "--short", "HEAD")
    changed = git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *sources)
    return (name or "unknown") + ("-dirty" if changed else "")


def git(root, *words):
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def make(data, engine, part, progress, pace):
    """A whole record from the part that is the engine's. run: which run of the suite it is of."""
    shown = ("name", "rows", "dim", "dtype", "metric", "k")
    return {"schema": SCHEMA, "engine": engine, "set": {name: data[name] for name in shown},
            "run": progress.run, "date": today(), "commit": progress.commit,
            "machine": progress.machine, "threads": 2, "pace": pace, **part}


def rounded(value):
    """Six digits: what is measured has no more, and the files stay small."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def write(folder, record):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record['set']['name']}.{record['engine']}.json"
    path.write_text(layout(rounded(record)), encoding="utf-8")
    return path


def layout(record):
    """A line for each field, and for each variant and run: small, and a diff shows what changed."""
    lines = []
    for name, value in record.items():
        if name != "variants":
            lines.append(f"{json.dumps(name)}: {json.dumps(value)}")
            continue
        variants = []
        for variant in value:
            head = json.dumps({key: each for key, each in variant.items() if key != "runs"})
            runs = ",\n   ".join(json.dumps(run) for run in variant["runs"])
            variants.append(f'{head[:-1]}, "runs": [\n   {runs}]}}')
        lines.append(f'"variants": [\n  {(",%s  " % chr(10)).join(variants)}]')
    return "{" + ",\n ".join(lines) + "}\n"


def read_all(folder):
    """{set name: {engine: record}}, both in the order in which they are shown."""
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("schema") == SCHEMA:
            found.setdefault(record["set"]["name"], {})[record["engine"]] = record
    return {
        name: {engine: engines[engine] for engine in TITLES if engine in engines}
        for name, engines in found.items()
    }


# ---- what is read off them ----


def raw_bytes_per_vector(record):
    return record["set"]["dim"] * 4


def label(record, variant):
    title = TITLES[record["engine"]]
    return title if len(record["variants"]) < 2 else f"{title} {variant['name']}"


def best_run(variant, target):
    """The fastest run that reaches the recall, or None: nothing between two runs is made up."""
    fit = [run for run in variant["runs"] if run["recall"] >= target]
    return max(fit, key=lambda run: run["qps"]) if fit else None


def points(record, target):
    """(bytes of DRAM per vector, run, variant) of each variant that reaches the recall."""
    found = [(variant["dram_bytes_per_vector"], best_run(variant, target), variant)
             for variant in record["variants"]]
    return sorted((each for each in found if each[1]), key=lambda each: each[0])


def front(candidates):
    """Of points, those that no other beats in both memory and QPS."""
    kept, best = [], 0
    for point in sorted(candidates, key=lambda each: (each[0], -each[1]["qps"])):
        if point[1]["qps"] > best:
            kept.append(point)
            best = point[1]["qps"]
    return kept


def counts_as(record, bytes_per_vector):
    """The most that may be seen of what was given so much memory: pages are whole, and a process that
    measures needs stacks and a report. The same for every engine."""
    return bytes_per_vector * (1 + NEAR_SHARE) + NEAR_BYTES / record["set"]["rows"]


def best_within(record, target, bytes_per_vector):
    """(QPS, variant) of the best within so much memory, or None."""
    fit = [(run["qps"], variant) for dram, run, variant in points(record, target)
           if dram <= counts_as(record, bytes_per_vector)]
    return max(fit, key=lambda each: each[0]) if fit else None
