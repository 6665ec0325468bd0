"""One loop when something changes all the time, an answer is behind, or whoever believes fails."""

import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from agent.demo.registry import EmbeddedRegistry
from hooks.consul.dirty import Dirty, Mark
from hooks.consul.epoch import Epochs
from hooks.found import CONSUL_SOURCES, Source, Tally
from state.model import Reading, Reason
from tests.hearing import LONG, REGISTRY, Hearing, Recorder
from tests.testbed.consul import Consul
from tests.testbed.processes import wait_until
from tests.unit.loopback import Answer, Request, Server


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    with EmbeddedRegistry() as registry:
        registry.set_node("node-1", "10.0.0.1")
        for service in ("orders", "pay", "web"):
            registry.register(service, f"{service}-1", "node-1", 8000, address="10.1.0.1")
        yield registry


@pytest.mark.parametrize("busy", [("orders",), ("orders", "pay", "web")])
def test_what_changes_all_the_time_keeps_no_pass_away(
    registry: EmbeddedRegistry, tmp_path: Path, busy: tuple[str, ...]
) -> None:
    with Hearing(tmp_path, registry.url, {"pass_spacing": LONG}) as hearing:
        hear = hearing.listener.hear

        def hear_and_change(reading: Reading) -> Collection[str]:
            for service in busy:
                hearing.loop.hint("service", service)
            return hear(reading)

        hearing.listener.hear = hear_and_change  # type: ignore[method-assign]
        hearing.loop.hint("service", busy[0])
        wait_until(lambda: hearing.wakeups(Source.HINT) > 100, "the reader has always something to read")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(hearing.loop.pass_now)
            try:
                done.result(10)
            finally:
                hearing.listener.hear = hear  # type: ignore[method-assign]


def test_a_listener_that_fails_once_does_not_end_the_reader(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with Hearing(tmp_path, registry.url) as hearing:
        failed: list[float] = []

        def fail_once(last: float) -> float | None:
            if not failed:
                failed.append(last)
                raise RuntimeError("the view has failed")
            return Recorder.next_pass(hearing.listener, last)

        hearing.listener.next_pass = fail_once  # type: ignore[method-assign]
        hearing.loop.hint("service", "orders")
        wait_until(lambda: bool(failed), "it has failed")
        registry.register("orders", "orders-1", "node-1", 9001, address="10.1.0.1")
        hearing.wait_for_ports("orders", 9001)


# A read that is behind what woke it.


def test_a_change_that_only_a_parked_query_was_told_of_is_read_again(consul: Consul, tmp_path: Path) -> None:
    """As when another server answers the reads than the one that wakes: Consul itself does so while leaders change."""
    put(consul, 8000)
    behind: dict[str, Answer] = {}

    def serve(request: Request) -> Answer:
        reads = request.path == "/v1/health/service/orders" and "near" not in request.query
        if reads and behind:
            return behind["orders"]
        reply = httpx.get(consul.url + request.path, params=request.query, timeout=60, trust_env=False)
        headers = {name: value for name, value in reply.headers.items() if name.startswith("x-consul")}
        answer = Answer(reply.status_code, reply.content, headers)
        if reads:
            before["orders"] = answer
        return answer

    before: dict[str, Answer] = {}
    with Server(serve) as server, Hearing(tmp_path, server.url, {"wait": 5.0}, parked=5) as hearing:
        wait_until(lambda: hearing.parked() == 1, "it is parked")
        behind.update(before)
        put(consul, 9001)
        wait_until(lambda: Source.PARKED in woken(hearing), "its query has woken the reader")
        rereads = hearing.loop.report().rereads
        wait_until(lambda: hearing.loop.report().rereads > rereads + 1, "it is read again, in vain")
        assert hearing.ports("orders") == [8000]
        behind.clear()
        hearing.wait_for_ports("orders", 9001)
        assert hearing.loop.report().repairs == 0
        wait_until(lambda: rests(hearing), "when all is known nothing is read again")


# A snapshot that is restored.


def test_a_snapshot_that_is_restored_begins_another_epoch_at_once(consul: Consul, tmp_path: Path) -> None:
    """Consul answers what waits with what it was asked with, and then waits for the indexes of the other life."""
    put(consul, 8000)
    with httpx.Client(base_url=consul.url, trust_env=False, timeout=30) as client:
        snapshot = client.get("/v1/snapshot").content
        put(consul, 9001)
        with Hearing(tmp_path, consul.url, {"wait": LONG}, parked=5) as hearing:
            wait_until(lambda: hearing.parked() == 1, "it is parked")
            assert client.put("/v1/snapshot", content=snapshot).is_success
            hearing.wait_for_ports("orders", 8000)
            wait_until(lambda: hearing.loop.epochs.generation == 1, "another epoch has begun")
            put(consul, 9002)
            hearing.wait_for_ports("orders", 9002)
            assert hearing.loop.report().repairs == 0


def test_what_a_restored_snapshot_lacks_is_held(consul: Consul, tmp_path: Path) -> None:
    with httpx.Client(base_url=consul.url, trust_env=False, timeout=30) as client:
        for number in range(20):
            consul.register("orders", f"orders-{number}", port=8000 + number, node="node-1", address="10.0.0.1")
        snapshot = client.get("/v1/snapshot").content
        consul.register("orders", "orders-new", port=9001, node="node-1", address="10.0.0.1")
        with Hearing(tmp_path, consul.url, {"wait": LONG}, parked=5) as hearing:
            wait_until(lambda: hearing.parked() == 1, "it is parked")
            assert client.put("/v1/snapshot", content=snapshot).is_success
            wait_until(lambda: bool(hearing.view.beliefs[REGISTRY].waiting), "its removal waits")
            wait_until(lambda: reasons(hearing) == {Reason.HOLD}, "it is held")
            assert 9001 in hearing.ports("orders")


def reasons(hearing: Hearing) -> set[Reason]:
    with hearing.view.lock:
        return {row.reason for row in hearing.view.beliefs[REGISTRY].waiting.values()}


def put(consul: Consul, port: int) -> None:
    consul.register("orders", "orders-1", port=port, node="node-1", address="10.0.0.1", status="passing")


def woken(hearing: Hearing) -> set[Source]:
    return {source for source, one in hearing.loop.report().found.items() if one.wakeups}


def rests(hearing: Hearing) -> bool:
    before = hearing.loop.report().rereads
    time.sleep(3.0)
    return hearing.loop.report().rereads == before


# What is gone is forgotten.


def test_indexes_of_services_that_are_gone_are_forgotten() -> None:
    epochs = Epochs(REGISTRY, 4, 0, lambda: None)
    for service in ("orders", "job-1"):
        epochs.read(service, 7, 0)
        epochs.handed_over(service, 7, 0)
    epochs.keep({"orders"})
    assert (epochs.last_read("orders"), epochs.last_read("job-1")) == (7, 0)
    assert epochs.told(["orders", "job-1"]) == {"orders": 7}


def test_troubles_of_services_that_are_gone_are_forgotten() -> None:
    dirty = Dirty((1.0,), Tally(CONSUL_SOURCES))
    for service in ("a//b", "c//d"):
        dirty.reject(service, "no URL can carry it")
    dirty.failed("pay", Mark(1.0, Source.STATUS), 1.0, "500")
    dirty.keep({"a//b"})
    assert dirty.troubles().keys() == {"a//b", "pay"}, "one that waits to be read is still dirty"


def test_a_pass_forgets_what_is_gone(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    with Hearing(tmp_path, registry.url, {"empty_grace": 0.05}) as hearing:
        registry.register("job-1", "job-1", "node-1", 80, address="10.1.0.9")
        hearing.wait_for_ports("job-1", 80)
        registry.deregister("node-1", "job-1")

        def is_gone() -> bool:
            hearing.view.tick()
            return "job-1" not in hearing.listener.services()

        wait_until(is_gone, "its grace is over")
        hearing.loop.pass_now()
        assert not hearing.loop.epochs.told(["job-1"])
        assert hearing.loop.epochs.told(["orders", "pay", "web"]).keys() == {"orders", "pay", "web"}
