"""How one Eureka cluster is being read."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EurekaReport:
    """How one Eureka cluster is being read.

    ``server`` is the URL in use. ``full_reads`` counts them by why they were made.
    ``mismatches`` counts deltas after which the hashes differed, ``confirmations``
    the uncached reads of single instances. ``overlay`` is how many of those still
    overrule the server's cache. ``shared`` says that several servers seem to answer
    at one address, so that versions prove nothing.
    """

    server: str
    polls: int
    unchanged: int
    full_reads: Mapping[str, int]
    mismatches: int
    confirmations: int
    overlay: int
    shared: bool
