"""From Consul's JSON to values: an answer is complete or an error, one bad instance is rejected and says why.

Sources: https://developer.hashicorp.com/consul/api-docs/catalog and .../api-docs/health.
Errors name the place inside the answer and its value; who asked adds the registry and the path.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from sys import intern
from typing import NamedTuple, cast

from hooks.consul.proven import Targets, proven
from hooks.consul.settings import ConsulSettings
from hooks.fields import (
    canonical_ip,
    created_of,
    is_text,
    locality_of,
    metadata_of,
    port_problem,
    protocol_of,
    service_port_of,
    shown,
    tags_of,
    version_of,
    weight_of,
)
from state.errors import RegistryError
from state.model import Absence, Instance, InstanceKey, Snapshot, digest_of

CONSUL = "consul"  # the servers themselves, registered as a service
NODE_MAINTENANCE = "_node_maintenance"
SERVICE_MAINTENANCE = "_service_maintenance:"

_Object = Mapping[str, object]


class Check(NamedTuple):
    """One health check; ``service_id`` and ``service`` are empty for a check of the node."""

    node: str
    check_id: str
    service_id: str
    service: str
    status: str


class _Place(NamedTuple):
    """An address or port as it was registered, and where."""

    field: str
    value: object


def services(settings: ConsulSettings, body: object) -> frozenset[str]:
    """Return the names in scope of ``/v1/catalog/services``, without ``consul`` itself."""
    names = []
    for value, tags in _object(body, "the answer").items():
        name = _name(value, "a service")
        if tags is not None and not isinstance(tags, list):
            raise RegistryError(f"the tags of service {shown(name)} are {shown(tags)}, not a list")
        if name != CONSUL and any(fnmatchcase(name, glob) for glob in settings.services):
            names.append(intern(name))
    return frozenset(names)


def nodes(body: object) -> dict[str, str]:
    """Return, for each node of ``/v1/catalog/nodes``, a digest of what instances take from it."""
    found = {}
    for number, entry in enumerate(_list(body, "the answer")):
        node = _object(entry, f"node {number}")
        name = intern(_name(node.get("Node"), f"the name of node {number}"))
        found[name] = digest_of([node.get(field) for field in ("Address", "TaggedAddresses", "Meta")])
    return found


def checks(body: object) -> frozenset[Check]:
    """Return the checks of ``/v1/health/state/<state>``; what they printed is left out."""
    found = set()
    for number, entry in enumerate(_list(body, "the answer")):
        check = _object(entry, f"check {number}")
        node = intern(_name(check.get("Node"), f"Node of check {number}"))
        name = _name(check.get("CheckID"), f"CheckID of check {number}")
        service_id, service, status = (
            _text(check.get(field, ""), f"{field} of check {number}")
            for field in ("ServiceID", "ServiceName", "Status")
        )
        found.add(Check(node, name, service_id, service, status))
    return frozenset(found)


def snapshot(
    settings: ConsulSettings, service: str, body: object, index: int = 0, targets: Targets | None = None
) -> Snapshot:
    """Return all instances in an answer of ``/v1/health/service/<service>``, ordered by key.

    ``targets`` remembers, from answer to answer, what checks have shown that they ask.

    Sidecars, gateways and ``consul`` are left out. So is a service whose name
    differs by case only: Consul looks names up without case, and lists them apart
    (https://github.com/hashicorp/consul/issues/5707). Any other name is an error.
    """
    found: dict[InstanceKey, Instance] = {}
    targets = Targets() if targets is None else targets
    for number, entry in enumerate(_list(body, "the answer")):
        parts = _object(entry, f"entry {number}")
        node = _object(parts.get("Node"), f"Node of entry {number}")
        registered = _object(parts.get("Service"), f"Service of entry {number}")
        node_name = _name(node.get("Node"), f"Node.Node of entry {number}")
        id_ = _name(registered.get("ID"), f"Service.ID of entry {number}")
        name = _name(registered.get("Service"), f"Service.Service of entry {number}")
        checks = _checks(parts.get("Checks", ""), f"Checks of entry {number}")
        if name != service and name.lower() != service.lower():
            raise RegistryError(f"entry {number} ({shown(id_)}) is of service {shown(name)}, not {shown(service)}")
        if name != service or name == CONSUL or _is_proxy(registered.get("Kind")):
            continue
        key = InstanceKey(intern(name), intern(node_name), id_)
        instance = _instance(settings, key, node, registered, checks, targets)
        if key in found and found[key] != instance:
            note = f"registered differently in one answer, as {shown(id_)} on {shown(node_name)}: the last one counts"
            instance = replace(instance, dropped=(*instance.dropped, note))
        found[key] = instance
    return Snapshot(service, tuple(found[key] for key in sorted(found)), index)


def _instance(
    settings: ConsulSettings,
    key: InstanceKey,
    node: _Object,
    registered: _Object,
    checks: Sequence[_Object],
    targets: Targets,
) -> Instance:
    dropped: list[str] = []
    absence, warning = _health(checks)
    at, port = _place(settings.address, node, registered)
    address, address_flaw = canonical_ip(at.value)
    port_flaw = port_problem(port.value)
    flaws = ((at, address_flaw), (port, port_flaw))
    rejected = "; ".join(f"{where.field} {shown(where.value)} {flaw}" for where, flaw in flaws if flaw)
    prefix = settings.metadata_prefix
    tags = tags_of(registered.get("Tags"), dropped)
    metadata = metadata_of(registered.get("Meta"), dropped)
    values = dict(metadata)
    service_port, origin = service_port_of(values, prefix, tags, dropped)
    return Instance(
        key=key,
        address="" if rejected else address,
        port=0 if port_flaw else cast(int, port.value),
        absent_because=Absence.REJECTED if rejected and absence is Absence.NONE else absence,
        warning=warning,
        tags=tags,
        metadata=metadata,
        locality=locality_of(settings.region or node.get("Datacenter", ""), values, prefix, dropped),
        weight=weight_of(registered.get("Weights"), "Warning" if warning else "Passing", dropped),
        version=version_of(values, prefix, dropped),
        service_port=service_port,
        service_port_from=origin,
        protocol=protocol_of(values, prefix, dropped),
        proven="" if rejected else proven(key.node, checks, (registered.get("Port"), port.value), targets),
        registered=created_of(registered.get("CreateIndex", 0), dropped),
        rejected=rejected,
        dropped=tuple(dropped),
    )


def _checks(value: object, where: str) -> list[_Object]:
    checks: list[_Object] = []
    for number, entry in enumerate([] if value is None else _list(value, where)):
        if not isinstance(entry, dict):
            raise RegistryError(f"check {number} in {where} is {shown(entry)}, not an object")
        checks.append(entry)
    return checks


def _health(checks: Iterable[_Object]) -> tuple[Absence, bool]:
    """Return why an instance carries no traffic, and whether it warns; what is unknown counts as critical."""
    warning = False
    words = set()
    for check in checks:
        status = check.get("Status")
        if status == "warning":
            warning = True
        elif status != "passing":
            words.add(_word(check.get("ServiceID", "") == "", check.get("CheckID")))
    for word in (Absence.NODE_CRITICAL, Absence.MAINTENANCE, Absence.CRITICAL):
        if word in words:
            return word, False
    return Absence.NONE, warning


def _word(of_node: bool, check: object) -> Absence:
    if of_node:
        return Absence.MAINTENANCE if check == NODE_MAINTENANCE else Absence.NODE_CRITICAL
    maintenance = isinstance(check, str) and check.startswith(SERVICE_MAINTENANCE)
    return Absence.MAINTENANCE if maintenance else Absence.CRITICAL


def _is_proxy(kind: object) -> bool:
    return isinstance(kind, str) and (kind == "connect-proxy" or kind.endswith("-gateway"))


def _place(tag: str, node: _Object, registered: _Object) -> tuple[_Place, _Place]:
    """Return the address (the tagged one if there is one, else the service's own, else its node's) and its port.

    A tagged address without a port goes with the plain port, as in Consul's own
    translation. Consul itself makes names such as ``wan_ipv4``.
    """
    port = _Place("Service.Port", registered.get("Port"))
    if tag != "lan":
        names = (tag, f"{tag}_ipv4", f"{tag}_ipv6")
        for address in _tagged("Service.TaggedAddresses", registered.get("TaggedAddresses"), names):
            if not isinstance(address.value, dict):
                return address, port
            if address.value.get("Address"):
                own = _Place(f"{address.field}.Port", address.value.get("Port"))
                return _Place(f"{address.field}.Address", address.value["Address"]), own if own.value else port
        for address in _tagged("Node.TaggedAddresses", node.get("TaggedAddresses"), names):
            return address, port
    if registered.get("Address"):
        return _Place("Service.Address", registered["Address"]), port
    return _Place("Node.Address", node.get("Address")), port


def _tagged(field: str, value: object, names: tuple[str, ...]) -> list[_Place]:
    if not value:
        return []
    if not isinstance(value, dict):
        return [_Place(field, value)]
    return [_Place(f"{field}.{name}", value[name]) for name in names if value.get(name)]


def _object(value: object, what: str) -> _Object:
    if not isinstance(value, dict):
        raise RegistryError(f"{what} is {shown(value)}, not an object")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise RegistryError(f"{what} is {shown(value)}, not a list")
    return value


def _text(value: object, what: str) -> str:
    if not is_text(value):
        raise RegistryError(f"{what} is {shown(value)}, not text")
    return intern(value)


def _name(value: object, what: str) -> str:
    if not is_text(value) or not value:
        raise RegistryError(f"{what} is {shown(value)}, not a name")
    return value
