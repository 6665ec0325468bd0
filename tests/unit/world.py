"""A cluster in memory, and everything that serves it, without a registry: a test says what one has shown."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from agent.clusters import Outcome
from agent.clusters.objects import is_managed, spec_of
from agent.clusters.settings import Policy
from agent.lane import Lane
from agent.plan import Action, Change
from agent.proposal import Proposer
from agent.rules import Rule, Rules
from agent.serving import Serving, Wrote
from agent.view import View
from state.checkpoint import Checkpoint
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import Held, Instance, Reading, Resource, ResourceKey, Snapshot, digest_of
from tests.core import instance

REGISTRY = "dc1"
OWNER = "dc1"
LIMITS = Limits(empty_grace=0.0, backoff=(0.01,), stop=2.0, release_spacing=0.0)
PATIENCE = 10.0  # seconds that nothing here should need


class MemoryCluster:
    """What a cluster holds, and the writes that it took, as (action, key)."""

    name = "east"
    whole_hosts = False

    def __init__(self) -> None:
        self.objects: dict[ResourceKey, Held] = {}
        self.writes: list[tuple[str, ResourceKey]] = []
        self.refusals: list[tuple[Callable[[Change], bool], ClusterError]] = []  # each is for one write
        self.unreadable: list[ClusterError] = []  # each is for one read
        self.reads = 0
        self.begun = 0  # calls that write
        self.readable = threading.Event()
        self.readable.set()
        self.writable = threading.Event()
        self.writable.set()
        self._versions = itertools.count(1)
        self._news: SimpleQueue[tuple[ResourceKey, threading.Event] | None] = SimpleQueue()
        self._lock = threading.Lock()

    def read(self, namespaces: frozenset[str]) -> Mapping[ResourceKey, Held]:
        self.reads += 1
        assert self.readable.wait(PATIENCE)
        if self.unreadable:
            raise self.unreadable.pop(0)
        with self._lock:
            ours = [held for held in self.objects.values() if is_managed(held.labels)]
            return {held.key: replace(held, own_labels=()) for held in ours if held.key.namespace in namespaces}

    def watch(self, stop: threading.Event, deliver: Callable[[ResourceKey, Held | None], None]) -> None:
        while not stop.is_set() and (news := self._news.get()) is not None:
            key, delivered = news
            deliver(key, self._shown(key))
            delivered.set()

    def _shown(self, key: ResourceKey) -> Held | None:
        held = self.objects.get(key)
        return held if held and is_managed(held.labels) else None

    def look(self, key: ResourceKey) -> Held | None:
        return self.objects.get(key)

    def write(self, changes: Sequence[Change]) -> list[Outcome]:
        self.begun += 1
        assert self.writable.wait(PATIENCE)
        with self._lock:
            return [self._carry_out(change) for change in changes]

    def writers(self, key: ResourceKey) -> tuple[str, ...]:
        return ("kubectl",) if key in self.objects else ()

    def relist(self) -> None:
        """Let the watch end, so that everything is read again."""
        self._news.put(None)

    def close(self) -> None:
        self._news.put(None)

    def _carry_out(self, change: Change) -> Outcome:
        for refusal in self.refusals:
            if refusal[0](change):
                self.refusals.remove(refusal)
                return refusal[1]
        there, key = self.objects.get(change.key), change.key
        if change.action is Action.CREATE and there:
            return ClusterError(Fault.EXISTS, f"{key} exists")
        if change.held and there and there.resource_version != change.held.resource_version:
            return ClusterError(Fault.CONFLICT, f"{key} is another")
        self.writes.append((str(change.action), key))
        if change.resource is None:
            self.objects.pop(key, None)
            return None
        self.objects[key] = self.held(change.resource, there.uid if there else "")
        return self.objects[key]

    def held(self, resource: Resource, uid: str = "") -> Held:
        """Return a resource as it is held right after it was written."""
        version = str(next(self._versions))
        address, ports = resource.spec.get("address"), resource.spec.get("ports")
        return Held(
            key=resource.key,
            uid=uid or f"uid-{version}",
            resource_version=version,
            generation=int(version),
            labels=dict(resource.labels),
            annotations=dict(resource.annotations),
            spec_digest=digest_of(resource.spec),
            own_labels=tuple(resource.labels),
            endpoint=(address, ports["main"]) if isinstance(address, str) and isinstance(ports, dict) else None,
            spec=spec_of(resource.key.kind, resource.spec),
        )

    def put(self, held: Held) -> Held:
        """Let somebody else write an object, and tell nobody."""
        with self._lock:
            self.objects[held.key] = changed = replace(held, resource_version=str(next(self._versions)))
            return changed

    def show(self, key: ResourceKey, held: Held | None) -> None:
        """Let somebody else write or delete an object, and wait until the watch has told."""
        if held is None:
            self.objects.pop(key, None)
        else:
            self.put(replace(held, own_labels=()))
        delivered = threading.Event()
        self._news.put((key, delivered))
        assert delivered.wait(PATIENCE)

    def take_writes(self) -> list[tuple[str, str]]:
        """Return what was written since the last call, as (action, kind and name)."""
        done, self.writes = self.writes, []
        return [(action, f"{key.kind} {key.name}") for action, key in done]

    def addresses(self) -> set[str]:
        """Return the addresses of all WorkloadEntries."""
        return {held.endpoint[0] for held in self.objects.values() if held.endpoint}


class World:
    """A view, a lane and a cluster; ``run`` is one life of an agent, which a kill ends."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state.db"
        self.cluster = MemoryCluster()
        self.rules: tuple[Rule, ...] = ()
        self.configuration = "as it was"
        self.policy: Policy = "sync"
        self.paused = False
        self.limits = LIMITS
        self.order: tuple[str, ...] = (REGISTRY,)
        self.begun = 0
        self.told: list[Wrote] = []
        self.view: View
        self.lane: Lane
        self.checkpoint: Checkpoint

    def open(self) -> None:
        """Build what an agent is made of, and start nothing."""
        self.checkpoint = Checkpoint.open(self.state)
        rules = Rules(self.rules, "mesh.internal")
        self.view = View(self.order, rules, self.checkpoint, self.limits, self.configuration)
        serving = Serving(
            cluster="east",
            namespace="legacy",
            policy=self.policy,
            owner=OWNER,
            configuration=self.configuration,
            version="1",
            namespaces=frozenset(rule.namespace for rule in self.rules if rule.namespace),
        )
        applied, carried = self.checkpoint.applied("east"), self.checkpoint.carried("east")
        proposer = Proposer(serving, self.view, self.limits, applied, carried, self.checkpoint.forsaken("east"))
        self.lane = Lane(
            self.cluster, proposer, self.view, self.checkpoint, self.limits, self._told, paused=self.paused
        )

    def _told(self, wrote: Wrote) -> None:
        self.told.append(wrote)

    @contextmanager
    def run(self) -> Iterator[None]:
        self.open()
        self.lane.start()
        try:
            yield
        finally:
            self.lane.stop()
            self.checkpoint.close()
            self.cluster._news = SimpleQueue()

    def hear(self, *instances: Instance, registry: str = REGISTRY) -> None:
        """Let a registry show all its instances, in a pass, and wait until the lane has nothing to do."""
        self.tell(*instances, registry=registry)
        self.settle()

    def tell(self, *instances: Instance, registry: str = REGISTRY, complete: bool = True) -> None:
        """Let a registry show all its instances."""
        self.begun += 1
        services = {one.key.service for one in instances} | set(self.view.beliefs[registry].services)
        snapshots = tuple(
            Snapshot(service, tuple(one for one in instances if one.key.service == service), self.begun)
            for service in sorted(services)
        )
        self.view.hear(
            Reading(registry=registry, snapshots=snapshots, heard=time.monotonic(), begun=self.begun, complete=complete)
        )

    def take_told(self) -> list[Wrote]:
        """Return what the lane told of its writes since the last call."""
        told, self.told = self.told, []
        return told

    def settle(self) -> None:
        assert self.lane.settle(PATIENCE)

    def eventually(self, met: Callable[[], bool]) -> None:
        """Wait for what time alone brings: nothing tells of it."""
        ends = time.monotonic() + PATIENCE
        while not met():
            assert time.monotonic() < ends
            threading.Event().wait(0.002)

    def lose_state(self) -> None:
        """Lose the state file."""
        for file in self.state.parent.glob("state.db*"):
            file.unlink()


def orders(*numbers: int, port: int = 8080, **fields: Any) -> tuple[Instance, ...]:
    """Return instances of one service: each number is the last part of an address."""
    return tuple(instance(f"orders-{n}", node=f"node-{n}", address=f"10.0.0.{n}", port=port, **fields) for n in numbers)
