"""What the hook of one registry speaks to."""

import time
from collections.abc import Collection

from agent import guard
from agent.belief import Belief
from agent.removal import is_dark, is_gone, keep_rejected
from agent.standing import HELD, begin_epoch
from agent.view import View
from state.model import Instance, InstanceKey, Reading, Reason, Snapshot


class RegistryListener:
    """The view, as seen by one registry's hook."""

    def __init__(self, view: View, registry: str) -> None:
        self._view = view
        self._registry = registry

    @property
    def _belief(self) -> Belief:
        return self._view.beliefs[self._registry]

    def services(self) -> Collection[str]:
        """Return the services of which an instance is believed."""
        with self._view.lock:
            return set(self._belief.services)

    def known(self, key: InstanceKey) -> Instance | None:
        """Return what is believed of an instance."""
        with self._view.lock:
            return self._belief.services.get(key.service, {}).get(key)

    def services_of(self, node: str) -> Collection[str]:
        """Return the services of which an instance on a node is believed."""
        with self._view.lock:
            return self._belief.services_of(node)

    def doubts(self, snapshot: Snapshot) -> bool:
        """Tell whether a snapshot removes something, or speaks of a removal that waits."""
        with self._view.lock:
            return guard.doubts(self._belief.view(), snapshot, self._belief.carries)

    def loses(self, snapshot: Snapshot) -> bool:
        """Tell whether an instance that is believed is missing in a snapshot, or its node critical."""
        words = {instance.key: instance for instance in snapshot.instances}
        with self._view.lock:
            for key, before in self._belief.services.get(snapshot.service, {}).items():
                word = words.get(key)
                if key in snapshot.unread:
                    continue
                if word is None or is_gone(before, keep_rejected(before, word)):
                    return True
        return False

    def removed(self, snapshot: Snapshot) -> Collection[InstanceKey]:
        """Return the believed instances that a snapshot lacks or takes out of service, but for those in grace."""
        words = {instance.key: instance for instance in snapshot.instances}
        found = []
        with self._view.lock:
            for key, before in self._belief.services.get(snapshot.service, {}).items():
                row, word = self._belief.waiting.get(key), words.get(key)
                if row is not None and row.reason is Reason.GRACE:
                    continue
                if word is not None:
                    word = keep_rejected(before, word)
                    if not (is_gone(before, word) or is_dark(before, word, self._belief.carries)):
                        continue
                found.append(key)
        return found

    def seen(self, service: str) -> bool:
        """Tell whether this life of the registry's data has shown a service; what others lack at first is held."""
        with self._view.lock:
            return self._belief.epochs.get(service, 0) >= self._belief.standing.epoch

    def hear(self, reading: Reading) -> Collection[str]:
        """Judge a reading and act on it; return the services whose content changed."""
        return self._view.hear(reading)

    def begin_epoch(self) -> None:
        """Note that another life of the registry's data has begun."""
        with self._view.lock:
            self._belief.standing = begin_epoch(self._belief.standing, time.monotonic())
        self._view.store_elapsed()

    def next_pass(self, last: float) -> float | None:
        """Return when what waits needs a pass, the last one having ended at ``last``."""
        with self._view.lock:
            reasons = {row.reason for row in self._belief.waiting.values()}
        if Reason.LOOK in reasons:
            return last
        if not reasons.isdisjoint(HELD):
            return last + self._view.limits.release_spacing
        return None
