"""What a hook needs from whoever believes, or does not, what it read."""

from collections.abc import Collection
from typing import Protocol

from state.model import Instance, InstanceKey, Reading, Snapshot


class Listener(Protocol):
    """The believing side of one registry."""

    def services(self) -> Collection[str]:
        """Return the services of which an instance is believed."""

    def known(self, key: InstanceKey) -> Instance | None:
        """Return what is believed of an instance."""

    def services_of(self, node: str) -> Collection[str]:
        """Return the services of which an instance on a node is believed."""

    def doubts(self, snapshot: Snapshot) -> bool:
        """Tell whether a snapshot removes something, or speaks of a removal that waits."""

    def loses(self, snapshot: Snapshot) -> bool:
        """Tell whether an instance that is believed is missing in a snapshot, or its node critical."""

    def removed(self, snapshot: Snapshot) -> Collection[InstanceKey]:
        """Return the believed instances that a snapshot lacks or takes out of service, but for those in grace."""

    def seen(self, service: str) -> bool:
        """Tell whether this life of the registry's data has shown a service; what others lack at first is held."""

    def hear(self, reading: Reading) -> Collection[str]:
        """Judge a reading and act on it; return the services whose content changed."""

    def begin_epoch(self) -> None:
        """Note that another life of the registry's data has begun."""

    def next_pass(self, last: float) -> float | None:
        """Return when what waits needs a pass, the last one having ended at ``last``.

        Monotonic seconds; None while nothing waits for one.
        """
