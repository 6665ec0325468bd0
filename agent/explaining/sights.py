"""What an explanation is made of: how each registry and each cluster is at one moment.

Pure values; durations are in seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from agent.clusters.settings import Policy
from state.model import Held, InstanceKey, ResourceKey, Waiting

OK = "ok"
STARTING = "starting"
UNREADABLE = "unreadable"
ASLEEP = "not running"


class Took(Protocol):
    """What a cluster acknowledged of one object."""

    @property
    def digest(self) -> str:
        """Return the digest of what was written."""

    @property
    def unneeded(self) -> float | None:
        """Return for how many seconds a ServiceEntry was of no use, None while it is of some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySight:
    """One registry: ``scope`` are its globs, ``caseless`` where case makes no difference to them.

    ``failing`` is for how many seconds it has not answered. ``unreadable`` are the services that
    cannot be read, and why. ``waiting`` are the removals that wait, ``ends`` how each of them ends.
    """

    name: str
    state: str
    error: str = ""
    failing: float | None = None
    scope: tuple[str, ...] = ("*",)
    caseless: bool = False
    unreadable: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[InstanceKey, Waiting] = field(default_factory=dict)
    ends: Mapping[InstanceKey, str] = field(default_factory=dict)

    def covers(self, service: str) -> bool:
        """Tell whether a service of this name would be read."""
        if self.caseless:
            return any(fnmatchcase(service.upper(), glob.upper()) for glob in self.scope)
        return any(fnmatchcase(service, glob) for glob in self.scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSight:
    """One cluster: what it holds, what it took, and what keeps it from being as desired.

    ``objects`` are everybody's, and None where no agent runs to see them: ``applied`` is what
    is remembered then. ``failures`` are why objects are left alone or tried again.
    ``lingering`` is for how many seconds each unneeded ServiceEntry has been so, ``forsaken`` for how many each one of
    another owner has had no WorkloadEntry of its author; ``grace`` is after how many either ends. ``halt`` says who has
    paused it, "" when nobody has.
    ``troubles`` are what its plan leaves out or reports, whatever host it is of.
    """

    name: str
    namespace: str
    owner: str
    policy: Policy
    state: str
    error: str = ""
    halt: str = ""
    objects: Mapping[ResourceKey, Held] | None = None
    applied: Mapping[ResourceKey, Took] = field(default_factory=dict)
    failures: Mapping[ResourceKey, str] = field(default_factory=dict)
    withheld: frozenset[ResourceKey] = frozenset()
    lingering: Mapping[ResourceKey, float] = field(default_factory=dict)
    forsaken: Mapping[ResourceKey, float] = field(default_factory=dict)
    grace: float = 0.0
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sights:
    """Every registry and every cluster, as in the configuration."""

    registries: Mapping[str, RegistrySight]
    clusters: Mapping[str, ClusterSight]


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a host or an endpoint, and where it came from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Voice:
    """What one registration says of an endpoint.

    ``against`` is why it carries no traffic, "" when it does. ``counts`` tells whether it is listened to,
    ``overruled`` by what if not. ``waits`` is the reason for which its removal waits, ``ends`` how that ends.
    """

    registry: str
    service: str
    node: str
    id: str
    against: str
    counts: bool
    overruled: str
    waits: str
    ends: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What became of one object in one cluster; ``right`` tells whether nothing is left to do or to mend."""

    cluster: str
    object: str
    state: str
    why: str
    right: bool


@dataclass(frozen=True, slots=True)
class EndpointAnswer:
    """Why one endpoint is in service, or is not."""

    endpoint: str
    address: str
    port: int
    state: str
    verdict: str
    values: tuple[Value, ...]
    voices: tuple[Voice, ...]
    clusters: tuple[Whereabouts, ...]


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """Why one host is as it is; ``endpoints`` are those that were asked for, ``others`` counts the rest."""

    host: str
    namespace: str
    verdict: str
    values: tuple[Value, ...]
    troubles: tuple[str, ...]
    clusters: tuple[Whereabouts, ...]
    endpoints: tuple[EndpointAnswer, ...]
    others: int
