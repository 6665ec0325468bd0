"""A cluster that tells of every write: what it was, and when the cluster had taken it."""

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Condition, Event
from typing import NamedTuple

from agent.clusters import Cluster, Outcome
from agent.demo.facts import Fact, fact_of
from agent.plan import Action, Change
from state.errors import ClusterError
from state.model import Held, ResourceKey


class Write(NamedTuple):
    """One write that a cluster took at a monotonic time.

    ``fact`` is what is there since then, for a deletion what was there before;
    ``before`` is what it replaced.
    """

    at: float
    cluster: str
    action: Action
    key: ResourceKey
    fact: Fact
    before: Fact | None


class Witness:
    """Does what the cluster does that it stands before, and tells of it, from whatever thread wrote.

    What it tells and what it says to be there change as one, under the lock of ``news``.
    """

    def __init__(self, cluster: Cluster, news: Condition, tell: Callable[[Write], None]) -> None:
        self.name = cluster.name
        self.whole_hosts = cluster.whole_hosts
        self._cluster = cluster
        self._tell = tell
        self._news = news
        self._facts: dict[ResourceKey, Fact] = {}  # what was written and not deleted since

    def facts(self) -> frozenset[Fact]:
        """Return what the cluster has taken."""
        with self._news:
            return frozenset(self._facts.values())

    def read(self, namespaces: frozenset[str]) -> Mapping[ResourceKey, Held]:
        """Read it."""
        return self._cluster.read(namespaces)

    def watch(self, stop: Event, deliver: Callable[[ResourceKey, Held | None], None]) -> None:
        """Watch it."""
        self._cluster.watch(stop, deliver)

    def look(self, key: ResourceKey) -> Held | None:
        """Look at one object."""
        return self._cluster.look(key)

    def write(self, changes: Sequence[Change]) -> list[Outcome]:
        """Carry out changes, and tell of those that were taken."""
        outcomes = self._cluster.write(changes)
        at = time.monotonic()
        with self._news:
            for change, outcome in zip(changes, outcomes, strict=True):
                if not isinstance(outcome, ClusterError):
                    self._note(at, change)
            self._news.notify_all()
        return outcomes

    def writers(self, key: ResourceKey) -> tuple[str, ...]:
        """Name who else wrote an object."""
        return self._cluster.writers(key)

    def close(self) -> None:
        """Close it."""
        self._cluster.close()

    def _note(self, at: float, change: Change) -> None:
        before = self._facts.pop(change.key, None)
        if change.resource is not None:
            self._facts[change.key] = fact_of(change.resource.manifest())
        fact = self._facts.get(change.key, before)
        if fact is not None:
            self._tell(Write(at, self.name, change.action, change.key, fact, before))
