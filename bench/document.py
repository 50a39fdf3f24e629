"""docs/BENCHMARKS.md from the records: figures and pictures are read off them, the text between comes
from BENCHMARKS.md.in and BENCHMARKS.set.md.in."""

import os
import re
from pathlib import Path

import fathom_runs
import records
import sets
import timetable

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs" / "BENCHMARKS.md"
WINNER_SHARES = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)  # of raw f32
HEADLINE = 0.95
OTHERS_MAX = 0.05  # of the CPUs; above it a speed does not count


def table(head, rows):
    """A Markdown table; the first column flush left, figures flush right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value, digits=0):
    return "" if value is None else f"{value:,.{digits}f}"


def mib(value):
    """Whole ones, but for what is little."""
    return number(value / 2**20, 0 if value >= 100 << 20 else 1)


# ---- who wins ----


def winner_cell(engines, target, bytes_per_vector):
    """The fastest within so much memory, and by how much it leads the next engine."""
    best = []
    for record in engines.values():
        found = records.best_within(record, target, bytes_per_vector)
        if found:
            best.append((found[0], records.TITLES[record["engine"]]))
    if not best:
        return "none"
    best.sort(reverse=True)
    lead = f", {best[0][0] / best[1][0]:.1f}x {best[1][1]}" if len(best) > 1 else ""
    name = f"**{best[0][1]}**" if best[0][1] == "fathom" else best[0][1]
    return f"{name} {best[0][0]:,.0f}{lead}"


def calm(record):
    """Whether nobody else used the machine to speak of: only then is a speed one to compare."""
    return record.get("others_cpu", 1) <= OTHERS_MAX


def comparable(engines):
    """The records of a set whose speeds may be compared: undisturbed, and of the machine that the
    newest is of."""
    newest = max(engines.values(), key=lambda record: record["run"])
    return {engine: record for engine, record in engines.items()
            if calm(record) and record["machine"] == newest["machine"]}


def winners(found, target):
    head = ["set", *(f"{share:.0%} of raw" for share in WINNER_SHARES)]
    rows = []
    for name, engines in found.items():
        raw = records.raw_bytes_per_vector(next(iter(engines.values())))
        fair = comparable(engines)
        cells = [winner_cell(fair, target, share * raw) if fair else "not measured alone"
                 for share in WINNER_SHARES]
        rows.append([f"{name} ({raw} B)", *cells])
    return table(head, rows)


# ---- one set ----


def spread(run):
    middle = run["qps"] or 1
    return f"{number(run['qps'])} ±{max(run['qps_max'] - middle, middle - run['qps_min']) / middle:.0%}"


def front_rows(engines, target):
    for record in engines.values():
        for dram, run, variant in records.points(record, target):
            setting = ", ".join(f"{key} {value}" for key, value in run["params"].items())
            name = records.label(record, variant)
            yield [name, number(dram, 1), setting, f"{run['recall']:.4f}", spread(run),
                   number(run["reads_per_query"], 1), number(run["cpu_us_per_query"]),
                   number(run["alone_us"]["p50"]), number(run["alone_us"]["p99"])]


def front_table(engines, target):
    head = ["engine", "DRAM B/vector", "search", "recall@10", "QPS", "reads", "CPU us",
            "alone p50 us", "alone p99 us"]
    return table(head, front_rows(engines, target))


def ledger_table(record):
    """What fathom says that it keeps beside what is seen from outside."""
    rows = [
        [variant["name"], variant["navigator"], str(variant["inflight"]),
         mib(variant["budget_bytes"]) if variant["budget_bytes"] else "",
         mib(variant["ledger"]["total"]), mib(variant["ledger"]["scratch"]), mib(variant["dram"]["anon_bytes"]),
         mib(variant["dram"]["page_cache_bytes"])]
        for variant in record["variants"]
    ]
    return table(["budget", "navigator", "in flight a thread", "budget MiB", "ledger MiB",
                  "of it for queries MiB", "anonymous memory added MiB", "page cache MiB"], rows)


def load_table(load):
    rows = [
        [number(run["rate"]), f"{run['answered'] / run['due']:.1%}", number(run["recall"], 4)]
        + [number(run["latency_us"][part] / 1e3, 2) for part in ("p50", "p99", "p999")]
        for run in load["runs"]
    ]
    return table(["requests a second", "answered", "recall@10", "p50 ms", "p99 ms", "p99.9 ms"],
                 rows)


def peak_line(load):
    """The one figure of latency: at a part of the most that the server answered."""
    at_part = load["at_peak_part"]
    return (f"At {load['share']:.0%} of raw and target recall {load['target_recall']}, the most that "
            f"it answered is {number(load['peak_qps'])} requests a second; at "
            f"{load['peak_part']:.0%} of that, p50 is {at_part['latency_us']['p50'] / 1e3:.2f} ms and "
            f"p99 **{at_part['latency_us']['p99'] / 1e3:.2f} ms**."
            + client_line(at_part) + in_process_line(load.get("in_process")))


def client_line(run):
    """What asks runs on the same CPUs, and takes of them; records of before do not tell."""
    if "client_urgency" not in run:
        return ""
    return (f" The client ran as {run['client_urgency']} and took "
            f"{run['client_cpu_us_per_request']:.1f} us of CPU a request.")


def in_process_line(load):
    if not load:
        return ""
    at_part = load["at_peak_part"]
    return (f" In process, without client and network, at the same budget: {number(load['peak_qps'])} "
            f"queries a second; in an open loop at {load['peak_part']:.0%} of that "
            f"({number(at_part['rate'])}/s, recall {at_part['recall']:.4f}), "
            f"p50 is {at_part['latency_us']['p50'] / 1e3:.2f} ms and p99 "
            f"**{at_part['latency_us']['p99'] / 1e3:.2f} ms**" + real_time_words(load) + ".")


def real_time_words(load):
    """Whoever may, runs before all else; elsewhere the fair class decides on the tail (ADR 40)."""
    run = load.get("in_real_time")
    if not run or run["urgency"] != "realtime":
        return ""
    return (f", in real time (`--urgency realtime`) {run['latency_us']['p50'] / 1e3:.2f} ms and "
            f"**{run['latency_us']['p99'] / 1e3:.2f} ms**")


def build_table(engines):
    rows, seen = [], set()
    for record in engines.values():
        for variant in record["variants"]:
            key = (record["engine"], variant["build_seconds"])
            if key in seen:
                continue
            seen.add(key)
            own = record["engine"] == "fathom"
            rows.append(["fathom" if own else records.label(record, variant),
                         build_seconds(variant),
                         mib(variant["build_peak_rss_bytes"]), mib(variant["index_bytes"])])
    return table(["engine", "build s", "peak memory MiB", "index MiB"], rows)


def build_seconds(variant):
    """Marked when others used the machine: an index may be older than its record."""
    shown, others = number(variant["build_seconds"], 1), variant["build_others_cpu"]
    return shown if others <= OTHERS_MAX else f"{shown} (others: {others:.0%} of the CPUs)"


def commands(record, name):
    """What makes fathom's points by hand, and the record anew."""
    data = record["set"]
    base, query, truth = "base.npy", "query.npy", "truth.bin"
    lines = sets.command_of(data)
    if lines:
        base, query = "base.fbin", "query.fbin"
    zeros = " --zero-rows skip" if data["metric"] == "cos" else ""
    return "\n    ".join([
        f"./dev bench --sets {name}", "", "# fathom's part by hand:", *lines,
        f"fathom-build build --input {base} --out {name}.index --metric {data['metric']} "
        f"--threads 2{zeros}",
        *search_commands(record, f"fathom-bench search --index {name}.index --query {query} --gt {truth} "
                         f"--threads 2 --repeat {record['pace']['repeats']} "
                         f"--seconds {record['pace']['seconds']:g}"),
        *load_commands(record["load"], name, query, truth),
    ])


def search_commands(record, command):
    """One for all budgets that have as many queries in flight."""
    targets = sorted({run["params"]["target_recall"] for variant in record["variants"]
                      for run in variant["runs"]})
    budgets = {}
    for variant in record["variants"]:
        word = fathom_runs.budget_word(variant["share"])
        budgets.setdefault(variant["inflight"], []).append(word)
    return [f"{command} --inflight {inflight} --target-recall {','.join(map(str, targets))} "
            f"--dram-budget {','.join(words)}" for inflight, words in budgets.items()]


def load_commands(load, name, query, truth):
    """The server with its load, and the open loop in process."""
    if not load:
        return []
    part, recall = f"{load['peak_part']:.0%}", load["target_recall"]
    budget = fathom_runs.budget_word(load["share"])
    return [
        f"fathom-server --index {name}={name}.index --workers 2 --inflight {load['inflight']} "
        f"--dram-budget {budget} &",
        f"fathom-bench load --index {name} --query {query} --gt {truth} "
        f"--target-recall {recall} --connections {load['connections']} --rate {part}",
    ] + ([
        f"fathom-bench search --index {name}.index --query {query} --gt {truth} --threads 2 "
        f"--inflight {load['in_process']['inflight']} --target-recall {recall} "
        f"--dram-budget {budget} --rate {part}",
    ] if load.get("in_process") else [])


def traces(engines):
    """The versions of the engines."""
    return ", ".join(f"{'fathom ' if engine == 'fathom' else ''}{record['version']}"
                     for engine, record in engines.items())


def section(template, name, engines, pictures):
    data = next(iter(engines.values()))["set"]
    own = engines.get("fathom")
    fields = {
        "name": name, "about": sets.TITLES.get(name, ""), "rows": f"{data['rows']:,}",
        "dim": str(data["dim"]), "raw": str(data["dim"] * 4), "traces": traces(engines),
        "commands": commands(own, name) if own else f"./dev bench --sets {name}",
        "front_table": front_table(engines, HEADLINE),
        "ledger_table": ledger_table(own) if own else "Not measured.",
        "load_table": load_table(own["load"]) if own and own["load"] else "Not measured.",
        "peak": peak_line(own["load"]) if own and own["load"] else "",
        "build_table": build_table(engines), "pictures": pictures,
    }
    return fill(template, fields)


# ---- the page ----


def absent_rows(found):
    for name, engines in found.items():
        for engine, title in records.TITLES.items():
            record = engines.get(engine)
            if record is None:
                yield [f"{title} on {name}", "not part of what was run"]
                continue
            if record["status"] != "measured":
                yield [f"{title} on {name}", f"{record['status']}: {record['reason']}"]
                continue
            for failed in record.get("failed", ()):
                yield [f"{title} {failed['name']} on {name}", failed["reason"]]


def absent(found):
    missing = [[name, "no records: not on the machine, or never run"]
               for name in sets.STANDARD if name not in found]
    rows = [[what, clean(why)] for what, why in (*absent_rows(found), *missing)]
    return table(["what", "why"], rows).replace("---:", "---") if rows else "Nothing."


def clean(reason):
    """One line, without the paths of one machine."""
    return re.sub(r"/\S*/", "", reason.replace("|", "/").replace("\n", " "))[:200]


def machine(found):
    """Each machine that a record is of; one, as a rule."""
    seen = {}
    for name, engines in found.items():
        for record in engines.values():
            each = record["machine"]
            text = (f"{each['cpu']}, {each['cpus']} CPUs, {each['memory_bytes'] / 2**30:.0f} GiB, "
                    f"{each['kernel']}, {each['device']}")
            seen.setdefault(text, set()).add(name)
    own = [engines["fathom"] for engines in found.values() if "fathom" in engines]
    rings = {variant["io_engine"] for record in own for variant in record["variants"]}
    levels = {record.get("cpu_level") for record in own}
    lines = [text if len(seen) < 2 else f"{text} ({', '.join(sorted(names))})"
             for text, names in seen.items()]
    return (" / ".join(lines)
            + f"; fathom at CPU level {', '.join(sorted(filter(None, levels)))}, reading by "
            + ", ".join(sorted(rings)))


def runs(found):
    """One line when all records are of one run of the suite; else which are of which."""
    seen = {}
    for name, engines in found.items():
        for engine, record in engines.items():
            run = f"the run of {record['run']} on commit {record['commit']}"
            seen.setdefault(run, {}).setdefault(records.TITLES[engine], []).append(name)
    newest, *older = sorted(seen, reverse=True)
    if not older:
        return f"All records are of one run of the suite, {newest[len('the run of '):]}."
    named = "".join(f"\n- of {run}: {engines_on_sets(seen[run])}" for run in older)
    return (f"**Records of more than one run.** The newest are of {newest}. Older, and not measured "
            f"again since, are\n{named}")


def engines_on_sets(names):
    """"A, B on x, y; C on x" of {"A": ["x", "y"], "B": ["x", "y"], "C": ["x"]}."""
    together = {}
    for engine, of in names.items():
        together.setdefault(tuple(of), []).append(engine)
    return "; ".join(f"{', '.join(engines)} on {', '.join(of)}" for of, engines in together.items())


def other_machines(found):
    """A warning when records of a set are of different machines."""
    named = [f"{records.TITLES[engine]} on {name}"
             for name, engines in found.items() for engine, record in engines.items()
             if record["machine"] != max(engines.values(), key=lambda each: each["run"])["machine"]]
    return ("" if not named else
            f"\n\n**Of another machine**, and left out of the tables above: {', '.join(named)}.")


def repetitions(count):
    return "1 repetition" if count == 1 else f"{count} repetitions"


def pace(found):
    """How long was measured; each way that a record was made in."""
    return " or ".join(sorted({
        f"{repetitions(record['pace']['repeats'])} of at least {record['pace']['seconds']:g} s"
        for engines in found.values() for record in engines.values()
    }))


def disturbed(found):
    """A warning when others used the machine while a record was made."""
    shares = {f"{records.TITLES[engine]} on {name}": record.get("others_cpu")
              for name, engines in found.items() for engine, record in engines.items()
              if record["status"] == "measured" and not calm(record)}
    if not shares:
        return "Nobody else used the machine meanwhile."
    named = ", ".join(f"{what} ({'unknown' if share is None else f'{share:.0%}'})" for what, share in shares.items())
    return ("**Others used the machine meanwhile**, so these speeds are too low and not to be "
            f"compared (share of all CPUs that others took): {named}. Memory, reads, recall and "
            "sizes are as they would be alone.")


def cached(found):
    """The most that the page cache held of a fathom index after a run."""
    return max((variant["page_cache_bytes"] for engines in found.values()
                if "fathom" in engines for variant in engines["fathom"]["variants"]), default=0)


def limits(found):
    """How many of fathom's runs with a budget the kernel held to it as well."""
    budgeted = [variant for engines in found.values() if "fathom" in engines
                for variant in engines["fathom"]["variants"] if variant["budget_bytes"]]
    held = sum(variant.get("limit_bytes") is not None for variant in budgeted)
    return (f"fathom does too, in its budget and 4 MiB more: {held} of its {len(budgeted)}\n"
            "  sweeps with a budget were held so.")


def fill(template, fields):
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fields[match.group(1)], template)


def write(results, page):
    """The page and its pictures, beside it in benchmarks/."""
    import plots  # needs matplotlib, which only this needs

    found = order(records.read_all(results))
    if not found:
        raise SystemExit(f"bench: no records in {results}; run ./dev bench first")
    page.parent.mkdir(parents=True, exist_ok=True)
    folder = page.parent / "benchmarks"
    template = (HERE / "BENCHMARKS.set.md.in").read_text(encoding="utf-8")
    sections = []
    for name, engines in found.items():
        measured = {key: each for key, each in engines.items() if each["status"] == "measured"}
        for draw in (plots.front, plots.detail, plots.build):
            draw(folder, name, measured)
        sections.append(section(template, name, measured, folder.name))
    fields = {
        "machine": machine(found), "pace": pace(found),
        "runs": runs(found) + other_machines(found),
        "disturbed": disturbed(found), "winners": winners(found, HEADLINE),
        "winners_high": winners(found, 0.98), "sets": "\n".join(sections),
        "absent": absent(found), "cached": str(cached(found)), "limits": limits(found),
        "minutes": f"{timetable.MINUTES:g}", "near_share": f"{records.NEAR_SHARE:.1%}", "near_kib": str(records.NEAR_BYTES >> 10),
        "shares": ", ".join(f"{share:.0%}" for share in fathom_runs.SHARES if share),
        "contents": " - ".join(f"[{name}](#{name})" for name in found),
        "results": os.path.relpath(results, page.parent),
    }
    text = fill((HERE / "BENCHMARKS.md.in").read_text(encoding="utf-8"), fields)
    page.write_text(text, encoding="utf-8")


def order(found):
    names = [name for name in sets.STANDARD if name in found]
    return {name: found[name] for name in [*names, *sorted(found.keys() - set(names))]}
