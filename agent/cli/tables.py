"""Tables for people: in the width of a terminal, and unbroken lines when there is none."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.words import count, plain, span

UNBROKEN = 100_000  # columns when nobody looks

Row = dict[str, Any]

REASONS = {
    "look": "looked at once",
    "hold": "held",
    "panic": "held, as too few would be left in service",
    "grace": "in grace",
}


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


def show_holds(output: Console, rows: Sequence[Row]) -> None:
    """Print what waits, together what ends in the same way."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["name"], row["reason"]), []).append(row)
    for (name, reason), found in groups.items():
        if reason == "deletions":
            for row in found:
                _show_deletions(output, row)
            continue
        output.print(f"{name}: {count(len(found), 'removal')} {REASONS.get(reason, reason)}")
        columns = ("HOLD", "INSTANCE", "ENDPOINT", "HOST", "WAITED", "PROOFS")
        output.print(table(columns, [_cells(row) for row in found]))
        for sentence in dict.fromkeys(row["ends"] for row in found):
            output.print(f"  {plain(sentence)}")
        output.print()


def _cells(row: Row) -> tuple[str, ...]:
    port = f":{row['port']}" if row["port"] else ""
    address = f"[{row['address']}]" if ":" in row["address"] and port else row["address"]
    waited, proofs = span(row["waited_seconds"]), str(row["proofs"])
    return (row["hold"] or "-", named(row), address + port, row["host"], waited, proofs)


def _show_deletions(output: Console, row: Row) -> None:
    output.print(f"{row['name']}: {count(len(row['objects']), 'deletion')} withheld (hold {row['hold']})")
    for name in row["objects"]:
        output.print(f"  {plain(name)}")
    output.print(f"  {plain(row['ends'])}")
    output.print()


def named(row: Row) -> str:
    """Return an instance's name; those of a Eureka have no node."""
    return "/".join(part for part in (row["service"], row["node"], row["id"]) if part)
