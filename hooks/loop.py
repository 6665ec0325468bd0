"""What every registry's loop is to the agent, whatever its kind, and how it says that it is doing."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hooks.consul.parked import ParkedReport
from hooks.eureka.report import EurekaReport
from hooks.found import Found, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopReport:
    """How one registry is being read; times are monotonic seconds.

    ``index`` is the highest one of Consul's lists, or the version of the last delta
    of Eureka. ``rereads`` are comparisons of all services' indexes with what was
    read of them. ``parked`` is None but for Consul, ``eureka`` but for Eureka.
    """

    error: str
    failing_since: float | None
    last_read: float | None
    index: int
    passes: int
    pass_seconds: float
    rereads: int = 0
    repairs: int
    unreadable: Mapping[str, str]
    found: Mapping[Source, Found]
    parked: ParkedReport | None = None
    eureka: EurekaReport | None = None


class Loop(Protocol):
    """Hears one registry and reads what changed, until it is stopped."""

    stopping: threading.Event

    def start(self) -> None:
        """Start listening; the first pass follows by itself."""

    def stop(self) -> None:
        """End every query and thread."""

    def once(self) -> None:
        """Read everything, and again if that is all that removals wait for; RegistryError when it fails."""

    def pass_now(self) -> None:
        """Make one pass, begun after this call, and wait for it; RegistryError when it was not complete."""

    def hint(self, kind: str, service: str = "") -> None:
        """Look at what a call speaks of, soon; never waits."""

    def stuck(self, now: float) -> str:
        """Return what has been at one step for too long, or nothing; ``now`` is in monotonic seconds."""

    def report(self) -> LoopReport:
        """Return how the registry is being read."""
