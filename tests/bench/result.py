"""What a bench found, as values that are written to JSON and read back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DIGITS = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One figure, what the floor took in the same run, and what must be reached.

    `ratio` is the figure against the floor, or against what `must` names. A line without `must` only tells.
    """

    what: str
    figure: float
    unit: str
    floor: float | None = None
    ratio: float | None = None
    must: str = ""
    reached: bool | None = None
    share: float | None = None  # of what is allowed: 1 is the bound itself
    samples: int = 1
    noise: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Samples behind the lines: of isthmus, or of the floor."""

    name: str
    who: str
    unit: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the bench: its lines, or why it failed."""

    name: str
    title: str
    lines: tuple[Line, ...] = ()
    series: tuple[Series, ...] = ()
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run."""

    made: str
    command: str
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    rows: tuple[Row, ...] = field(default=())

    @property
    def failed(self) -> list[Row]:
        """The rows that could not be measured."""
        return [row for row in self.rows if row.error]

    @property
    def missed(self) -> list[tuple[Row, Line]]:
        """The bounds that were not reached."""
        return [(row, line) for row in self.rows for line in row.lines if line.reached is False]


def at_most(
    what: str,
    figure: float,
    unit: str,
    limit: float,
    must: str,
    *,
    floor: float | None = None,
    samples: int = 1,
    noise: float | None = None,
    note: str = "",
) -> Line:
    """Return a line whose figure, in its own unit, must not exceed a limit."""
    ratio = figure / floor if floor else None
    share = figure / limit if limit else (0.0 if not figure else 2.0)
    return Line(what, figure, unit, floor, ratio, must, figure <= limit, share, samples, noise, note)


def within(
    what: str,
    figure: float,
    floor: float,
    unit: str,
    times: float,
    *,
    than: str = "floor",
    samples: int = 1,
    noise: float | None = None,
    note: str = "",
) -> Line:
    """Return a line whose figure must not exceed so many times another, measured in the same run."""
    must = f"<= {times:g}x {than}"
    if floor <= 0:  # Consul's acknowledgement came after what followed from it: a machine too busy to be measured on
        return Line(
            what, figure, unit, floor, None, must, False, None, samples, noise, note or "the floor is no figure"
        )
    ratio = figure / floor
    return Line(what, figure, unit, floor, ratio, must, ratio <= times, ratio / times, samples, noise, note)


def at_least(what: str, ratio: float, times: float, *, ours: float, floor: float, unit: str, samples: int) -> Line:
    """Return a line whose floor must be at least so many times the figure."""
    return Line(what, ours, unit, floor, ratio, f">= {times:g}x less", ratio >= times, times / ratio, samples)


def write(results: Results, file: Path) -> None:
    """Write results as JSON, numbers to a sensible length."""
    file.write_text(json.dumps(_short(asdict(results)), indent=1, ensure_ascii=False) + "\n")


def read(file: Path) -> Results:
    """Read what `write` wrote."""
    found = json.loads(file.read_text())
    return Results(**{**found, "rows": tuple(_row(row) for row in found["rows"])})


def _row(found: Mapping[str, Any]) -> Row:
    series = tuple(Series(**{**one, "values": tuple(one["values"])}) for one in found["series"])
    return Row(**{**found, "lines": tuple(Line(**line) for line in found["lines"]), "series": series})


def _short(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if abs(value) < 10**DIGITS else round(value)
    if isinstance(value, Mapping):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_short(one) for one in value]
    return value
