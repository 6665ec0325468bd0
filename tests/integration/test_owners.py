"""Two agents of two owners, each beside its own registry, that publish the same host in one cluster."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.integration.agents import RunningAgent, configuration, served_by
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.processes import wait_until
from tests.testbed.recorder import Event, Recorder

GRACE = 3.0
LIMITS = {
    "empty_grace": "200ms",
    "busy_spacing": "100ms",
    "pass_spacing": "200ms",
    "service_entry_grace": f"{GRACE}s",
}
HOST = "orders.mesh.internal"
ALIAS = "orders.old.example"
AUTHOR = "isthmus.mesh/author"
OWNER = "isthmus.mesh/owner"
PATIENCE = 40.0

Rules = Sequence[Mapping[str, Any]]


class Owner:
    """One owner: a registry and an agent. Each has further services, so that no registry is ever empty."""

    def __init__(self, name: str, consul: Consul, server: ApiServer, namespace: str, folder: Path) -> None:
        self.name = name
        self.consul = consul
        self._cluster = served_by(server, namespace)
        self._folder = folder
        for number in range(6):
            consul.register(f"other-{name}", f"other-{number}", address=f"10.{name[-1]}.9.{number + 1}", port=80)

    def agent(self, rules: Rules = ()) -> RunningAgent:
        """Return an agent that is not started."""
        config = configuration(self.consul, {"east": self._cluster}, rules=rules, limits=LIMITS)
        return RunningAgent(self._folder, {**config, "owner": self.name})

    def register(self, *addresses: str, number: int) -> None:
        """Register endpoints of the host that both have, and say in metadata which port they want."""
        for address in addresses:
            meta = {"port": str(number)}
            self.consul.register("orders", f"orders-{address}", address=address, port=8080, node=address, meta=meta)

    def deregister(self, *addresses: str) -> None:
        """Let endpoints vanish."""
        for address in addresses:
            self.consul.deregister(f"orders-{address}", address)


class Ground:
    """The cluster that both write to, and every event in it."""

    def __init__(self, server: ApiServer, namespace: str, recorder: Recorder, one: Owner, two: Owner) -> None:
        self.server = server
        self.namespace = namespace
        self.one = one
        self.two = two
        self._recorder = recorder

    def entry_events(self, host: str = HOST) -> list[Event]:
        """Return all that has happened to the ServiceEntry of a host."""
        return [event for event in self._recorder.seen() if (event.kind, event.name) == ("ServiceEntry", host)]

    def author(self, host: str = HOST) -> str:
        """Return whose a ServiceEntry is, "" when there is none."""
        found = [o for o in self.server.objects("ServiceEntry", self.namespace) if o["metadata"]["name"] == host]
        return str(found[0]["metadata"]["annotations"][AUTHOR]) if found else ""

    def port(self) -> int:
        """Return the number at which the host is called."""
        return int(self.server.get("ServiceEntry", self.namespace, HOST)["spec"]["ports"][0]["number"])

    def endpoints(self) -> dict[str, str]:
        """Return the owner of each endpoint of the host, by address."""
        objects = self.server.objects("WorkloadEntry", self.namespace)
        ours = (one for one in objects if one["metadata"]["labels"]["isthmus.mesh/host"] == HOST)
        return {one["spec"]["address"]: one["metadata"]["labels"][OWNER] for one in ours}

    def wait(self, wanted: Mapping[str, str]) -> None:
        """Wait until the host has just these endpoints."""
        wait_until(lambda: self.endpoints() == wanted, f"the endpoints are {wanted}", PATIENCE)

    def wait_for_author(self, owner: str) -> None:
        """Wait until the ServiceEntry has an author."""
        wait_until(lambda: self.author() == owner, f"{owner or 'nobody'} is the author", PATIENCE)


@pytest.fixture
def ground(api_server: ApiServer, namespace: str, make_consul: MakeConsul, tmp_path: Path) -> Iterator[Ground]:
    """A cluster, two owners of which none has an agent yet, and a recorder of everything."""
    owners = [Owner(name, make_consul(), api_server, namespace, tmp_path / name) for name in ("dc1", "dc2")]
    with api_server.record(namespace) as recorder:
        yield Ground(api_server, namespace, recorder, *owners)


def started(stack: ExitStack, agent: RunningAgent) -> RunningAgent:
    """Start an agent, and wait until all that it knows is in the cluster."""
    stack.enter_context(agent)
    wait_until(agent.is_settled, "the agent has done its work", PATIENCE)
    return agent


def troubles(agent: RunningAgent) -> list[str]:
    """Return what an agent says is wrong with its hosts in the cluster."""
    return [str(trouble) for trouble in agent.status()["clusters"]["east"]["troubles"]]


def test_one_service_entry_and_each_endpoint_once_however_many_owners_have_them(ground: Ground) -> None:
    ground.one.register("10.1.1.1", "10.5.5.5", number=8443)
    ground.two.register("10.2.1.1", "10.5.5.5", number=9443)
    with ExitStack() as stack:
        one = started(stack, ground.one.agent())
        two = started(stack, ground.two.agent())
        ground.wait({"10.1.1.1": "dc1", "10.2.1.1": "dc2", "10.5.5.5": "dc1"})
        assert (ground.author(), ground.port()) == ("dc1", 8443)
        ground.one.deregister("10.5.5.5")
        ground.wait({"10.1.1.1": "dc1", "10.2.1.1": "dc2", "10.5.5.5": "dc2"})
        one.look_again(ground.one.consul)
        two.look_again(ground.two.consul)
        assert troubles(one) == troubles(two) == [], "where no rule speaks, there is nothing to tell"
        assert [event.type for event in ground.entry_events()] == ["ADDED"]


def test_a_rule_that_says_otherwise_is_reported_and_endpoints_are_written_all_the_same(ground: Ground) -> None:
    ground.one.register("10.1.1.1", number=8443)
    ground.two.register("10.2.1.1", number=9443)
    with ExitStack() as stack:
        started(stack, ground.one.agent())
        two = started(stack, ground.two.agent([{"match": {"service": "orders"}, "port": 7000, "protocol": "grpc"}]))
        ground.wait({"10.1.1.1": "dc1", "10.2.1.1": "dc2"})
        assert troubles(two) == [
            f"{HOST}: the ServiceEntry is dc1's: its number is 8443, not 7000 (rules[0].port)",
            f"{HOST}: the ServiceEntry is dc1's: its protocol is none, not GRPC (rules[0].protocol)",
        ]
        ground.one.register("10.1.1.1", number=7000)  # dc1 comes round, as far as it can
        wait_until(lambda: len(troubles(two)) == 1 and "protocol" in troubles(two)[0], "the half is settled", PATIENCE)
        assert [(event.type, event.object["metadata"]["annotations"][AUTHOR]) for event in ground.entry_events()] == [
            ("ADDED", "dc1"),
            ("MODIFIED", "dc1"),
        ]


@pytest.mark.parametrize(("rules", "number"), [((), 8443), ([{"match": {"service": "orders"}, "port": 7000}], 7000)])
def test_whoever_has_left_loses_the_host_and_gets_it_back_by_nothing_but_the_others_leaving(
    rules: Rules, number: int, ground: Ground
) -> None:
    ground.one.register("10.1.1.1", number=8443)
    ground.two.register("10.2.1.1", number=9443)
    with ExitStack() as stack:
        one = started(stack, ground.one.agent())
        two = started(stack, ground.two.agent(rules))
        ground.wait({"10.1.1.1": "dc1", "10.2.1.1": "dc2"})
        uid = ground.server.get("ServiceEntry", ground.namespace, HOST)["metadata"]["uid"]
        ground.one.deregister("10.1.1.1")
        ground.wait_for_author("dc2")
        assert ground.port() == number, "the heir changes what its rules state, and nothing else"
        ground.one.register("10.1.1.1", number=8443)
        ground.wait({"10.1.1.1": "dc1", "10.2.1.1": "dc2"})
        for agent, consul in ((one, ground.one.consul), (two, ground.two.consul)):
            agent.look_again(consul)
        assert [event.type for event in ground.entry_events()] == ["ADDED", "MODIFIED"]
        ground.two.deregister("10.2.1.1")
        ground.wait_for_author("dc1")
        assert ground.port() == number, "dc1 has no rule"
        assert [event.type for event in ground.entry_events()] == ["ADDED", "MODIFIED", "MODIFIED"]
        assert ground.server.get("ServiceEntry", ground.namespace, HOST)["metadata"]["uid"] == uid


def test_only_its_author_deletes_a_service_entry_and_not_while_another_has_endpoints(ground: Ground) -> None:
    ground.one.register("10.1.1.1", number=8443)
    ground.two.register("10.2.1.1", number=8443)
    with ExitStack() as stack:
        one = started(stack, ground.one.agent())
        two = started(stack, ground.two.agent())
        ground.wait({"10.1.1.1": "dc1", "10.2.1.1": "dc2"})
        two.kill()
        ground.one.deregister("10.1.1.1")
        ground.wait({"10.2.1.1": "dc2"})
        wait_for_time(ground, one, 2 * GRACE)
        assert ground.author() == "dc1", "another's endpoint is there"
        ground.one.register("10.1.1.1", number=8443)
        ground.wait({"10.1.1.1": "dc1", "10.2.1.1": "dc2"})
        two.start()
        wait_until(two.is_settled, "the agent is back", PATIENCE)
        ground.two.deregister("10.2.1.1")
        ground.wait({"10.1.1.1": "dc1"})
        one.kill()
        ground.one.deregister("10.1.1.1")
        ground.server.remove("WorkloadEntry", ground.namespace, workload(ground))
        wait_for_time(ground, two, 2 * GRACE)
        assert ground.author() == "dc1", "an adopter deletes nothing"
        one.start()
        ground.wait_for_author("")
        assert [event.type for event in ground.entry_events()] == ["ADDED", "DELETED"]


def workload(ground: Ground) -> str:
    """Return the name of the host's one WorkloadEntry."""
    objects = ground.server.objects("WorkloadEntry", ground.namespace)
    (found,) = (one for one in objects if one["metadata"]["labels"]["isthmus.mesh/host"] == HOST)
    return str(found["metadata"]["name"])


def wait_for_time(ground: Ground, agent: RunningAgent, seconds: float) -> None:
    """Wait until an agent has had so much time: an unneeded ServiceEntry made for this goes after GRACE."""
    owner = ground.one if agent.config_file.parent.name == "dc1" else ground.two
    for turn in range(round(seconds / GRACE)):
        service = f"clock-{turn}"
        owner.consul.register(service, service, address=f"10.7.7.{turn + 1}", port=80, node="clock")
        host = f"{service}.mesh.internal"
        wait_until(lambda host=host: ground.author(host) == owner.name, "the clock is wound up", PATIENCE)  # type: ignore[misc]
        owner.consul.deregister(service, "clock")
        wait_until(lambda host=host: ground.author(host) == "", "the clock has run down", PATIENCE)  # type: ignore[misc]


@pytest.mark.parametrize("seed", [1, 2])
def test_no_flapping_makes_two_owners_rewrite_a_service_entry_in_turn(seed: int, ground: Ground) -> None:
    chance = random.Random(seed)
    ground.one.register("10.1.1.1", number=8443)
    ground.two.register("10.2.1.1", number=9443)
    rules = [{"match": {"service": "orders"}, "port": 7000}]
    with ExitStack() as stack:
        agents = [started(stack, ground.one.agent()), started(stack, ground.two.agent(rules))]
        owners = [ground.one, ground.two]
        for _ in range(30):
            who = chance.randrange(2)
            address = chance.choice([f"10.{who + 1}.1.1", "10.5.5.5"])
            if chance.random() < 0.15:
                agents[who].kill()
                agents[who].start()
            elif chance.random() < 0.5:
                owners[who].deregister(address)
            else:
                owners[who].register(address, number=[8443, 9443][who])
        for who, owner in enumerate(owners):
            owner.register(f"10.{who + 1}.1.1", number=[8443, 9443][who])
            owner.deregister("10.5.5.5")
        ground.wait({"10.1.1.1": "dc1", "10.2.1.1": "dc2"})
        before = len(ground.entry_events())
        for agent, owner in zip(agents, owners, strict=True):
            wait_until(agent.is_settled, "the agent is back", PATIENCE)
            wait_for_time(ground, agent, 2 * GRACE)
            agent.look_again(owner.consul)
        events = ground.entry_events()
        assert len(events) == before, "both have endpoints, and rest"
        authors = [event.object["metadata"]["annotations"][AUTHOR] for event in events]
        for earlier, later in pairwise(events):
            moved = earlier.object["metadata"]["annotations"][AUTHOR] != later.object["metadata"]["annotations"][AUTHOR]
            assert earlier.type == "DELETED" or moved, "an author rewrote what it had written"
        moves = [
            late.time
            for early, late, was, now in zip(events, events[1:], authors, authors[1:], strict=False)
            if was != now
        ]
        assert all(late - early >= GRACE for early, late in pairwise(moves)), "by turns"
