"""What a change costs, counted by the API server itself: one write for each object that must change, and no other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.agents import RunningAgent, configuration, served_by
from tests.integration.oracle import Oracle
from tests.integration.stage import witnesses_of
from tests.integration.witness import ServerWitness, settle
from tests.testbed.apiserver import ApiServer
from tests.testbed.consul import Consul

META = {"version": "v1", "port": "8443", "protocol": "http"}
LIMITS = {"empty_grace": "300ms", "service_entry_grace": "500ms", "busy_spacing": "100ms", "pass_spacing": "200ms"}


class Count:
    """Counts the writes that follow from what a test does to Consul."""

    def __init__(self, consul: Consul, server: ApiServer, witness: ServerWitness, agent: RunningAgent) -> None:
        self.consul = consul
        self.agent = agent
        self._server = server
        self._witness = witness

    def after(self, what: str, change: Callable[[], None]) -> int:
        """Make a change, wait for what must follow and for a pass that finds no more, and count the writes."""
        before = self._server.writes()
        change()
        wanted = {self._witness.name: Oracle().picture(self.consul.catalog(), self._witness.name)}
        settle([self._witness], wanted, 20, what)
        self.agent.look_again(self.consul)
        settle([self._witness], wanted, 0, what)
        return self._server.writes() - before


def fill(consul: Consul) -> None:
    """Register four services with four instances each, every one on a node of its own."""
    for number in range(16):
        register(consul, number)


def register(consul: Consul, number: int, **fields: object) -> None:
    """Register instance 0 to 15, or change it."""
    values: dict[str, object] = {
        "address": f"10.1.{number}.1",
        "port": 8080,
        "node": f"node-{number}",
        "meta": META,
        "weights": (10, 1),
    }
    consul.register(f"svc-{number % 4}", f"i-{number}", **{**values, **fields})  # type: ignore[arg-type]


def test_each_change_costs_one_write_for_each_object_that_changes(
    api_server: ApiServer, namespace: str, consul: Consul, tmp_path: Path
) -> None:
    fill(consul)
    config = configuration(consul, {"east": served_by(api_server, namespace)}, limits=LIMITS)
    with witnesses_of({"east": api_server}, namespace) as (witness,), RunningAgent(tmp_path / "agent", config) as agent:
        count = Count(consul, api_server, witness, agent)
        costs = {
            "the first sync: 16 instances of 4 hosts": (20, lambda: None),
            "nothing": (0, lambda: None),
            "a check fails": (1, lambda: consul.set_status("i-0", "critical", "node-0")),
            "it passes": (1, lambda: consul.set_status("i-0", "passing", "node-0")),
            "it warns, and the weight for that is another": (1, lambda: consul.set_status("i-0", "warning", "node-0")),
            "it passes again": (1, lambda: consul.set_status("i-0", "passing", "node-0")),
            "an instance goes into maintenance": (1, lambda: consul.maintenance("i-1", "node-1")),
            "and comes out": (1, lambda: consul.maintenance("i-1", "node-1", on=False)),
            "a node goes into maintenance": (1, lambda: consul.maintenance(node="node-2")),
            "and comes out again": (1, lambda: consul.maintenance(node="node-2", on=False)),
            "a port moves": (2, lambda: register(consul, 3, port=9090)),
            "an address moves": (2, lambda: register(consul, 4, address="10.2.2.2")),
            "the version changes": (1, lambda: register(consul, 5, meta=META | {"version": "v2"})),
            "the weight changes": (1, lambda: register(consul, 6, weights=(20, 1))),
            "the zone changes": (1, lambda: register(consul, 7, meta=META | {"zone": "a"})),
            "a tag changes that nobody asks for": (0, lambda: register(consul, 8, tags=["blue"])),
            "metadata change that nobody asks for": (0, lambda: register(consul, 8, meta=META | {"x": "y"})),
            "an instance is registered just as it is": (0, lambda: register(consul, 9)),
            "a new instance of a known host": (1, lambda: register(consul, 16)),
            "an instance goes": (1, lambda: consul.deregister("i-16", "node-16")),
            "one is on another node as well": (1, lambda: register(consul, 10, node="node-20")),
            "it goes where it was, address and port staying": (1, lambda: consul.deregister("i-10", "node-10")),
            "a new host with three instances": (4, lambda: register_three(consul)),
            "a new host with none that can be reached": (1, lambda: consul.register("far", "f", address="127.0.0.1")),
            "a host loses its only instance, which could not be reached": (1, lambda: consul.deregister("f")),
        }
        found = {what: (count.after(what, change), cost) for what, (cost, change) in costs.items()}
        assert {what: counts for what, counts in found.items() if counts[0] != counts[1]} == {}
    moved = [event.type for event in witness.events if event.object["spec"].get("address") == "10.1.3.1"]
    assert moved == ["ADDED", "ADDED", "DELETED"], "make before break"


def register_three(consul: Consul) -> None:
    """Register a service with three instances."""
    for number in range(3):
        consul.register("fresh", f"fresh-{number}", address=f"10.3.{number}.1", port=80, node=f"node-{number}")


def test_checks_that_flap_touch_their_own_objects_only_and_the_last_word_counts(
    api_server: ApiServer, namespace: str, consul: Consul, tmp_path: Path
) -> None:
    fill(consul)
    config = configuration(consul, {"east": served_by(api_server, namespace)}, limits=LIMITS)
    with witnesses_of({"east": api_server}, namespace) as (witness,), RunningAgent(tmp_path / "agent", config) as agent:
        count = Count(consul, api_server, witness, agent)
        assert count.after("the first sync", lambda: None) == 20
        events = len(witness.events)

        def flap() -> None:
            for turn in range(61):
                for number in (0, 1, 2, 4):
                    consul.set_status(f"i-{number}", "passing" if (turn + number) % 2 else "critical", f"node-{number}")

        writes = count.after("flapping", flap)
        assert writes == len(witness.events) - events, "no write was refused"
        flapping = {event.object["spec"]["address"] for event in witness.events[events:] if event.kind[0] == "W"}
        assert flapping <= {f"10.1.{number}.1" for number in (0, 1, 2, 4)}
        assert {event.kind for event in witness.events[events:]} == {"WorkloadEntry"}
        cluster = agent.status()["clusters"]["east"]
        assert (cluster["repairs"], cluster["parked"], cluster["error"]) == (0, [], "")


def test_an_endpoint_that_changes_hands_is_written_once_each_time_and_keeps_no_label_of_the_other(
    api_server: ApiServer, namespace: str, consul: Consul, tmp_path: Path
) -> None:
    fill(consul)
    consul.register("svc-0", "heir", address="10.1.0.1", port=8080, node="other", meta={"port": "8443"})
    config = configuration(consul, {"east": served_by(api_server, namespace)}, limits=LIMITS)
    with witnesses_of({"east": api_server}, namespace) as (witness,), RunningAgent(tmp_path / "agent", config) as agent:
        count = Count(consul, api_server, witness, agent)
        assert count.after("the first sync", lambda: None) == 20
        events = len(witness.events)
        for turn in range(40):
            consul.node_status("other", "passing" if turn % 2 else "critical", "reachable")
            settle([witness], {"east": Oracle().picture(consul.catalog(), "east")}, 20, f"turn {turn}")
        agent.look_again(consul)
        assert agent.status()["clusters"]["east"]["repairs"] == 0
        assert [event.type for event in witness.events[events:]] == 40 * ["MODIFIED"]


@pytest.mark.parametrize("end", ["stopped", "killed", "killed, its state file lost"])
def test_a_restart_writes_nothing_when_nothing_has_changed(
    end: str, api_server: ApiServer, namespace: str, consul: Consul, tmp_path: Path
) -> None:
    fill(consul)
    config = configuration(
        consul,
        {"east": served_by(api_server, namespace), "review": {"directory": "out", "namespace": namespace}},
        limits=LIMITS,
    )
    folder = tmp_path / "agent"
    with witnesses_of({"east": api_server}, namespace) as (witness,), RunningAgent(folder, config) as agent:
        count = Count(consul, api_server, witness, agent)
        assert count.after("the first sync", lambda: None) == 20
        files = {path: path.stat().st_mtime_ns for path in folder.glob(f"out/{namespace}/*")}
        assert len(files) == 4

        def restart() -> None:
            agent.stop() if end == "stopped" else agent.kill()
            if "lost" in end:
                for path in folder.glob("state.db*"):
                    path.unlink()
            agent.start()
            agent.wait_for_pass(1)

        assert count.after("a restart", restart) == 0
        assert {path: path.stat().st_mtime_ns for path in folder.glob(f"out/{namespace}/*")} == files
        assert count.after("a check fails", lambda: consul.set_status("i-0", "critical", "node-0")) == 1
        without_version = {key: value for key, value in META.items() if key != "version"}
        assert count.after("a label goes", lambda: register(consul, 1, meta=without_version)) == 1
