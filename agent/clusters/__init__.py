"""The places that resources go to: Kubernetes API servers and directories."""

from collections.abc import Callable, Mapping, Sequence
from threading import Event
from typing import Protocol

from agent.plan import Change
from state.errors import ClusterError
from state.model import Held, ResourceKey

Outcome = Held | None | ClusterError  # of a change: what is there now, None when it was deleted, why it failed


class Cluster(Protocol):
    """One place that holds resources; every call raises ClusterError when it fails.

    ``namespaces`` grow only: whatever was named once is read until the end.
    Where ``whole_hosts`` holds, the changes of one host are best handed over together.
    """

    name: str
    whole_hosts: bool

    def read(self, namespaces: frozenset[str]) -> Mapping[ResourceKey, Held]:
        """Return every isthmus object in these namespaces, whoever its owner is."""

    def watch(self, stop: Event, deliver: Callable[[ResourceKey, Held | None], None]) -> None:
        """Deliver every change since the last read, until stopped or a new read is due.

        ``None`` means that the object is gone. Returns when the caller should
        read again; raises when the cluster cannot be watched. Calls ``deliver``
        from this thread alone.

        What our own writes did need not be among it: they return it. The two can
        cross. A mirror is right when it takes every delivery, after the results of
        writes that came by then, and a write's result only where it still shows the
        state that the write has replaced.
        """

    def look(self, key: ResourceKey) -> Held | None:
        """Return one object, also one that is not isthmus', or None if there is none."""

    def write(self, changes: Sequence[Change]) -> list[Outcome]:
        """Carry out changes of one host in their order, each as if alone, and return what became of each.

        A create fails with Fault.EXISTS when the name is taken; an update or a
        delete with Fault.CONFLICT when the object is no longer the one that is
        held. An update replaces our part of an object. That what is to be deleted
        was gone already is success.
        """

    def writers(self, key: ResourceKey) -> tuple[str, ...]:
        """Name who else wrote an object, and when, as far as the cluster knows."""

    def close(self) -> None:
        """End every connection; calls in flight fail soon."""


class Heritable(Cluster, Protocol):
    """A place whose objects can become another owner's."""

    def claim(self, held: Held, owner: str) -> Held:
        """Make an object another owner's and change nothing else; Fault.CONFLICT when it is not the one held."""
