"""What a check finds: where, how grave, what was seen, and what mends it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

CONFIGURATION = "configuration"
STATE = "state"


class Level(StrEnum):
    """How grave a finding is; only an error decides the exit code."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; ``place`` is ``configuration``, ``state``, ``registry NAME``, ``cluster NAME`` or ``host HOST``."""

    place: str
    level: Level
    seen: str
    remedy: str = ""


def ok(place: str, seen: str) -> Finding:
    """Return that something is as it must be."""
    return Finding(place, Level.OK, seen)


def note(place: str, seen: str, remedy: str = "") -> Finding:
    """Return what somebody may want to know."""
    return Finding(place, Level.NOTE, seen, remedy)


def warning(place: str, seen: str, remedy: str) -> Finding:
    """Return what works, but hardly as it was meant."""
    return Finding(place, Level.WARNING, seen, remedy)


def error(place: str, seen: str, remedy: str) -> Finding:
    """Return what does not work."""
    return Finding(place, Level.ERROR, seen, remedy)


def registry(name: str) -> str:
    """Return the place of a registry."""
    return f"registry {name}"


def cluster(name: str) -> str:
    """Return the place of a cluster."""
    return f"cluster {name}"


def broken(findings: Iterable[Finding]) -> frozenset[str]:
    """Return the places at which something does not work."""
    return frozenset(finding.place for finding in findings if finding.level is Level.ERROR)
