"""How one loop hears an embedded registry, which can be made to hang and counts what it is asked."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.demo.registry import EmbeddedRegistry, Trouble
from hooks.consul.looks import HASTE
from hooks.found import Source
from tests.hearing import LONG, Hearing
from tests.testbed.processes import wait_until
from tests.unit.loopback import Answer, Request, Server, as_json

NAMES, NODES, CRITICAL = "/v1/catalog/services", "/v1/catalog/nodes", "/v1/health/state/critical"
RESTING = {"pass_spacing": LONG}  # no pass and no re-read after the first pass


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    with EmbeddedRegistry() as registry:
        registry.set_node("node-1", "10.0.0.1")
        for service in ("orders", "web", "pay"):
            for number in (1, 2):
                registry.register(service, f"{service}-{number}", "node-1", 8000 + number, address=f"10.1.0.{number}")
        yield registry


def reads(registry: EmbeddedRegistry, service: str) -> int:
    return registry.asked[f"/v1/health/service/{service}"]


def settle(registry: EmbeddedRegistry) -> None:
    """Wait until nobody asks any more but for what blocks."""
    before: dict[str, int] = {}
    while before != (before := dict(registry.asked)):
        time.sleep(0.3)


# Hints.


def test_a_hint_of_a_service_has_it_read_once(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with Hearing(tmp_path, registry.url, RESTING) as hearing:
        settle(registry)
        before = reads(registry, "orders"), reads(registry, "web")
        registry.register("orders", "orders-1", "node-1", 9001, address="10.1.0.1")
        hearing.loop.hint("service", "orders")
        hearing.wait_for_ports("orders", 9001, 8002)
        hearing.wait_for_changes(hint=1)
        settle(registry)
        assert (reads(registry, "orders"), reads(registry, "web")) == (before[0] + 1, before[1])


def test_two_hundred_hints_cost_a_few_reads(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with Hearing(tmp_path, registry.url, {**RESTING, "busy_spacing": 60.0}) as hearing:
        settle(registry)
        before = dict(registry.asked)
        registry.trouble("/v1/health/service/orders", Trouble.SILENT)
        hearing.loop.hint("service", "orders")
        wait_until(lambda: reads(registry, "orders") > before["/v1/health/service/orders"], "the reader is busy")
        for number in range(200):
            hearing.loop.hint("service", "web")
            hearing.loop.hint("services")
            hearing.loop.hint("nodes")
            hearing.loop.hint("service", f"no-such-{number}")
        registry.mend()
        wait_until(lambda: registry.asked[NODES] > before[NODES], "the lists were read")
        settle(registry)
        assert reads(registry, "web") == before["/v1/health/service/web"] + 1
        assert (registry.asked[NAMES], registry.asked[NODES]) == (before[NAMES] + 1, before[NODES] + 1)
        assert not [path for path in registry.asked if "no-such" in path]


def test_a_hint_does_not_wait_for_the_registry(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with Hearing(tmp_path, registry.url, RESTING) as hearing:
        settle(registry)
        registry.trouble("*", Trouble.SILENT)
        for kind in ("service", "services", "nodes", "checks"):
            for _ in range(200):
                hearing.loop.hint(kind, "orders" if kind == "service" else "")
        assert hearing.changes() == {}
        registry.mend()


@pytest.mark.parametrize(
    ("kind", "service"),
    [("service", "team-b"), ("service", "consul"), ("service", ""), ("service", "a//b"), ("keyprefix", "orders")],
)
def test_a_hint_that_is_none_of_ours_is_ignored(
    registry: EmbeddedRegistry, tmp_path: Path, kind: str, service: str
) -> None:
    registry.register("team-b", "b", "node-1", 80)
    scope = {"services": ("orders", "team-a*"), "probe": "orders"}
    with Hearing(tmp_path, registry.url, RESTING, **scope) as hearing:
        settle(registry)
        before = dict(registry.asked)
        hearing.loop.hint(kind, service)
        settle(registry)
        assert dict(registry.asked) == before
        assert hearing.wakeups(Source.HINT) == 0


def test_a_check_of_a_service_out_of_scope_is_none_of_ours(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    registry.register("team-b", "b", "node-1", 80)
    with Hearing(tmp_path, registry.url, RESTING, services=("orders",), probe="orders") as hearing:
        registry.set_status("node-1", "b", "critical")
        registry.set_status("node-1", "orders-1", "critical")
        hearing.wait_for_changes(status=1)
        settle(registry)
        assert reads(registry, "team-b") == 0
        assert hearing.instances("team-b") == []


# What a flip costs.


def test_a_flip_costs_one_read_and_the_probe_where_it_takes_something_out(
    registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    blocking = {CRITICAL: 1, "/v1/health/state/warning": 1}  # each is armed again
    with Hearing(tmp_path, registry.url, RESTING) as hearing:
        for number, (status, probe) in enumerate((("critical", {"/v1/health/service/consul": 1}), ("passing", {})), 1):
            settle(registry)
            before = registry.asked.copy()
            registry.set_status("node-1", "orders-1", status)
            hearing.wait_for_changes(status=number)
            settle(registry)
            assert registry.asked - before == {"/v1/health/service/orders": 1, **probe, **blocking}


def test_a_removal_is_believed_after_the_probe_and_the_epoch(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with Hearing(tmp_path, registry.url, RESTING) as hearing:
        settle(registry)
        registry.trouble("/v1/health/service/consul", Trouble.FILTERED)
        registry.deregister("node-1", "orders-1")
        hearing.loop.hint("service", "orders")
        wait_until(lambda: "orders" in hearing.loop.report().unreadable, "it is not believed")
        assert hearing.ports("orders") == [8001, 8002]
        registry.mend()
        hearing.wait_for_ports("orders", 8002)


# A service that hangs.


def test_a_service_that_hangs_delays_no_other(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with Hearing(tmp_path, registry.url, {**RESTING, "read_timeout": LONG}) as hearing:
        settle(registry)
        registry.trouble("/v1/health/service/web", Trouble.SILENT)
        registry.set_status("node-1", "web-1", "critical")
        wait_until(lambda: "web" in hearing.loop.report().unreadable, "it is left to the prober")
        wait_until(lambda: reads(registry, "web") == 3, "the prober waits for it")
        for status in ("critical", "passing") * 10:
            registry.set_status("node-1", "orders-1", status)
            hearing.loop.hint("service", "web")
            absent = str(status).replace("passing", "")
            wait_until(lambda absent=absent: hearing.instances("orders")[0].absent_because == absent, "a flip is heard")  # type: ignore[misc]
        assert reads(registry, "web") == 3, "one call waits, and no other was made"
        registry.mend()
        wait_until(
            lambda: hearing.instances("web")[0].absent_because == "critical", "it is heard as soon as it answers"
        )
        assert hearing.loop.report().unreadable == {}


def test_a_pass_leaves_a_service_that_hangs_to_the_prober(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with Hearing(tmp_path, registry.url, {"read_timeout": LONG}) as hearing:
        settle(registry)
        registry.trouble("/v1/health/service/web", Trouble.SILENT)
        hearing.loop.hint("service", "web")
        wait_until(lambda: reads(registry, "web") == 3, "the prober waits for it")
        for _ in range(3):
            hearing.loop.pass_now()
        assert reads(registry, "web") == 3
        assert [reading.complete for reading in hearing.listener.readings[-3:]].count(True) >= 1
        assert list(hearing.loop.report().unreadable) == ["web"]
        assert hearing.loop.report().error == ""
        registry.mend()


def test_a_service_that_answers_slowly_is_read_all_the_same(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    slow, ended = threading.Event(), threading.Event()

    def serve(request: Request) -> Answer:
        if request.path == "/v1/health/service/web" and slow.is_set():
            ended.wait(HASTE + 0.3)
        wait = int(request.query.get("wait", "0ms").removesuffix("ms")) / 1000
        index, body = registry.read(request.path, int(request.query.get("index", "0")), wait, ended.is_set)
        return as_json(body, headers={"X-Consul-Index": str(index)})

    with Server(serve) as server, Hearing(tmp_path, server.url, RESTING) as hearing:
        slow.set()
        registry.register("web", "web-1", "node-1", 9001, address="10.1.0.1")
        hearing.loop.hint("service", "web")
        hearing.wait_for_ports("web", 9001, 8002)
        asked = [request for request in server.requests if request.path == "/v1/health/service/web"]
        assert len(asked) == 4, "by the first pass, in haste, by the prober, and in patience"
        ended.set()


# Being alive.


def test_a_loop_that_moves_is_not_stuck(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with Hearing(tmp_path, registry.url) as hearing:
        assert hearing.loop.stuck(time.monotonic()) == ""


def test_what_is_at_one_step_for_too_long_is_named(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    limits = {"deadline": 0.1, "connect_timeout": 0.1, "read_timeout": 0.1, "wait": 0.1}
    with Hearing(tmp_path, registry.url, limits) as hearing:
        with hearing.view.lock:
            hearing.loop.hint("service", "orders")
            wait_until(lambda: "reader" in hearing.loop.stuck(time.monotonic()), "the reader is stuck")
        wait_until(lambda: hearing.loop.stuck(time.monotonic()) == "", "it moves again")
