"""The rows of the bench, in the order in which they are measured; each module measures one or a family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from tests.bench.estate import Size
from tests.bench.result import Line, Series
from tests.bench.site import Site


class Place(StrEnum):
    """Which estate a row wants."""

    SMALL = "small"
    LARGE = "large"
    EUREKA = "eureka"  # the small one, beside what the row itself starts


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: enough for the tables, or just enough to see that everything works."""

    small: Size = Size(10, 100, 20)
    large: Size = Size(1000, 10_000, 200)
    turns: int = 28  # of four changes each, at the small estate
    large_turns: int = 11
    spacing: float = 3.0  # seconds between two changes that isthmus hears
    writes: int = 10  # turns whose writes are counted
    quiet: float = 60.0  # seconds
    flips: int = 50  # there and back, in one round of the cost on Consul
    reader_flips: int = 15  # the same for the reader, who needs time for each
    rounds: int = 3
    burst: int = 1000
    bursts: int = 3
    unparked: int = 60
    runs: int = 40  # of the hook
    calls: int = 200  # of a watch


QUICK = Effort(
    large=Size(100, 1000, 40),
    turns=2,
    large_turns=2,
    spacing=2.0,
    writes=1,
    quiet=5.0,
    flips=10,
    reader_flips=5,
    rounds=1,
    burst=200,
    bursts=1,
    unparked=8,
    runs=10,
    calls=30,
)


@dataclass(slots=True)
class Bench:
    """One run: how much is measured, and what earlier rows found for later ones to compare with."""

    effort: Effort
    figures: dict[str, float] = field(default_factory=dict)


class Found(NamedTuple):
    """What a row found."""

    lines: Sequence[Line]
    series: Sequence[Series] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """One row as it can be asked for by name."""

    name: str
    title: str
    place: Place
    measure: Callable[[Site, Bench], Found]
