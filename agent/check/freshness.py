"""How fresh the answers of one Eureka server are, by what it told of the same instances at different times. Pure.

A server answers lists and deltas from a cache, which it renews every 30 s unless it is told not to use it; a single
instance it looks up each time. Nothing else tells from outside whether it does, and where nothing changes, nothing can.
https://github.com/Netflix/eureka/blob/master/eureka-core/src/main/java/com/netflix/eureka/registry/ResponseCacheImpl.java
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

TICK = 30.0  # seconds between two renewals of the cache, at whole multiples of the server's clock
SURE = 2.0  # seconds; two servers behind one address differ for less
EVICTION = 120.0  # seconds between two rounds of eviction, twice


class Freshness(Enum):
    """DIRECT: a change is shown at once. CACHED: it is shown when the server renews its cache."""

    DIRECT = "direct"
    CACHED = "cached"
    UNKNOWN = "unknown"


Leases = Mapping[tuple[str, str], int]  # by application and ID, when it was last changed, in ms by the server's clock


@dataclass(frozen=True, slots=True)
class Told:
    """What a server told is there at ``at``, by its own clock in seconds, 0 when it shows none."""

    at: float
    leases: Leases


def merged(full: Leases, deltas: Iterable[tuple[Leases, frozenset[tuple[str, str]]]]) -> Leases:
    """Return what a list and the deltas that came after it tell together; a delta is what changed, and what went."""
    found = dict(full)
    for changed, gone in deltas:
        found.update({key: updated for key, updated in changed.items() if updated >= found.get(key, 0)})
        for key in gone:
            found.pop(key, None)
    return found


@dataclass(frozen=True, slots=True)
class Measured:
    """How fresh answers are, and by how many seconds a change was late, or shown, at the least or at the most."""

    freshness: Freshness
    seconds: float = 0.0
    key: tuple[str, str] = ("", "")


def measure(before: Told, alone: Mapping[tuple[str, str], int | None], after: Told) -> Measured:
    """Compare single instances with what lists told ``before`` that and ``after``; None is an instance that is gone.

    ``alone`` was asked for in between, at least ``SURE`` seconds before ``after``.
    """
    for key, updated in alone.items():
        listed = after.leases.get(key)
        if updated is None and listed is not None:
            return Measured(Freshness.CACHED, max(SURE, after.at - before.at), key)
        if updated is not None and (listed is None or listed < updated):
            return Measured(Freshness.CACHED, max(SURE, after.at - updated / 1000), key)
    if not (before.at and after.at):
        return Measured(Freshness.UNKNOWN)
    for key, updated in after.leases.items():
        # A cache that lacked it was renewed since, and not at the very tick; a clock is shown in whole seconds.
        changed, now = updated / 1000, after.at + 1
        if before.leases.get(key, 0) < updated and changed <= now and (changed - SURE) // TICK == now // TICK:
            return Measured(Freshness.DIRECT, now - changed, key)
    return Measured(Freshness.UNKNOWN)


def overdue(renewed: float, duration: float, now: float) -> float:
    """Return for how many seconds a lease should have been evicted, 0 if it need not be; all by the server's clock.

    ``renewed`` is what the server shows, which is late by a ``duration`` already.
    """
    return max(0.0, now - renewed - duration - EVICTION)
