#!/usr/bin/env python3
"""Puts the fathom client into the VectorDBBench that this Python has: its files, and the lines that
make `vectordbbench fathom` and the harness know it. Run again, it changes nothing more.

    VENV/bin/python bench/adapters/vectordbbench/install.py
"""

import importlib.util
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("fathom.py", "config.py", "cli.py")
# Method of the DB enum -> module and class that it returns.
KNOWN = {"init_cls": ("fathom", "Fathom"), "config_cls": ("config", "FathomConfig"),
         "case_config_cls": ("config", "FathomIndexConfig")}


def insert(text, anchor, line):
    """The line before the first that begins with the anchor; once."""
    if line in text:
        return text
    place = text.find(anchor)
    if place < 0:
        raise SystemExit(f"this VectorDBBench has no '{anchor.strip()}': its version is not known here")
    return text[:place] + line + text[place:]


def know_client(text):
    text = insert(text, "    Milvus = ", '    Fathom = "Fathom"\n')
    for method, (module, name) in KNOWN.items():
        head, found, rest = text.partition(f"    def {method}(")
        body = (f"        if self == DB.Fathom:\n            from .fathom.{module} import {name}\n\n"
                f"            return {name}\n\n")
        text = head + found + insert(rest, "        if self == DB.", body)
    return text


def know_command(text):
    text = insert(text, "from ..backend.clients.", "from ..backend.clients.fathom.cli import Fathom\n")
    return insert(text, "cli.add_command(", "cli.add_command(Fathom)\n")


def change(path, how):
    path.write_text(how(path.read_text(encoding="utf-8")), encoding="utf-8")


def main():
    package = Path(importlib.util.find_spec("vectordb_bench").origin).parent
    folder = package / "backend" / "clients" / "fathom"
    folder.mkdir(exist_ok=True)
    (folder / "__init__.py").touch()
    for name in FILES:
        shutil.copy(HERE / name, folder / name)
    change(package / "backend" / "clients" / "__init__.py", know_client)
    change(package / "cli" / "vectordbbench.py", know_command)
    print(f"fathom is a client of the VectorDBBench in {package}")


if __name__ == "__main__":
    main()
