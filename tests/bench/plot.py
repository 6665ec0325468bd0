"""One picture of a bench, as SVG written by hand: every sample beside the floor's, and each figure beside its bound."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from statistics import median

from tests.bench.result import Line, Results, Series

WIDTH, LEFT, RIGHT = 1000, 330, 90
STRIP, BAR, TITLE, GAP = 40, 22, 44, 28
OURS, FLOOR, INK, PALE, MISSED, GRID = "#1f5fbf", "#8a8f98", "#1b1f24", "#5b626c", "#c2372c", "#e3e6ea"
COLOURS = {"isthmus": OURS, "floor": FLOOR}
MOST_TICKS = 12
LEAST = 0.1  # milliseconds: what is less is shown here
FULL_BAR = 1.5  # bounds; what is longer is cut
STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;font-size:13px;fill:" + INK + "}"
    ".title{font-size:16px;font-weight:600}.small{font-size:11px;fill:"
    + PALE
    + "}.end{text-anchor:end}.middle{text-anchor:middle}"
)


def draw(results: Results) -> str:
    """Return the picture."""
    groups = _groups(results)
    lines = [line for row in results.rows for line in row.lines if line.share is not None]
    strips_height = TITLE + STRIP * len(groups) + 46 if groups else 0
    height = strips_height + (TITLE + BAR * len(lines) + 40 if lines else 0) + GAP
    box = f'width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {box} role="img">',
        "<title>isthmus beside the floor</title>",
        f"<style>{STYLE}</style>",
        f'<rect {box} fill="#ffffff"/>',
    ]
    if groups:
        parts += _strips(groups, GAP // 2)
    if lines:
        parts += _bars(lines, GAP // 2 + strips_height)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _groups(results: Results) -> dict[str, list[Series]]:
    groups: dict[str, list[Series]] = {}
    for row in results.rows:
        for series in row.series:
            if series.unit == "ms" and series.values:
                groups.setdefault(series.name, []).append(series)
    return groups


# Every sample, on a scale of milliseconds


def _strips(groups: dict[str, list[Series]], top: float) -> Iterator[str]:
    values = [value for group in groups.values() for series in group for value in series.values]
    scale = _Scale(max(LEAST, min(values)), max(LEAST, *values))
    yield _text(
        16, top + 20, "From Consul's acknowledgement to the API server's event: every sample, and the medians", "title"
    )
    yield f'<circle cx="{WIDTH - 210}" cy="{top + 38}" r="4" fill="{OURS}"/>' + _text(WIDTH - 200, top + 42, "isthmus")
    yield f'<circle cx="{WIDTH - 130}" cy="{top + 38}" r="4" fill="{FLOOR}"/>' + _text(WIDTH - 120, top + 42, "floor")
    begin, end = top + TITLE + 6, top + TITLE + 6 + STRIP * len(groups)
    for tick in scale.ticks():
        x = scale.x(tick)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{begin}" y2="{end}" stroke="{GRID}"/>'
        yield _text(x, end + 16, f"{tick:,g}", "small middle")
    yield _text(WIDTH - RIGHT, end + 32, "milliseconds, logarithmic", "small end")
    for at, (name, group) in enumerate(groups.items()):
        y = begin + STRIP * at
        yield _text(LEFT - 14, y + STRIP / 2 + 4, name, "end")
        for series in group:
            row = y + (12 if series.who == "floor" else 27)
            yield from _strip(series, row, scale)


def _strip(series: Series, y: float, scale: "_Scale") -> Iterator[str]:
    colour = COLOURS[series.who]
    for number, value in enumerate(series.values):
        lift = (number * 7 % 5 - 2) * 1.2  # so that equal samples can be told apart
        yield f'<circle cx="{scale.x(value):.1f}" cy="{y + lift:.1f}" r="2.6" fill="{colour}" fill-opacity="0.45"/>'
    middle = median(series.values)
    x = scale.x(middle)
    yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 7}" y2="{y + 7}" stroke="{colour}" stroke-width="2.5"/>'
    yield _text(WIDTH - RIGHT + 16, y + 4, f"{middle:,.0f} ms" if middle >= 100 else f"{middle:.3g} ms", series.who)


class _Scale:
    """A logarithmic scale from the decade's step below the least value to that above the greatest."""

    def __init__(self, least: float, greatest: float) -> None:
        steps = [step * 10.0**power for power in range(-1, 7) for step in (1, 2, 5)]
        low = max((step for step in steps if step <= least), default=steps[0])
        high = min((step for step in steps if step >= greatest), default=steps[-1])
        self._steps = [step for step in steps if low <= step <= high]
        if len(self._steps) > MOST_TICKS:
            self._steps = [step for step in self._steps if math.log10(step).is_integer()]
        self._low, self._span = math.log(low), math.log(high / low) or 1.0

    def ticks(self) -> Sequence[float]:
        return self._steps

    def x(self, value: float) -> float:
        share = (math.log(max(value, LEAST)) - self._low) / self._span
        return LEFT + share * (WIDTH - LEFT - RIGHT)


# Every figure with a bound, on a scale of what is allowed


def _bars(lines: Sequence[Line], top: float) -> Iterator[str]:
    yield _text(16, top + 20, "How much of what is allowed was used: left of the line is reached", "title")
    left, begin = LEFT + 90, top + TITLE
    unit = (WIDTH - left - RIGHT) / FULL_BAR
    end = begin + BAR * len(lines)
    for share in (0.0, 0.5, 1.0, 1.5):
        x = left + share * unit
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{begin}" y2="{end}" stroke="{INK if share == 1 else GRID}"/>'
        yield _text(x, end + 16, f"{share:.0%}", "small middle")
    for at, line in enumerate(lines):
        assert line.share is not None
        y = begin + BAR * at
        length = max(2.0, min(line.share, FULL_BAR) * unit)
        yield _text(left - 8, y + 15, line.what.replace("`", ""), "end")
        colour = OURS if line.reached else MISSED
        yield f'<rect x="{left}" y="{y + 4}" width="{length:.1f}" height="{BAR - 8}" fill="{colour}"/>'
        yield _text(left + length + 6, y + 15, f"{line.share:,.0%}", "small")


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{named}>{escape(text)}</text>'
