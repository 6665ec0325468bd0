"""From the registrations of a host, over all registries, to its endpoints.

The order of the input makes no difference: whatever must be chosen is chosen by
the order of the registries in the configuration, then by the registration's key.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from agent.rules import DEFAULT, Choice, Identity, Ruling, carries, port_of, proven_of
from state.model import Absence, Instance, InstanceKey, Reason

DEFAULT_PORT = 80

_Value = TypeVar("_Value", int, str)


class HostKey(NamedTuple):
    """The identity of a host; an empty namespace is the cluster's own."""

    namespace: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One instance in one registry, with what the rules say about it.

    ``waits`` is why its removal waits; its instance is then as it was last believed.
    """

    registry: str
    instance: Instance
    ruling: Ruling
    waits: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One (address, port) of a host that carries traffic.

    ``sources`` are all its registrations: (registry, service, node, id), sorted.
    ``clusters`` is None for all. ``kept`` marks one that only a waiting removal keeps.
    """

    address: str
    port: int
    locality: str
    weight: int
    version: str
    service: str
    labels: tuple[tuple[str, str], ...]
    identity: Identity | None
    clusters: tuple[str, ...] | None
    sources: tuple[tuple[str, str, str, str], ...]
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host as clusters should have it.

    ``aliases`` are further hosts with the same endpoints, sorted; ``export_to`` are
    the namespaces that may see them all, None when nobody says.
    ``clusters`` is None for all, and empty when nobody needs the host.
    ``endpoints`` are sorted by address and port. ``ended`` are registrations, as
    (registry, key), that wait for grace although their host has another endpoint.
    ``kept`` marks one of which every registration waits.
    """

    key: HostKey
    port: Choice
    protocol: Choice | None
    clusters: tuple[str, ...] | None
    endpoints: tuple[Endpoint, ...]
    aliases: tuple[str, ...] = ()
    export_to: tuple[str, ...] | None = None
    disagreements: tuple[str, ...] = ()
    ended: tuple[tuple[str, InstanceKey], ...] = ()
    kept: bool = False


def host_key(ruling: Ruling) -> HostKey:
    """Return the host that a registration belongs to."""
    namespace = "" if ruling.namespace is None else str(ruling.namespace.value)
    return HostKey(namespace, str(ruling.host.value))


def merge(key: HostKey, registrations: Iterable[Registration], order: Sequence[str]) -> Host:
    """Return a host from all its registrations; ``order`` is that of the registries in the configuration.

    A registry has each registration once. Skipped ones count for nothing; every
    other one makes the host needed and votes for its port and protocol, healthy
    or not, so that a change of health changes no ServiceEntry.
    """
    listed = _listed(registrations, order)
    lasting = [one for one in listed if one.waits is not Reason.GRACE]
    endpoints = _endpoints(lasting)
    ended: tuple[tuple[str, InstanceKey], ...] = ()
    if len(lasting) < len(listed):
        if endpoints:
            ended = tuple((one.registry, one.instance.key) for one in listed if one.waits is Reason.GRACE)
            listed = lasting
        else:
            endpoints = _endpoints(listed)
    port, port_trouble = _elect("port", listed, _port_vote, _port_source)
    protocol, protocol_trouble = _protocol(listed)
    export_to, export_trouble = _export_to(listed)
    troubles = (port_trouble, protocol_trouble, export_trouble)
    return Host(
        key=key,
        port=port or Choice(DEFAULT_PORT, DEFAULT),
        protocol=protocol if protocol and protocol.value else None,
        clusters=_clusters(listed),
        endpoints=endpoints,
        aliases=tuple(sorted({alias for one in listed for alias in one.ruling.aliases})),
        export_to=export_to,
        disagreements=tuple(f"{key.host}: {trouble}" for trouble in troubles if trouble),
        ended=ended,
        kept=bool(listed) and all(one.waits is not None for one in listed),
    )


def _listed(registrations: Iterable[Registration], order: Sequence[str]) -> list[Registration]:
    """Return what is not skipped, each once, the registries as in the configuration."""
    rank: Mapping[str, int] = {registry: place for place, registry in enumerate(order)}
    unique = {(one.registry, one.instance.key): one for one in registrations if one.ruling.skip is None}
    return [one for _, one in sorted(unique.items(), key=lambda pair: (rank.get(pair[0][0], len(rank)), pair[0]))]


def _endpoints(listed: Sequence[Registration]) -> tuple[Endpoint, ...]:
    groups: dict[tuple[str, int], list[Registration]] = {}
    for one in listed:
        if one.instance.address:
            groups.setdefault((one.instance.address, port_of(one.instance, one.ruling)), []).append(one)
    merged = (_endpoint(group) for _, group in sorted(groups.items()))
    return tuple(endpoint for endpoint in merged if endpoint is not None)


def counting(group: Sequence[Registration]) -> Sequence[Registration]:
    """Return the registration of each registry whose word counts, in the order of the group.

    A node that is critical has only lost its agent: that says nothing against
    another registration of the endpoint. In one registry the last one registered
    counts (an IP was used again), but one whose removal waits only if there is no other.
    """
    if len(group) == 1:
        return group
    speaking = [one for one in group if one.instance.absent_because is not Absence.NODE_CRITICAL] or group
    counting: dict[str, Registration] = {}
    for one in speaking:
        other = counting.get(one.registry)
        if other is None or _standing(one) > _standing(other):
            counting[one.registry] = one
    return list(counting.values())


def _standing(one: Registration) -> tuple[bool, int, InstanceKey]:
    return one.waits is None, one.instance.registered, one.instance.key


def _endpoint(group: Sequence[Registration]) -> Endpoint | None:
    """Return the endpoint of registrations that share it; None when a word that counts is against it."""
    heard = counting(group)
    if not all(carries(one.instance, one.ruling) for one in heard):
        return None
    first = heard[0]
    instance = first.instance
    return Endpoint(
        address=instance.address,
        port=port_of(instance, first.ruling),
        locality=instance.locality,
        weight=instance.weight,
        version=instance.version,
        service=instance.key.service,
        labels=first.ruling.labels,
        identity=first.ruling.identity,
        clusters=first.ruling.clusters,
        sources=tuple(sorted((one.registry, *one.instance.key) for one in group)),
        kept=all(one.waits is not None for one in heard),
    )


def _clusters(listed: Sequence[Registration]) -> tuple[str, ...] | None:
    union: set[str] = set()
    for clusters in {one.ruling.clusters for one in listed}:
        if clusters is None:
            return None
        union.update(clusters)
    return tuple(sorted(union))


def _port_vote(one: Registration) -> int | None:
    """Return the number that a registration wants callers to use, None when it does not say."""
    instance, ruled = one.instance, one.ruling.port
    if ruled is None:
        return None if instance.restored else instance.service_port or DEFAULT_PORT
    if isinstance(ruled.value, int):
        return ruled.value
    # A rejected registration can have a port that is none: it has no number to share.
    port = port_of(instance, one.ruling)
    return port if 0 < port < 65536 else None


def _port_source(one: Registration) -> str:
    """Return where the number that a registration wants comes from."""
    if one.ruling.port is not None:
        return one.ruling.port.source
    return f"{one.instance.service_port_from} of {one.instance.key.id}" if one.instance.service_port else DEFAULT


def _protocol(listed: Sequence[Registration]) -> tuple[Choice | None, str]:
    """Return the protocol of a host, and what its registrations disagree about.

    Where rules and metadata say something, what registries prove says nothing.
    Where they say nothing, all must prove the same.
    """
    if any(_protocol_vote(one) for one in listed):
        return _elect("protocol", listed, _protocol_vote, _protocol_source)
    proofs = [one for one in listed if one.instance.address and not one.instance.restored]
    counts = Counter(proven_of(one.instance, one.ruling) for one in proofs)
    words = sorted(word for word in counts if word)
    if len(words) > 1:
        named = ", ".join(f"{word} ({counts[word]})" for word in words)
        return None, f"registrations prove more than one protocol: {named}; none is used"
    return (Choice(words[0], _proof(proofs[0])), "") if words and len(counts) == 1 else (None, "")


def _proof(one: Registration) -> str:
    """Return what proves the protocol of an endpoint: Eureka has no nodes, and there it is the kind of the port."""
    key = one.instance.key
    return f"checks of {key.id}" if key.node else f"port of {key.id}"


def _protocol_vote(one: Registration) -> str | None:
    """Return the protocol that a registration's own words want, "" for none, None when only a proof speaks for it."""
    if one.ruling.protocol is not None:
        return str(one.ruling.protocol.value)
    if one.instance.restored or (not one.instance.protocol and proven_of(one.instance, one.ruling)):
        return None
    return one.instance.protocol


def _protocol_source(one: Registration) -> str:
    if one.ruling.protocol is not None:
        return one.ruling.protocol.source
    return f"metadata protocol of {one.instance.key.id}" if one.instance.protocol else DEFAULT


def _export_to(listed: Sequence[Registration]) -> tuple[tuple[str, ...] | None, str]:
    """Return the namespaces that the first registration with a word about them names, and who disagrees."""
    speaking = [one for one in listed if one.ruling.export_to is not None]
    if not speaking:
        return None, ""
    said = dict.fromkeys(tuple(sorted(set(one.ruling.export_to or ()))) for one in speaking)
    first, *others = said
    if not others:
        return first, ""
    named = "; ".join(", ".join(namespaces) for namespaces in said)
    return first, f"registrations disagree on the namespaces that see it: {named}; the first is used"


def _elect(
    what: str,
    listed: Sequence[Registration],
    vote: Callable[[Registration], _Value | None],
    source: Callable[[Registration], str],
) -> tuple[Choice | None, str]:
    """Return what most want, ties going to the smallest, and what they disagree about, if they do."""
    first: dict[_Value, Registration] = {}
    counts: Counter[_Value] = Counter()
    for one in listed:
        value = vote(one)
        if value is not None:
            counts[value] += 1
            first.setdefault(value, one)
    if not counts:
        return None, ""
    ranking = sorted(counts, key=lambda value: (-counts[value], value))
    winner = Choice(ranking[0], source(first[ranking[0]]))
    if len(ranking) == 1:
        return winner, ""
    named = [f"{value or 'none'} ({counts[value]})" for value in ranking]
    return winner, f"registrations disagree on the {what}: {', '.join(named)}; the first is used"
