"""From the registrations of a host, over all registries, to its endpoints.

The order of the input makes no difference: whatever must be chosen is chosen by
the order of the registries in the configuration, then by the registration's key.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from agent.rules import DEFAULT, Choice, Ruling, carries
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
    clusters: tuple[str, ...] | None
    sources: tuple[tuple[str, str, str, str], ...]
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host as clusters should have it.

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
    protocol, protocol_trouble = _elect("protocol", listed, _protocol_vote, _protocol_source)
    return Host(
        key=key,
        port=port or Choice(DEFAULT_PORT, DEFAULT),
        protocol=protocol if protocol and protocol.value else None,
        clusters=_clusters(listed),
        endpoints=endpoints,
        disagreements=tuple(f"{key.host}: {trouble}" for trouble in (port_trouble, protocol_trouble) if trouble),
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
            groups.setdefault((one.instance.address, one.instance.port), []).append(one)
    merged = (_endpoint(group) for _, group in sorted(groups.items()))
    return tuple(endpoint for endpoint in merged if endpoint is not None)


def _counting(group: Sequence[Registration]) -> Sequence[Registration]:
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
    counting = _counting(group)
    if not all(carries(one.instance, one.ruling) for one in counting):
        return None
    first = counting[0]
    instance = first.instance
    return Endpoint(
        address=instance.address,
        port=instance.port,
        locality=instance.locality,
        weight=instance.weight,
        version=instance.version,
        service=instance.key.service,
        labels=first.ruling.labels,
        clusters=first.ruling.clusters,
        sources=tuple(sorted((one.registry, *one.instance.key) for one in group)),
        kept=all(one.waits is not None for one in counting),
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
    return instance.port if 0 < instance.port < 65536 else None


def _port_source(one: Registration) -> str:
    """Return where the number that a registration wants comes from."""
    if one.ruling.port is not None:
        return one.ruling.port.source
    return f"{one.instance.service_port_from} of {one.instance.key.id}" if one.instance.service_port else DEFAULT


def _protocol_vote(one: Registration) -> str | None:
    """Return the protocol that a registration wants, "" for none, None when it does not say."""
    if one.ruling.protocol is not None:
        return str(one.ruling.protocol.value)
    return None if one.instance.restored else one.instance.protocol


def _protocol_source(one: Registration) -> str:
    if one.ruling.protocol is not None:
        return one.ruling.protocol.source
    return f"metadata protocol of {one.instance.key.id}" if one.instance.protocol else DEFAULT


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
