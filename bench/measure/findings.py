"""Rows and checks of one part of a measurement: printed as they come, and a section of a Markdown file in the end."""

import os
import pathlib
import re
import sys

from .machine import machine, own_version
from .servers import BINARY


class Findings:
    def __init__(self, title, notes=()):
        self.title, self.notes = title, list(notes)
        self.rows, self.checks = [], []
        self.is_good = True
        print(f"\n{title}", flush=True)

    def note(self, text):
        """Once, however often it is said."""
        if text not in self.notes:
            self.notes.append(text)

    def row(self, **columns):
        """`missed`: the bounds that this row misses, by name; none is a pass."""
        missed = columns.pop("missed", None)
        if missed is not None:
            self.is_good &= not missed
            columns["met"] = "**NO**: " + "; ".join(missed) if missed else "yes"
        self.rows.append(columns)
        print("  " + "; ".join(f"{name}: {value}" for name, value in columns.items()), flush=True)

    def check(self, what, is_met, details=""):
        self.is_good &= bool(is_met)
        self.checks.append(f"- {'yes' if is_met else '**NO**'}: {what}" + (f" ({details})" if details else ""))
        print(f"  {self.checks[-1]}", flush=True)

    def section(self):
        lines = [f"## {self.title}", "", f"`{_command()}`; two-tier {own_version()}; {machine()}, generator included."]
        lines += ["", " ".join(self.notes), ""] if self.notes else [""]
        if self.rows:
            names = list(dict.fromkeys(name for row in self.rows for name in row))
            lines += [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
            lines += [f"| {' | '.join(str(row.get(name, '')) for name in names)} |" for row in self.rows] + [""]
        return "\n".join([*lines, *self.checks, *([""] if self.checks else [])])


def _command():
    """That made it, without the paths of this machine."""
    arguments, skipped = [], False
    for argument in sys.argv[1:]:
        if not skipped and not argument.startswith("--out"):
            arguments.append(argument)
        skipped = argument == "--out"
    given = f"BINARY={BINARY.parent.name}/{BINARY.name} " if "BINARY" in os.environ else ""
    return given + " ".join([f"bench/{pathlib.Path(sys.argv[0]).name}", *arguments])


def write(file, heading, findings):
    """Each in the place of the section of the same title that is there already, or at the end."""
    text = file.read_text() if file.exists() else f"# {heading}\n"
    first, *sections = re.split(r"^(?=## )", text, flags=re.M)
    for one in findings:
        section = one.section() + "\n"
        title = section.split("\n", 1)[0]
        same = [index for index, other in enumerate(sections) if other.split("\n", 1)[0] == title]
        if same:
            sections[same[0]] = section
        else:
            sections.append(section)
    file.write_text("\n\n".join(part.rstrip() for part in [first, *sections]) + "\n")
