"""One object for all that are equal: what ten thousand instances have in common is kept once.

Only those seen lately are known, so nothing is kept for being shared: instances of
one service come together, from a registry, from the state file and from a cluster.
"""

from collections.abc import Mapping
from functools import lru_cache
from sys import intern

Pairs = tuple[tuple[str, str], ...]

LATELY = 512  # different ones of each kind


@lru_cache(LATELY)
def words(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return these words."""
    return tuple(map(intern, given))


@lru_cache(LATELY)
def pairs(given: Pairs) -> Pairs:
    """Return these pairs."""
    return tuple((intern(key), intern(value)) for key, value in given)


def mapping(given: Mapping[str, str]) -> Mapping[str, str]:
    """Return a mapping like this one, its keys in the same order; nobody may change it."""
    return _mapping(tuple(given.items()))


@lru_cache(LATELY)
def _mapping(given: Pairs) -> Mapping[str, str]:
    return {intern(key): intern(value) for key, value in given}
