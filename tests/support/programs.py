#!/usr/bin/env python3
"""docs/PROGRAMS.md and the programs say the same: each verb has a section there, and its table of options is what
the program's own --help says. What --json prints is told below each table by hand; programs_test.py holds that to
what is printed.

    programs.py --bin FOLDER           prints what differs; exit 1 when anything does
    programs.py --bin FOLDER --write   makes the tables anew
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "PROGRAMS.md"
PROGRAMS = ("fathom-data", "fathom-build", "fathom-check", "fathom-bench", "fathom-server", "fathom-cli")
EVERYWHERE = ("--help", "--usage", "--version")
# Between a section's head and this line stands what --help says; behind it, what people wrote.
END = "<!-- so far by tests/support/programs.py -->"

VERB = re.compile(r"^  (\w+) {2,}\S")
# One blank may be all that stands behind a long name with a value; behind "--out FILE" in an example it is no option.
OPTION = re.compile(r"^ {2,6}(-\w, )?(--[\w-]+(?:=\S+|(?=  |$)))(?: +(.*))?$")


def ask_help(binaries, command):
    # argp's own variable: no line is wrapped.
    environment = {**os.environ, "ARGP_HELP_FMT": "rmargin=2000"}
    program, *verb = command.split()
    asked = [str(binaries / program), *verb, "--help"]
    return subprocess.run(asked, capture_output=True, text=True, check=True, env=environment).stdout


def commands(binaries):
    """Every verb of every program: "fathom-data synth"..."""
    for program in PROGRAMS:
        verbs = [found.group(1) for found in map(VERB.match, ask_help(binaries, program).split("\n")) if found]
        yield from (f"{program} {verb}" for verb in verbs)
        if not verbs:
            yield program


def options(text):
    """(short, long, meaning) of each option that is not everywhere."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        found = OPTION.match(line)
        if not found or found.group(2) in EVERYWHERE:
            continue
        short, long, meaning = found.groups()
        if not meaning and number + 1 < len(lines):
            meaning = lines[number + 1]  # the name is so long that it has a line of its own
        yield short, long, " ".join((meaning or "").split())


def cell(text):
    return text.replace("|", "\\|")


def table(text):
    """What a section says of a verb, from its --help."""
    usage, about, *_ = text.split("\n")
    lines = [about, "", f"    {usage.removeprefix('Usage: ')}", "", "| option | |", "|---|---|"]
    for short, long, meaning in options(text):
        lines.append(f"| `{cell((short or '') + long)}` | {cell(meaning)} |")
    return "\n".join(lines)


def sections(document):
    """The text of each "### command", up to the next head."""
    parts = re.split(r"^##+ (.*)\n", document, flags=re.MULTILINE)
    return {head: text for head, text in zip(parts[1::2], parts[2::2]) if head.split()[0] in PROGRAMS}


def compare(document, tables):
    """What is wrong with the document, one a line."""
    told = sections(document)
    for command in sorted(told.keys() - tables.keys()):
        if " " in command or command == "fathom-server":
            yield f"{command}: is told of, but there is no such verb"
    for command, wanted in tables.items():
        if command not in told:
            yield f"{command}: has no section"
        elif told[command].split(END)[0].strip() != wanted:
            yield f"{command}: is not as --help says"


def rewrite(document, tables):
    for command, wanted in tables.items():
        section = re.compile(rf"(^##+ {re.escape(command)}\n).*?(?={re.escape(END)})", re.MULTILINE | re.DOTALL)
        document = section.sub(lambda found: f"{found.group(1)}\n{wanted}\n\n", document, count=1)
    return document


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    tables = {command: table(ask_help(arguments.bin, command)) for command in commands(arguments.bin)}
    if arguments.write:
        DOCUMENT.write_text(rewrite(DOCUMENT.read_text(encoding="utf-8"), tables), encoding="utf-8")
    wrong = list(compare(DOCUMENT.read_text(encoding="utf-8"), tables))
    for line in wrong:
        print(f"docs/PROGRAMS.md: {line}; `{Path(__file__).name} --bin FOLDER --write` makes the tables anew")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
