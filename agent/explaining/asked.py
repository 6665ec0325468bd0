"""What somebody asks about: a service, a host, or an endpoint by its address."""

from collections.abc import Container, Iterable, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from typing import NamedTuple

from agent.explaining.sights import ClusterSight, Sights
from agent.merge import HostKey
from agent.naming import host_label
from agent.rules import Rules, Ruling, port_of
from state.model import SERVICE_ENTRY, Instance, ResourceKey

NEAR = 3  # names that are told when the one asked for is unknown


class Asked(NamedTuple):
    """``name`` is a service or a host in lower case, "" when an ``address`` was asked for; port 0 is any."""

    text: str
    name: str
    address: str = ""
    port: int = 0

    def matches(self, key: HostKey, instance: Instance, ruling: Ruling) -> bool:
        """Tell whether a registration, of which the host is given, is about what was asked."""
        if self.address:
            return instance.address == self.address and self.port in (0, port_of(instance, ruling))
        return self.name in (key.host, instance.key.service.lower()) or self.name in ruling.aliases


def parse(text: str) -> Asked:
    """Return what a text asks for: ADDRESS:PORT, [ADDRESS]:PORT, ADDRESS, or any other name."""
    text = text.strip()
    host, colon, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if colon and number and (":" not in bare or bare != host) and (address := _address(bare)):
        return Asked(text, "", address, number)
    if address := _address(text[1:-1] if text.startswith("[") and text.endswith("]") else text):
        return Asked(text, "", address)
    return Asked(text, text.lower().rstrip("."))


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


def listed(asked: Asked, registrations: Iterable[tuple[str, Instance]], rules: Rules) -> set[HostKey]:
    """Return the hosts of what registries list, as (registry, instance), that were asked for."""
    found = set()
    for registry, instance in registrations:
        ruling = rules.ruling(registry, instance)
        key = HostKey("" if ruling.namespace is None else str(ruling.namespace.value), str(ruling.host.value))
        if asked.matches(key, instance, ruling):
            found.add(key)
    return found


def held(
    asked: Asked, sights: Sights, known: Iterable[HostKey], desired: Mapping[str, Container[ResourceKey]]
) -> set[HostKey]:
    """Return the hosts that clusters hold, whoever owns them, that were asked for and are none of those ``known``.

    ``desired`` are the objects of the known ones in each cluster: aliases have other names.
    """
    found = set()
    for sight in sights.clusters.values():
        places = {(host.namespace or sight.namespace, host_label(host.host)) for host in known}
        for namespace, host in _hosts_of(asked, sight):
            is_known = ResourceKey(SERVICE_ENTRY, namespace, host) in desired[sight.name]
            if (namespace, host_label(host)) not in places and not is_known:
                found.add(HostKey("" if namespace == sight.namespace else namespace, host))
    return found


def _hosts_of(asked: Asked, sight: ClusterSight) -> Iterable[tuple[str, str]]:
    """Return (namespace, host) of everything in a cluster that is about what was asked."""
    if sight.objects is None:  # a WorkloadEntry that is only remembered does not tell its host
        yield from ((k.namespace, k.name) for k in sight.applied if k.kind == SERVICE_ENTRY and k.name == asked.name)
        return
    for key, one in sight.objects.items():
        if asked.address:
            if one.endpoint and one.endpoint[0] == asked.address and asked.port in (0, one.endpoint[1]):
                yield key.namespace, one.host
        elif one.host in (asked.name, host_label(asked.name)):
            yield key.namespace, asked.name


def near(asked: Asked, names: Iterable[str]) -> tuple[str, ...]:
    """Return known names that look like the one that was asked for."""
    by_lower = {name.lower(): name for name in names}
    return tuple(by_lower[name] for name in get_close_matches(asked.name, by_lower, NEAR)) if asked.name else ()
