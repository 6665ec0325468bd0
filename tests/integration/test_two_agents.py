"""Two agents under two owners, one beside Consul and one beside Eureka, publish the same hosts into one cluster."""

import random
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.integration.agents import RunningAgent, configuration, served_by
from tests.integration.mixed import CONSUL, EUREKA, SERVICES, Mixed, Move, name_of
from tests.integration.stage import witnesses_of
from tests.integration.witness import Key, ServerWitness
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul
from tests.testbed.eureka import Eureka
from tests.testbed.processes import ProcessError, wait_until
from tests.testbed.recorder import Event

SEED = 20261129
MOVES = 45
OWNERS = {CONSUL: "dc1", EUREKA: "dc2"}
LIMITS = {"empty_grace": "300ms", "service_entry_grace": "500ms", "busy_spacing": "200ms", "pass_spacing": "500ms"}

Claims = dict[Key, set[str]]  # whose each object may be


class Judge:
    """Waits until the cluster holds what any of both registries says, and minds what nobody may ever see."""

    def __init__(self, mixed: Mixed, witness: ServerWitness, seed: int) -> None:
        self.mixed = mixed
        self.witness = witness
        self.where = f"seed {seed}, at the start"
        self._moves = mixed.play()
        self._judged = 0
        self._authors: dict[str, str] = {}
        self._workloads: dict[Key, tuple[str, str]] = {}  # host and owner
        mixed.fill()

    def claims(self) -> Claims:
        """Say what must be there: what one owner calls healthy is there, whatever the other says of it."""
        found: Claims = {}
        for one in self.mixed.instances:
            for registry in one.at:
                found.setdefault(("ServiceEntry", f"{one.service}.mesh.internal"), set(OWNERS.values()))
                if one.is_up(registry):
                    found.setdefault(("WorkloadEntry", name_of(one)), set()).add(OWNERS[registry])
        return found

    def settle(self, patience: float = 25.0) -> None:
        """Wait until just that is there, each object under an owner that claims it."""
        wanted = self.claims()

        def is_so() -> bool:
            picture = self.witness.look()
            self.judge()
            assert not self.witness.problems, (self.where, self.witness.problems)
            return picture.keys() == wanted.keys() and all(
                _owner(found) in wanted[key] for key, found in picture.items()
            )

        try:
            wait_until(is_so, "the cluster holds what both say", patience)
        except ProcessError as error:
            picture = {key: _owner(found) for key, found in self.witness.look().items()}
            surplus = {key: owner for key, owner in picture.items() if owner not in wanted.get(key, ())}
            missing = {key: owners for key, owners in wanted.items() if key not in picture}
            raise AssertionError(f"{self.where}: {error}: too much {surplus}, missing {missing}") from None
        self.witness.protected = set(wanted)

    def move(self) -> Move:
        """Make the next move; from what nothing was taken, nothing may go."""
        before = self.claims()
        move = next(self._moves)
        self.where = move.what
        after = self.claims()
        self.witness.protected &= {key for key, owners in before.items() if owners <= after.get(key, set())}
        return move

    def hand_over(self, service: str, registry: str) -> None:
        """Let one registry alone list a service, and wait until its owner is the author of the host."""
        self.where = f"{service} is handed over to {registry}"
        self.witness.protected.clear()
        self.mixed.hand_over(service, registry)
        self.settle(60)
        host = f"{service}.mesh.internal"
        wait_until(lambda: self.witness.look()["ServiceEntry", host]["author"] == OWNERS[registry], self.where, 60)
        self.judge()

    def judge(self) -> None:
        """See that a ServiceEntry changes its author only when the old one has nothing on the host."""
        for event in self.witness.events[self._judged :]:
            self._judged += 1
            key = (event.kind, event.name)
            if event.kind == "WorkloadEntry":
                self._take_workload(key, event)
            elif event.type == "DELETED":
                del self._authors[event.name]
            else:
                self._take_service_entry(event)

    def _take_workload(self, key: Key, event: Event) -> None:
        labels = event.object["metadata"]["labels"]
        if event.type == "DELETED":
            del self._workloads[key]
        else:
            self._workloads[key] = (labels["isthmus.mesh/host"], labels["isthmus.mesh/owner"])

    def _take_service_entry(self, event: Event) -> None:
        author = event.object["metadata"]["annotations"]["isthmus.mesh/author"]
        old = self._authors.get(event.name)
        if old not in (None, author):
            owners = {owner for host, owner in self._workloads.values() if host == event.name}
            assert old not in owners, (self.where, event.name, f"{author} took it from {old}, who has endpoints there")
            assert author in owners, (self.where, event.name, f"{author} took it, and has no endpoint there")
        self._authors[event.name] = author


def _owner(found: Mapping[str, Any]) -> str:
    return str(found.get("author") or found["labels"]["isthmus.mesh/owner"])


def test_two_owners_of_the_same_hosts_never_fight_and_lose_nothing(
    two_api_servers: tuple[ApiServer, ApiServer], namespace: str, consul: Consul, eureka: Eureka, tmp_path: Path
) -> None:
    server = two_api_servers[0]
    clusters = {"east": served_by(server, namespace)}
    beside_consul = configuration(consul, clusters, limits=LIMITS)
    beside_eureka = {**beside_consul, "owner": "dc2"}
    beside_eureka["registries"] = {EUREKA: {"type": "eureka", "urls": [eureka.url], "poll": "500ms"}}
    chance = random.Random(SEED)
    with ExitStack() as stack:
        (witness,) = stack.enter_context(witnesses_of({"east": server}, namespace))
        agents = [
            stack.enter_context(RunningAgent(tmp_path / owner, config))
            for owner, config in (("dc1", beside_consul), ("dc2", beside_eureka))
        ]
        judge = Judge(Mixed(consul, eureka, SEED), witness, SEED)
        judge.settle(60)
        for number in range(MOVES):
            judge.move()
            if number % 9 == 5:  # one of both is killed, and misses a move
                agent = chance.choice(agents)
                agent.kill()
                judge.move()
                agent.start()
            judge.settle(40)
        for registry in (CONSUL, EUREKA, CONSUL):
            judge.hand_over(SERVICES[0], registry)
        reports = [agent.status()["clusters"]["east"] for agent in agents]
        assert [(report["repairs"], report["parked"]) for report in reports] == [(0, []), (0, [])]
    written = Counter(
        event.name for event in witness.events if event.kind == "ServiceEntry" and event.type == "MODIFIED"
    )
    assert written[f"{SERVICES[0]}.mesh.internal"] >= 2
    assert all(number <= 6 for number in written.values()), written
