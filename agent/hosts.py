"""Which services make which hosts, and where a host's resources are."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from agent.merge import HostKey
from agent.naming import host_label

Service = tuple[str, str]  # registry, service


class Place(NamedTuple):
    """Where a host's resources are in one cluster: a namespace, and the host's label."""

    namespace: str
    label: str


class HostIndex:
    """Hosts by service, services by host, and hosts by label."""

    def __init__(self) -> None:
        self._hosts_of: dict[Service, frozenset[HostKey]] = {}
        self._services_of: dict[HostKey, set[Service]] = {}
        self._labelled: dict[str, set[HostKey]] = {}

    def put(self, service: Service, hosts: Iterable[HostKey]) -> set[HostKey]:
        """Note which hosts a service makes now; return those and the ones that it made before."""
        before, after = self._hosts_of.get(service, frozenset()), frozenset(hosts)
        for host in before - after:
            self._services_of[host].discard(service)
            if not self._services_of[host]:
                del self._services_of[host]
                label = host_label(host.host)
                self._labelled[label].discard(host)
                if not self._labelled[label]:
                    del self._labelled[label]
        for host in after - before:
            self._services_of.setdefault(host, set()).add(service)
            self._labelled.setdefault(host_label(host.host), set()).add(host)
        if after:
            self._hosts_of[service] = after
        else:
            self._hosts_of.pop(service, None)
        return set(before | after)

    def services(self, hosts: Iterable[HostKey]) -> set[Service]:
        """Return the services that make any of these hosts."""
        return {service for host in hosts for service in self._services_of.get(host, ())}

    def hosts(self) -> Collection[HostKey]:
        """Return all hosts."""
        return tuple(self._services_of)

    def at(self, place: Place, namespace: str) -> list[HostKey]:
        """Return the hosts at a place of a cluster whose own namespace is given."""
        labelled = self._labelled.get(place.label, ())
        return sorted(host for host in labelled if (host.namespace or namespace) == place.namespace)
