"""The nouns of isthmus: values, compared by content, free of I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from json import JSONEncoder
from typing import NamedTuple

MANAGED_BY = "app.kubernetes.io/managed-by"
PRODUCT = "isthmus"
HOST_LABEL = "isthmus.mesh/host"
OWNER_LABEL = "isthmus.mesh/owner"
AUTHOR = "isthmus.mesh/author"
INHERITED = "isthmus.mesh/inherited"
SOURCE = "isthmus.mesh/source"
DIGEST = "isthmus.mesh/digest"

API_VERSION = "networking.istio.io/v1"
SERVICE_ENTRY = "ServiceEntry"
WORKLOAD_ENTRY = "WorkloadEntry"


class Absence(StrEnum):
    """Why a registered instance carries no traffic, in the registries' words."""

    NONE = ""
    CRITICAL = "critical"
    NODE_CRITICAL = "node critical"
    MAINTENANCE = "maintenance"
    DOWN = "DOWN"
    OUT_OF_SERVICE = "OUT_OF_SERVICE"
    STARTING = "STARTING"
    UNKNOWN = "UNKNOWN"
    REJECTED = "rejected"


Versions = tuple[tuple[str, int], ...]


class InstanceKey(NamedTuple):
    """The identity of a registration inside one registry; Eureka has no nodes, so ``node`` is empty there."""

    service: str
    node: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One registration, in terms common to every kind of registry.

    ``address`` is canonical IP text and empty when the registration was
    ``rejected`` (the reason, with the value). ``dropped`` names optional values
    that were invalid and are ignored. ``weight`` is the one that applies to the
    instance as it is (passing or warning). ``service_port_from`` is where in the
    registration ``service_port`` stands. ``secure_port`` is 0 unless the instance
    has, besides ``port``, another one for TLS, which a rule may choose. ``proven``
    and ``proven_secure`` are what the registry proves of the protocol on either
    (Consul: checks of the port; Eureka: which kind of port it is), or empty.
    ``registered`` orders registrations inside one registry (Consul: CreateIndex;
    Eureka: registrationTimestamp). ``restored`` marks one that was made of a
    cluster's objects: nothing but its address and port is known.
    """

    key: InstanceKey
    address: str
    port: int
    absent_because: Absence = Absence.NONE
    warning: bool = False
    tags: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    locality: str = ""
    weight: int = 1
    version: str = ""
    service_port: int = 0
    service_port_from: str = ""
    protocol: str = ""
    secure_port: int = 0
    proven: str = ""
    proven_secure: str = ""
    registered: int = 0
    rejected: str = ""
    dropped: tuple[str, ...] = ()
    restored: bool = False

    @property
    def present(self) -> bool:
        """Tell whether its node is not critical and it has, or had, a valid address."""
        return bool(self.address) and self.absent_because is not Absence.NODE_CRITICAL


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All instances of one service in one registry; what is not listed is gone.

    A reader that cannot see the whole service raises instead of sending a part
    of it: stale beats partial. ``index`` is Consul's X-Consul-Index. ``unread`` are
    registrations of which it says nothing, neither that they are there nor that they
    are gone: Eureka's cache lacks them, and the registry itself did not confirm it yet.
    """

    service: str
    instances: tuple[Instance, ...] = ()
    index: int = 0
    unread: frozenset[InstanceKey] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one look at a registry, or one pass over all of it, has shown.

    ``complete`` marks the end of a pass; ``begun`` counts the passes begun since
    the start, so it is the pass's own number when complete. ``heard`` is the
    monotonic time, in seconds, at which the registry told. ``index`` is the
    highest one that a list of the registry had by then. ``versions`` are, by
    URL, the versions of the last deltas of Eureka's servers, sorted.
    """

    registry: str
    snapshots: tuple[Snapshot, ...]
    heard: float
    begun: int
    complete: bool = False
    index: int = 0
    versions: Versions = ()


class Reason(StrEnum):
    """Why a removal waits (design section 7)."""

    LOOK = "look"
    HOLD = "hold"
    PANIC = "panic"
    GRACE = "grace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A removal that is not believed yet; its instance stays as it was last believed.

    ``word`` is what the registry says now: None when the registration vanished.
    ``since`` and ``proved`` are monotonic seconds; ``proofs`` counts the passes that
    showed it missing; ``pass_begun`` is the number of the last pass begun when it began to wait.
    """

    key: InstanceKey
    reason: Reason
    word: Instance | None
    since: float
    proofs: int = 0
    proved: float = 0.0
    pass_begun: int = 0

    @property
    def gone(self) -> bool:
        """Tell whether the registration vanished or its node is critical."""
        return self.word is None or not self.word.present


@dataclass(frozen=True, slots=True)
class Observed:
    """What is believed of one service of one registry.

    ``epoch`` is the life of the registry's data in which the service was last
    read; ``index`` the registry's index at the last change of content.
    """

    service: str
    instances: tuple[Instance, ...]
    epoch: int
    index: int = field(default=0, compare=False)


class Count(NamedTuple):
    """How many instances are present, and how many of them are in service."""

    present: int
    in_service: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The sizes by which a registry's removals are judged, and its epoch.

    ``left`` is what is believed and does not wait. ``minutes`` are ten counts of
    what was left, oldest first, empty before the first pass ever. ``epoch_began``
    is in monotonic seconds, None for an epoch that counts as old; ``index`` is the
    highest one of a list seen in it, ``versions`` are those of Eureka's servers.
    ``counted`` is when the last minute was counted.
    """

    left: Count = Count(0, 0)
    minutes: tuple[Count, ...] = ()
    epoch: int = 1
    epoch_began: float | None = None
    counted: float = 0.0
    index: int = 0
    versions: Versions = ()

    @property
    def baseline(self) -> Count:
        """Return what was left ten minutes ago; before the first pass, what is left."""
        return self.minutes[0] if self.minutes else self.left


class ResourceKey(NamedTuple):
    """The identity of an Istio object inside a cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A ServiceEntry or WorkloadEntry as a cluster should have it.

    ``kept`` marks one whose removal waits: it stays where it is and is neither
    created nor changed.
    """

    key: ResourceKey
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, object]
    kept: bool = False

    def manifest(self) -> dict[str, object]:
        """Return the object as Kubernetes reads it."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.key.kind,
            "metadata": {
                "name": self.key.name,
                "namespace": self.key.namespace,
                "labels": dict(self.labels),
                "annotations": dict(self.annotations),
            },
            "spec": dict(self.spec),
        }


# Made once: json.dumps makes one at each call that asks for more than its defaults.
_canonical = JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def canonical(content: object) -> str:
    """Return a value's canonical JSON."""
    return _canonical(content)


def digest_of(content: object) -> str:
    """Return the SHA-256, in hex, of a value's canonical JSON."""
    return sha256(_canonical(content).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One isthmus object as a cluster holds it.

    ``spec_digest`` is the digest of the spec that is there, or empty when it is
    not known to be what was last read or written. ``own_labels`` are the keys
    of the labels that are known to be ours, whatever is desired now. ``endpoint``
    is a WorkloadEntry's address and port as last read, None when they were not;
    ``spec`` a ServiceEntry's spec as JSON, empty when it is not known to be what is there.
    """

    key: ResourceKey
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec_digest: str = ""
    own_labels: tuple[str, ...] = ()
    endpoint: tuple[str, int] | None = None
    spec: str = ""

    @property
    def host(self) -> str:
        """Return the host's label of a WorkloadEntry, the name of a ServiceEntry."""
        return self.labels.get(HOST_LABEL, "") if self.key.kind == WORKLOAD_ENTRY else self.key.name

    @property
    def owner(self) -> str:
        """Return who writes it: a WorkloadEntry's owner, a ServiceEntry's author."""
        if self.key.kind == WORKLOAD_ENTRY:
            return self.labels.get(OWNER_LABEL, "")
        return self.annotations.get(AUTHOR, "")
