"""Whom a lane serves, and how that goes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agent.clusters.settings import Policy
from agent.plan import Action
from state.errors import Fault
from state.model import Held, ResourceKey


class Heard(NamedTuple):
    """When a change was told, in monotonic seconds, and by which registry; "" when none told, as for a repair."""

    at: float
    registry: str


class Wrote(NamedTuple):
    """How one write ended, told once for each.

    ``registry`` is the one whose word led to it, "" when none did. ``lag`` is the time from that
    word to the cluster's answer, in seconds. ``fault`` is None when the cluster took it.
    """

    cluster: str
    registry: str
    action: Action
    key: ResourceKey
    lag: float
    fault: Fault | None


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
    paused: bool  # by an operator
    read: bool
    error: str
    objects: int
    pending: int
    planned: int  # changes under way
    oldest: float | None
    writes: int
    taken: Mapping[Action, int]  # of the writes
    failed: Mapping[Fault, int]
    repairs: int
    withheld: tuple[Held, ...]
    parked: tuple[tuple[ResourceKey, str], ...]
    troubles: tuple[str, ...]

    @property
    def is_paused(self) -> bool:
        """Whether an operator, or the cluster's policy, lets nothing be written."""
        return self.paused or self.policy == "paused"
