"""Several owners at one API server, each with a late picture of it and a clock of its own: who writes what, when."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import cast
from unittest.mock import patch

from agent.clusters.objects import annotations_after, labels_after, spec_of
from agent.hosts import Place
from agent.merge import Host, HostKey
from agent.plan import Action, Change
from agent.proposal import Proposer
from agent.rules import Choice
from agent.serving import Serving
from agent.view import View
from state.checkpoint import Applied, Carried, Forsaken
from state.limits import Limits
from state.model import SERVICE_ENTRY, Held, Instance, InstanceKey, ResourceKey, Waiting, digest_of
from tests.core import HOST, endpoint, host

GRACE = 900.0
LIMITS = Limits(service_entry_grace=GRACE, fight=0.0)
ENTRY = ResourceKey(SERVICE_ENTRY, "legacy", HOST)
PLACE = Place("legacy", HOST)


@dataclass(frozen=True)
class Write:
    """One write that the server took, at a time by the clock of whoever wrote."""

    by: str
    at: float
    action: Action
    before: Held | None
    after: Held | None


class Server:
    """What there is, with versions; whoever writes must know the one that is there."""

    def __init__(self) -> None:
        self.objects: dict[ResourceKey, Held] = {}
        self.writes: list[Write] = []
        self.owners: list[Owner] = []
        self._versions = count(1)

    def carry_out(self, by: "Owner", change: Change) -> bool:
        """Carry out a change, or tell that its version is another; everybody will hear of it, sooner or later."""
        there = self.objects.get(change.key)
        if (there and (there.uid, there.resource_version)) != (
            change.held and (change.held.uid, change.held.resource_version)
        ):
            return False
        after: Held | None = None
        if change.resource is None:
            del self.objects[change.key]
        else:
            resource, version = change.resource, next(self._versions)
            after = self.objects[change.key] = Held(
                key=change.key,
                uid=there.uid if there else f"uid-{version}",
                resource_version=str(version),
                generation=version,
                labels=labels_after(resource, there) if there else dict(resource.labels),
                annotations=annotations_after(resource, there) if there else dict(resource.annotations),
                spec_digest=digest_of(resource.spec),
                spec=spec_of(change.key.kind, resource.spec),
            )
        self.writes.append(Write(by.name, by.clock, change.action, there, after))
        for owner in self.owners:
            if owner is not by:
                owner.events.append((change.key, after))
        return True

    def entry_writes(self) -> list[Write]:
        """Return the writes of the ServiceEntry."""
        return [one for one in self.writes if ENTRY in ((one.before or one.after or held_nothing()).key,)]


def held_nothing() -> Held:
    """Return an object that nobody has written."""
    return Held(key=ResourceKey("", "", ""), labels={}, annotations={})


class Owner:
    """One agent: what its registry lists, its picture of the server, its clock, and what it remembers."""

    def __init__(self, name: str, server: Server, port: Choice) -> None:
        self.name = name
        self.server = server
        self.port = port
        self.needs = False
        self.numbers: frozenset[int] = frozenset()  # of its endpoints; several owners may have the same
        self.clock = 1000.0 * (1 + len(server.owners))
        self.events: list[tuple[ResourceKey, Held | None]] = []
        self.late: list[Change] = []
        self.stored: tuple[dict[ResourceKey, Applied], list[Forsaken]] = ({}, [])
        server.owners.append(self)
        self.restart()

    def restart(self) -> None:
        """Begin again with what was stored, and no picture."""
        serving = Serving(
            cluster="east", namespace="legacy", policy="sync", owner=self.name, configuration="", version=""
        )
        applied, forsaken = self.stored
        with self._time():
            self.proposer = Proposer(serving, cast("View", self), LIMITS, dict(applied), Carried(), forsaken)
        self.late = []

    @contextmanager
    def _time(self) -> Iterator[None]:
        with patch("agent.proposal.time") as time:
            time.monotonic = lambda: self.clock
            yield

    # What a proposer asks of a view

    def host(self, place: Place, namespace: str) -> Host | None:  # noqa: ARG002
        if place != PLACE or not self.needs:
            return None
        endpoints = (endpoint(f"10.0.0.{number}") for number in sorted(self.numbers))
        return host(*endpoints, key=HostKey("", HOST), port=self.port)

    def hosts(self) -> list[HostKey]:
        return [HostKey("", HOST)] if self.needs else []

    def claimants(self, alias: str, namespace: str, own: str) -> Iterator[Host]:  # noqa: ARG002
        yield from ()

    def passed(self, registry: str | None = None) -> bool:  # noqa: ARG002
        return True

    def word(self, registry: str, key: InstanceKey) -> tuple[Instance | None, Waiting | None] | None:  # noqa: ARG002
        return None, None

    # What happens to it

    def read(self) -> None:
        """See the server as it is."""
        self.events.clear()
        self.proposer.authors.seen.show()
        with self._time():
            self.proposer.take(dict(self.server.objects))

    def hear(self, events: int) -> None:
        """Hear of some changes, in their order; a watch shows no spec that has changed."""
        for key, held in self.events[:events]:
            if held is not None and key == ENTRY:
                known = self.proposer.mirror.objects.get(key)
                same = known is not None and known.generation == held.generation
                held = held if same else replace(held, spec="", spec_digest="")
            if self.proposer.read:
                self.proposer.deliver(key, held)
        del self.events[:events]

    def plan(self) -> None:
        """Plan, and look at what must be looked at; what is planned is written later."""
        if not self.proposer.read:
            return
        self.late = self.proposer.propose(PLACE, self.clock)
        for key in self.proposer.authors.questions():
            self.proposer.deliver(key, self.server.objects.get(key))
        self.proposer.due(self.clock)
        if self.proposer.authors.has_returned():
            self.store()

    def write(self, most: int = 99) -> None:
        """Write some of what was planned last."""
        for change in self.late[:most]:
            if not self.server.carry_out(self, change):
                self.proposer.deliver(change.key, self.server.objects.get(change.key))
                break
            self.proposer.acknowledge(change, self.server.objects.get(change.key), self.clock)
        self.late = []

    def store(self) -> None:
        """Remember everything over a restart."""
        authors, rows = self.proposer.authors, dict(self.proposer.applied.rows)
        lingering = {row.key: row for row in authors.lingering(self.clock)}
        self.stored = rows | lingering, authors.forsaken(self.clock)

    def calm_down(self) -> None:
        """See everything, and write until there is nothing left to do."""
        for _ in range(4):
            self.read()
            self.plan()
            if not self.late:
                break
            self.write()
