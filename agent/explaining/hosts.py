"""From a host's registrations, and what each cluster holds of it, to why it is as it is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.authorship import Stated
from agent.explaining.objects import absent, desired, undesired
from agent.explaining.sights import ClusterSight, EndpointAnswer, HostAnswer, Sights, Whereabouts
from agent.explaining.values import values_of_endpoint, values_of_host
from agent.explaining.verdicts import (
    ABSENT,
    IN_SERVICE,
    KEPT,
    SKIPPED,
    UNLISTED,
    verdict_of_endpoint,
    verdict_of_host,
)
from agent.explaining.voices import name_of, stale, voices
from agent.gate import Sayings
from agent.merge import Endpoint, Host, HostKey, Registration
from agent.naming import host_label, workload_entry_name
from agent.rules import port_of
from state.model import SERVICE_ENTRY, WORKLOAD_ENTRY, Resource, ResourceKey

Address = tuple[str, int]
Held = Mapping[str, Mapping[Address, ResourceKey]]  # by cluster, the endpoints of a host that it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """A host in one cluster, where hosts of two namespaces can be one.

    ``contested`` are aliases that another host has. ``troubles`` are what its lane says of the host.
    """

    resources: Mapping[ResourceKey, Resource] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    rules: Stated = Stated({})
    rejected: tuple[str, ...] = ()
    contested: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One host: its registrations in the order of the registries, merged, and as each cluster should have it."""

    key: HostKey
    registrations: tuple[Registration, ...]
    host: Host
    here: Mapping[str, Here]


@dataclass(frozen=True, slots=True)
class _Group:
    """What is known of one endpoint; ``address`` is empty where a registration has none that could be used."""

    address: str
    port: int
    registrations: tuple[Registration, ...]
    endpoint: Endpoint | None

    @property
    def name(self) -> str:
        if not self.address:
            first = self.registrations[0]
            return name_of(first.registry, first.instance.key)
        return text_of(self.address, self.port)


def text_of(address: str, port: int) -> str:
    """Return an endpoint as a person writes it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def answer(case: Case, sights: Sights, sayings: Sayings, wanted: Address | None = None) -> HostAnswer:
    """Return why a host is as it is; ``wanted`` is the only endpoint that was asked for, port 0 for any."""
    held = {name: _held(case, sight) for name, sight in sights.clusters.items()}
    found = [_endpoint(case, group, sights, sayings, held) for group in _groups(case, held)]
    rows = tuple(row for sight in sights.clusters.values() for row in _service_entries(case, sight, sayings))
    old = {
        one.registry
        for one in case.registrations
        if one.ruling.skip is None and stale(sights.registries[one.registry], one.instance.key.service)
    }
    asked = [one for one in found if wanted is None or _is_wanted(one, wanted)]
    return HostAnswer(
        host=case.key.host,
        namespace=case.key.namespace,
        verdict=verdict_of_host(case.key.host, found, rows, old),
        values=values_of_host(case.host, case.registrations, sights.clusters.values()) if case.registrations else (),
        troubles=_troubles(case),
        clusters=rows,
        endpoints=tuple(asked),
        others=len(found) - len(asked),
    )


def _is_wanted(one: EndpointAnswer, wanted: Address) -> bool:
    return one.address == wanted[0] and wanted[1] in (0, one.port)


def _groups(case: Case, held: Held) -> list[_Group]:
    """Return every endpoint that a registration or a cluster's object speaks of."""
    by_address: dict[tuple[str, int, str], list[Registration]] = {}
    for one in case.registrations:
        address = one.instance.address
        alone = "" if address else name_of(one.registry, one.instance.key)
        by_address.setdefault((address, port_of(one.instance, one.ruling), alone), []).append(one)
    serving = {(endpoint.address, endpoint.port): endpoint for endpoint in case.host.endpoints}
    groups = [
        _Group(address, port, tuple(group), None if alone else serving.get((address, port)))
        for (address, port, alone), group in sorted(by_address.items())
    ]
    known = {(group.address, group.port) for group in groups}
    strays = {stray for some in held.values() for stray in some} - known
    return [*groups, *(_Group(address, port, (), None) for address, port in sorted(strays))]


def _held(case: Case, sight: ClusterSight) -> dict[Address, ResourceKey]:
    """Return the endpoints of a host that a cluster holds, whatever the name of each object is."""
    label, namespace = host_label(case.key.host), case.key.namespace or sight.namespace
    return {
        held.endpoint: key
        for key, held in (sight.objects or {}).items()
        if key.kind == WORKLOAD_ENTRY and key.namespace == namespace and held.host == label and held.endpoint
    }


def _endpoint(case: Case, group: _Group, sights: Sights, sayings: Sayings, held: Held) -> EndpointAnswer:
    said = voices(group.registrations, sights.registries, case.host.ended)
    rows = () if not group.address else _workload_entries(case, group, sights, sayings, held)
    state = _state(group)
    name = group.name if state != UNLISTED else f"{group.name} of {case.key.host}"
    return EndpointAnswer(
        endpoint=group.name,
        address=group.address,
        port=group.port,
        state=state,
        verdict=verdict_of_endpoint(name, state, said, rows, sights.registries),
        values=values_of_endpoint(group.endpoint, group.registrations),
        voices=said,
        clusters=rows,
    )


def _state(group: _Group) -> str:
    if not group.registrations:
        return UNLISTED
    if all(one.ruling.skip is not None for one in group.registrations):
        return SKIPPED
    if group.endpoint is None:
        return ABSENT
    return KEPT if group.endpoint.kept else IN_SERVICE


def _workload_entries(
    case: Case, group: _Group, sights: Sights, sayings: Sayings, held: Held
) -> tuple[Whereabouts, ...]:
    name = workload_entry_name(case.key.host, group.address, group.port)
    rows = []
    for sight in sights.clusters.values():
        here = case.here[sight.name]
        key = ResourceKey(WORKLOAD_ENTRY, case.key.namespace or sight.namespace, name)
        if not group.registrations:
            key = held[sight.name].get((group.address, group.port), key)
        if resource := here.resources.get(key):
            rows.append(desired(sight, resource, here.rules, some=True))
        elif row := undesired(sight, key, sayings):
            rows.append(row)
        elif group.endpoint is None:
            rows.append(absent(sight, key, "", "not there"))
        else:
            rows.append(_left_out(case, group, sight, key))
    return tuple(rows)


def _left_out(case: Case, group: _Group, sight: ClusterSight, key: ResourceKey) -> Whereabouts:
    """Return why a cluster does not get an endpoint that carries traffic."""
    endpoint, ruling = group.endpoint, group.registrations[0].ruling
    for clusters in (case.host.clusters, endpoint.clusters if endpoint else None):
        if clusters is not None and sight.name not in clusters:
            source = dict(ruling.sources).get("clusters", "a rule")
            return absent(sight, key, f"{source} sends it to {', '.join(clusters) or 'no cluster'}")
    where = f"{case.key.host} at {group.address}, port {group.port} "
    rejected = case.here[sight.name].rejected
    why = next((text for text in rejected if text.startswith(where)), "") or next(iter(rejected), "nothing says why")
    return absent(sight, key, why, "rejected")


def _service_entries(case: Case, sight: ClusterSight, sayings: Sayings) -> Iterable[Whereabouts]:
    """Return what became of a host's ServiceEntry, and of those of its aliases."""
    here, namespace = case.here[sight.name], case.key.namespace or sight.namespace
    entries = {key: one for key, one in here.resources.items() if key.kind == SERVICE_ENTRY}
    some = any(_is_ours(sight, key) for key in here.resources if key.kind == WORKLOAD_ENTRY)
    yield from (desired(sight, entry, here.rules, some=some) for entry in entries.values())
    for alias in here.aliases:
        if (key := ResourceKey(SERVICE_ENTRY, namespace, alias)) not in entries:
            why = next((text for text in (*here.contested, *here.rejected) if repr(alias) in text), "")
            yield absent(sight, key, why, "left out" if why in here.contested else "rejected")
    key = ResourceKey(SERVICE_ENTRY, namespace, case.key.host)
    if key in entries:
        return
    if row := undesired(sight, key, sayings):
        yield row
    elif case.host.clusters and sight.name not in case.host.clusters:
        source = next((dict(one.ruling.sources).get("clusters", "") for one in case.registrations), "")
        yield absent(sight, key, f"{source or 'a rule'} sends it to {', '.join(case.host.clusters)}")
    elif here.rejected:
        yield absent(sight, key, here.rejected[0], "rejected")
    else:
        yield absent(sight, key, "", "not there")


def _troubles(case: Case) -> tuple[str, ...]:
    """Return what had to be left out, and what registrations disagree about, once each."""
    said = [text for here in case.here.values() for text in (*here.rejected, *here.contested, *here.troubles)]
    return tuple(dict.fromkeys((*case.host.disagreements, *said)))


def _is_ours(sight: ClusterSight, key: ResourceKey) -> bool:
    held = (sight.objects or {}).get(key)
    return held is not None and held.owner == sight.owner
