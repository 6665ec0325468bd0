"""Which of several hosts has a name: a host of that name before an alias, then the first host by name. Pure."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from agent.hosts import Place
from agent.merge import Host
from agent.naming import host_label
from state.model import SERVICE_ENTRY, Resource


class Names(Protocol):
    """All hosts, and what else they are called."""

    def host(self, place: Place, namespace: str) -> Host | None:
        """Return the host at a place of a cluster whose own namespace is given, None if nobody needs it."""

    def claimants(self, alias: str, namespace: str, own: str) -> Iterator[Host]:
        """Return the hosts in a namespace that have an alias, by name; ``own`` is a cluster's own namespace."""


def uncontested(
    host: Host, resources: Sequence[Resource], names: Names, *, cluster: str, own: str
) -> tuple[tuple[Resource, ...], tuple[str, ...]]:
    """Return a host's objects without the aliases that another host has, and what is to be said about those.

    ``own`` is the namespace of the ``cluster``.
    """
    aliases = {one.key for one in resources if one.key.kind == SERVICE_ENTRY and one.key.name != host.key.host}
    lost = {key: why for key in sorted(aliases) if (why := _whose(host, *key[1:], names, cluster, own))}
    left = tuple(resource for resource in resources if resource.key not in lost)
    return left, tuple(f"host {host.key.host}: alias {key.name!r} {why}" for key, why in lost.items())


def _whose(host: Host, namespace: str, alias: str, names: Names, cluster: str, own: str) -> str:
    """Return who has an alias instead of a host, "" if nobody does."""
    real = names.host(Place(namespace, host_label(alias)), own)
    if real is not None and is_in(real, cluster):
        return "is a host of its own: it is left to that"
    others = (one for one in names.claimants(alias, namespace, own) if is_in(one, cluster))
    first = next((one.key.host for one in others), host.key.host)
    return f"is one of {first} too, which has it, being the first by name" if first < host.key.host else ""


def is_in(host: Host, cluster: str) -> bool:
    """Tell whether a host is one of a cluster's."""
    return host.clusters is None or cluster in host.clusters
