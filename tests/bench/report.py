"""What a bench found, as tables: for the terminal, and between two marker lines of a document."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.bench.result import Line, Results, Row

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
HEAD = ("what", "isthmus", "floor", "ratio", "must reach", "reached")
FULL = (*HEAD, "samples", "noise")
MARKS = {True: "yes", False: "**no**", None: ""}


def text(results: Results) -> str:
    """Return everything as plain text."""
    lines = [_sentence(results), ""]
    for row in results.rows:
        lines += [f"{row.title} ({row.name}, {row.seconds:.0f} s)"]
        if row.error:
            lines += [f"  FAILED: {row.error}", ""]
            continue
        lines += _columns([FULL, *(_cells(line) for line in row.lines)])
        lines += [f"  {line.what}: {line.note}" for line in row.lines if line.note]
        lines += [""]
    return "\n".join([*lines, *verdict(results)]) + "\n"


def verdict(results: Results) -> list[str]:
    """Return one sentence for each bound that was missed and each row that failed, or that there are none."""
    bounds = [line for row in results.rows for line in row.lines if line.reached is not None]
    lines = [f"MISSED {row.name}: {line.what}: {_figure(line)}, {_told(line)}" for row, line in results.missed]
    lines += [f"FAILED {row.name}: {row.error.splitlines()[0]}" for row in results.failed]
    kept = sum(bool(line.reached) for line in bounds)
    return [
        *lines,
        f"{kept} of {len(bounds)} bounds reached, {len(results.failed)} of {len(results.rows)} rows failed.",
    ]


def summary(results: Results) -> str:
    """Return the table of the README: what was asked for, and what was found."""
    lines = [line for row in results.rows for line in row.lines if line.must]
    return "\n".join([_sentence(results), "", *_markdown(HEAD, [_cells(line)[: len(HEAD)] for line in lines])])


def details(results: Results) -> str:
    """Return the tables of the document, row by row."""
    parts = [_sentence(results)]
    for row in results.rows:
        parts += ["", f"### {row.title}", ""]
        parts += [f"This row failed: {row.error.splitlines()[0]}"] if row.error else _markdown(FULL, _all_cells(row))
        notes = [f"- {line.what}: {line.note}." for line in row.lines if line.note]
        parts += ["", *notes] if notes else []
    return "\n".join(parts)


def between_markers(document: str, table: str) -> str:
    """Return a document with a table between its marker lines; ValueError when it has none."""
    before, begin, rest = document.partition(BEGIN + "\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the lines {BEGIN!r} and {END!r} are missing")
    return f"{before}{begin}{table}\n{end}{after}"


def renew(file: Path, table: str) -> bool:
    """Put a table between the markers of a file, if it has them; tell whether it does."""
    document = file.read_text() if file.exists() else ""
    if BEGIN not in document:
        return False
    file.write_text(between_markers(document, table))
    return True


def _sentence(results: Results) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    machine = results.machine
    return (
        f"Made by `{results.command}` on {results.made}: {machine['cores']} cores ({machine['processor']}), {versions}."
    )


def _all_cells(row: Row) -> list[Sequence[str]]:
    return [_cells(line) for line in row.lines]


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.what,
        _figure(line),
        _number(line.floor, line.unit),
        "" if line.ratio is None else f"{line.ratio:.3g}x" if line.ratio < 1000 else f"{line.ratio:,.0f}x",
        line.must,
        MARKS[line.reached],
        f"{line.samples:,}",
        "" if line.noise is None else f"{100 * line.noise:.0f} %",
    )


def _figure(line: Line) -> str:
    return _number(line.figure, line.unit)


def _told(line: Line) -> str:
    return f"must be {line.must}" + (f", is {line.ratio:.3g}x" if line.ratio is not None else "")


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if unit == "B":
        return f"{value:,.0f} B"
    found = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{found} {unit}".rstrip()


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = ["---", *("--:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if not at else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
