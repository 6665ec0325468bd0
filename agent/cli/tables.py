"""Tables for people: in the width of a terminal, and unbroken lines when there is none."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.words import plain, span

UNBROKEN = 1000  # columns when nobody looks

Report = dict[str, Any]


def console(stderr: bool = False) -> Console:
    """Return a console on standard output, or error, that takes every text literally."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(width=None if terminal else UNBROKEN, stderr=stderr, markup=False, emoji=False, highlight=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table without frames, whose cells are broken into lines where they are too wide."""
    found = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        found.add_column(column, overflow="fold")
    for row in rows:
        found.add_row(*(Text(plain(cell)) for cell in row))
    return found


def lines(output: Console, title: str, found: Sequence[str]) -> None:
    """Print what there is to say of a row of a table, if anything, and how much of it there is."""
    if found:
        output.print(f"  {title} ({len(found)}):")
        for line in found:
            output.print(f"    {plain(line)}")


def ago(seconds: float | None) -> str:
    """Return a time as how long ago it was, ``never`` for None."""
    return "never" if seconds is None else f"{span(seconds)} ago"
