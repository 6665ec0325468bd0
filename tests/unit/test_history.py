import json
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.chronicle import chronicle
from agent.cli import main
from agent.daemon import Agent
from agent.demo.registry import EmbeddedRegistry
from agent.naming import host_label
from agent.rules import Rule
from agent.web.control import ControlServer, create_app
from state.checkpoint import Checkpoint, Event
from state.model import SERVICE_ENTRY, Absence, ResourceKey
from tests.dc import REGISTRY, configured
from tests.testbed.processes import wait_until
from tests.unit.explained import CONSUL, EUREKA, Estate, estate, in_consul, in_eureka

ORDERS = "orders.mesh.internal"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def events(site: Estate, host: str = "") -> list[Event]:
    """Return what is remembered, once everything is stored."""
    for lane in site.agent.lanes.values():
        lane._ledger.store()
    return site.checkpoint.history(host)


def test_every_write_is_remembered_with_its_host_and_by_whose_word(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start("east")
        site.show(EUREKA)
        site.show(CONSUL, in_consul(1), in_consul(2, "web"))
        site.show(EUREKA, in_eureka(3))
        found = events(site, ORDERS)
        everything = events(site)
    assert [(e.action, e.key.kind, e.host, e.registry, e.why) for e in found] == [
        ("+", "WorkloadEntry", ORDERS, EUREKA, "new endpoint"),
        ("+", "ServiceEntry", ORDERS, CONSUL, "new host"),
        ("+", "WorkloadEntry", ORDERS, CONSUL, "new endpoint"),
    ]
    assert all(event.lag is not None and event.lag >= 0 for event in found)
    assert {event.host for event in everything} == {ORDERS, "web.mesh.internal"}


@pytest.mark.parametrize(
    ("absence", "why"),
    [
        (Absence.CRITICAL, "a check of it is critical"),
        (Absence.MAINTENANCE, "it is in maintenance"),
        (Absence.NODE_CRITICAL, "its node node-1 is critical"),
    ],
)
def test_a_deletion_tells_what_became_of_the_registration(tmp_path: Path, absence: Absence, why: str) -> None:
    with estate(tmp_path) as site:
        site.start("east")
        site.show(EUREKA)
        site.show(CONSUL, in_consul(1), in_consul(2))
        site.show(CONSUL, in_consul(1, absent_because=absence), in_consul(2))
        (last, *_) = events(site)
    assert (last.action, last.registry) == ("-", CONSUL)
    assert last.why == f"no longer desired: consul-dc1/orders/node-1/orders-1: {why}"


def test_a_deletion_of_what_is_deregistered_says_so(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start("east")
        site.show(EUREKA)
        site.show(CONSUL, *(replace(in_consul(n), address="10.0.0.1") for n in (1, 2, 3)), in_consul(4))
        site.show(CONSUL, in_consul(4))
        (last, *_) = events(site)
    assert last.action == "-"
    assert last.why == (
        "no longer desired: consul-dc1/orders/node-1/orders-1 is not registered any more; "
        "consul-dc1/orders/node-2/orders-2 is not registered any more, and 1 more"
    )


def test_what_a_cluster_did_not_take_is_no_history(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.agent.pause("east", paused=True)
        site.start("east")
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        assert events(site) == []


def test_an_alias_has_a_history_of_its_own(tmp_path: Path) -> None:
    with estate(tmp_path, rules=(Rule(number=0, aliases=("{service}.service.consul",)),)) as site:
        site.start("east")
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        alias, host = events(site, "orders.service.consul"), events(site, ORDERS)
    assert [event.key for event in alias] == [ResourceKey(SERVICE_ENTRY, "legacy", "orders.service.consul")]
    assert len(host) == 2


def test_a_host_that_is_longer_than_a_label_is_found_by_its_name(tmp_path: Path) -> None:
    host = f"{'x' * 60}.{'y' * 60}.internal"
    key = ResourceKey(SERVICE_ENTRY, "legacy", host)
    with closing(Checkpoint.open(tmp_path / "state.db")) as checkpoint:
        checkpoint.apply("east", (), (), [Event(0.0, "east", "+", key, "new host", None, host_label(host), CONSUL)])
        found = chronicle(checkpoint, host.upper(), 10)
    assert found == {
        "host": host,
        "events": [
            {
                "at": "1970-01-01T00:00:00.000+00:00",
                "cluster": "east",
                "action": "created",
                "kind": SERVICE_ENTRY,
                "namespace": "legacy",
                "name": host,
                "host": host_label(host),
                "why": "new host",
                "registry": CONSUL,
                "lag_seconds": None,
            }
        ],
    }


def test_the_newest_are_told_first_and_no_more_than_asked_for(agent: Agent, registry: EmbeddedRegistry) -> None:
    registry.register("late", "late-1", "node-1", 80, address="10.9.0.1")
    wait_until(lambda: len(agent.checkpoint.history("late.mesh.internal")) == 4, "it is written and stored")
    client: Any = create_app(lambda: agent).test_client()
    answer = client.get("/v1/history", query_string={"most": 3}).json
    assert (answer["owner"], answer["running"], answer["host"]) == ("dc1", True, "")
    assert [event["host"] for event in answer["events"]] == ["late.mesh.internal"] * 3
    assert {event["registry"] for event in answer["events"]} == {REGISTRY}
    assert len(client.get("/v1/history", query_string={"host": "late.mesh.internal"}).json["events"]) == 4


@pytest.mark.parametrize("most", ["0", "-1", "10001", "99999999999999999999", "x", "²", ""])
def test_a_number_that_is_none_is_refused(agent: Agent, most: str) -> None:
    answer: Any = create_app(lambda: agent).test_client().get("/v1/history", query_string={"most": most})
    assert answer.status_code == 400
    assert answer.json["error"] == f"most must be a number from 1 to 10000, not {most!r}"


def test_history_is_shown_with_an_agent_and_without(agent: Agent, tmp_path: Path) -> None:
    wait_until(lambda: len(agent.checkpoint.history("web.mesh.internal")) == 14, "everything is stored")
    server = ControlServer(lambda: agent, agent.config.control)
    server.start()
    with_agent = shown(tmp_path, "web.mesh.internal")
    limited = json.loads(shown(tmp_path, "--most", "2", "-o", "json"))
    server.stop()
    alone = shown(tmp_path, "web.mesh.internal")
    nothing = shown(tmp_path, "nobody.mesh.internal")
    title, head, first, *_ = with_agent.splitlines()
    assert title == "The last 14 writes of web.mesh.internal, the newest first:"
    assert head.split("  ")[0] == "WHEN"
    assert first.split("  ")[1] in ("east", "west")
    assert f"  {REGISTRY}  " in first
    assert len(limited["events"]) == 2
    assert "no agent answers at" in alone.splitlines()[0]
    assert alone.splitlines()[1:] == with_agent.splitlines()
    assert "No write of nobody.mesh.internal is remembered." in nothing


def test_without_an_agent_and_a_state_file_there_is_nothing_to_tell(tmp_path: Path) -> None:
    configured(tmp_path, "http://127.0.0.1:1")
    for verb in (["history"], ["explain", "orders"]):
        answer = CliRunner().invoke(main, ["--config", str(tmp_path / "isthmus.yaml"), *verb])
        assert answer.exit_code == 11
        assert "there is no state file" in answer.stderr


def shown(folder: Path, *arguments: str) -> str:
    answer = CliRunner().invoke(main, ["--config", str(folder / "isthmus.yaml"), "history", *arguments])
    assert answer.exit_code == 0
    return answer.stdout
