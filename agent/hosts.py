"""Which services make which hosts, and where a host's resources are."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from agent.merge import HostKey
from agent.naming import host_label

Service = tuple[str, str]  # registry, service
Alias = tuple[HostKey, str]  # a host, and a further name of it


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
        self._aliases_of: dict[Service, frozenset[Alias]] = {}
        self._claimants: dict[str, dict[Service, set[HostKey]]] = {}  # by an alias

    def put(self, service: Service, hosts: Iterable[HostKey], aliases: Iterable[Alias] = ()) -> set[HostKey]:
        """Note which hosts a service makes now; return those and the ones that it made before."""
        self._put_aliases(service, frozenset(aliases))
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

    def _put_aliases(self, service: Service, after: frozenset[Alias]) -> None:
        before = self._aliases_of.pop(service, frozenset())
        if after:
            self._aliases_of[service] = after
        if before == after:
            return
        for _, alias in before:
            claims = self._claimants.get(alias, {})
            claims.pop(service, None)
            if not claims:
                self._claimants.pop(alias, None)
        for host, alias in after:
            self._claimants.setdefault(alias, {}).setdefault(service, set()).add(host)

    def claimants(self, alias: str) -> set[HostKey]:
        """Return the hosts of which a name is an alias, in whichever namespace."""
        return {host for hosts in self._claimants.get(alias, {}).values() for host in hosts}

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
