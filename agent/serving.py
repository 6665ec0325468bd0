"""Whom a lane serves, and how that goes."""

from dataclasses import dataclass

from agent.clusters.settings import Policy
from state.model import Held, ResourceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Whom a lane serves, and as whom: ``configuration`` is the digest of what decides its objects."""

    cluster: str
    namespace: str
    policy: Policy
    owner: str
    configuration: str
    version: str
    namespaces: frozenset[str] = frozenset()  # that rules name


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneReport:
    """How one cluster is being served; times are monotonic seconds."""

    policy: Policy
    read: bool
    error: str
    objects: int
    pending: int
    planned: int  # changes under way
    oldest: float | None
    writes: int
    repairs: int
    withheld: tuple[Held, ...]
    parked: tuple[tuple[ResourceKey, str], ...]
    troubles: tuple[str, ...]
