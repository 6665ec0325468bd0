"""Deleting, and taking over, what another owner has in a cluster: what the verbs `purge` and `adopt` do."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

from agent.clusters import Cluster, Heritable
from agent.clusters.objects import is_managed
from agent.config import Config
from agent.estate import Estate, Left, idle
from agent.plan import Action, Change
from state.errors import ClusterError, Fault
from state.model import SERVICE_ENTRY, WORKLOAD_ENTRY, Held

AT_A_TIME = 8  # writes in flight, as in a lane
TRIES = 3  # istiod, too, writes into an object, and one that is not as it was read is read again

Write = Callable[[Held], ClusterError | None]


@dataclass(slots=True)
class Done:
    """How much was done, and what was not."""

    objects: int = 0
    left: list[Left] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def namespaces_of(config: Config) -> frozenset[str]:
    """Return the namespaces that a configuration names for every cluster, besides its own."""
    return frozenset(rule.namespace for rule in config.rules if rule.namespace)


def purge(cluster: Cluster, namespaces: frozenset[str], owner: str, estate: Estate) -> Done:
    """Delete WorkloadEntries, then those of the ServiceEntries that select none any more."""

    def delete(held: Held) -> ClusterError | None:
        (outcome,) = cluster.write([Change(Action.DELETE, held.key, None, held, f"purge of {owner}")])
        return outcome if isinstance(outcome, ClusterError) else None

    done = Done()
    work = _Work(cluster, owner, done)
    work.carry_out(delete, [held for held in estate.objects if held.key.kind == WORKLOAD_ENTRY])
    agreed = {held.key for held in estate.objects}
    now = idle(cluster.read(namespaces), owner)  # perhaps another owner has come meanwhile
    work.carry_out(delete, [held for held in now.objects if held.key in agreed])
    done.left = list(now.left)
    return done


def claim(cluster: Heritable, owner: str, heir: str, estate: Estate) -> Done:
    """Make WorkloadEntries, then ServiceEntries, another owner's."""

    def take(held: Held) -> ClusterError | None:
        try:
            cluster.claim(held, heir)
        except ClusterError as error:
            return error
        return None

    done = Done(left=list(estate.left))
    work = _Work(cluster, owner, done)
    for kind in (WORKLOAD_ENTRY, SERVICE_ENTRY):
        work.carry_out(take, [held for held in estate.objects if held.key.kind == kind])
    return done


class _Work:
    """Writes to many objects, several at a time, and to none any more when the cluster fails."""

    def __init__(self, cluster: Cluster, owner: str, done: Done) -> None:
        self._cluster = cluster
        self._owner = owner
        self._done = done
        self._failed = False
        self._counting = Lock()

    def carry_out(self, write: Write, objects: Sequence[Held]) -> None:
        """Write to each object, and count how that ended."""
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            for _ in pool.map(lambda held: self._one(write, held), objects):
                pass

    def _one(self, write: Write, held: Held) -> None:
        if self._failed:
            return
        try:
            error = self._try(write, held)
        except ClusterError as failure:
            error = failure
        with self._counting:
            if error is None:
                self._done.objects += 1
            elif not self._failed:
                self._failed = error.fault in (Fault.CLUSTER, Fault.UNAUTHORISED)
                self._done.failures.append(str(error))

    def _try(self, write: Write, held: Held) -> ClusterError | None:
        """Write to an object that may have changed since it was read, as long as it is that owner's."""
        for tries_left in reversed(range(TRIES)):
            error = write(held)
            if error is None or error.fault is not Fault.CONFLICT or not tries_left:
                return error
            now = self._cluster.look(held.key)
            if now is None or now.uid != held.uid or now.owner != self._owner or not is_managed(now.labels):
                return error
            held = now
        raise AssertionError
