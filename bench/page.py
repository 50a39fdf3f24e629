"""Text for people, on a terminal or in a file: headings, tables, sizes."""

import os
import shutil
import textwrap


class Page:
    """Prints for people: colours on a terminal that wants them, lines no wider than it."""

    def __init__(self, stream):
        self.stream = stream
        self.colour = stream.isatty() and "NO_COLOR" not in os.environ
        self.width = min(shutil.get_terminal_size((100, 24)).columns, 120)

    def paint(self, code, text):
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def bold(self, text):
        return self.paint("1", text)

    def faint(self, text):
        return self.paint("2", text)

    def line(self, text=""):
        print(text, file=self.stream, flush=True)

    def head(self, text):
        self.line()
        self.line(self.bold(text))

    def wrap(self, text, indent):
        """The text in lines that fit behind an indent; at least one."""
        return textwrap.wrap(text, max(self.width - indent, 20)) or [""]

    def table(self, columns, rows):
        """Numbers under their headings, flush right; the first column flush left."""
        cells = [columns, *rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        for number, row in enumerate(cells):
            first, *others = zip(row, widths)
            text = first[0].ljust(first[1]) + "".join("  " + c.rjust(w) for c, w in others)
            self.line("  " + (self.faint(text) if number == 0 else text))


def format_bytes(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
