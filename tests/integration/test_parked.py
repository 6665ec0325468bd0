"""Parked queries against a real Consul: what wakes, and what does not."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest

from hooks.consul.asking import FILTER, Question
from hooks.consul.settings import ConsulSettings
from tests.integration.parking import LIMITS, SERVICES, Make, changes_of, fill, parkings, put, take, wait_for
from tests.integration.relay import Relay
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.processes import wait_until

make_parked = pytest.fixture(parkings)


def test_whatever_changes_in_a_service_wakes_it_and_no_other(consul: Consul, make_parked: Make) -> None:
    fill(consul)
    parked, woken = make_parked(consul)
    parked.want(SERVICES)
    wait_for(parked, len(SERVICES))
    assert sorted(service for service, _ in woken) == list(SERVICES), "each once, for its footing"
    for name in SERVICES[::3]:
        for what, change in changes_of(consul, name).items():
            woken.clear()
            change()
            expected = (name, consul.index(f"/v1/health/service/{name}"))
            wait_until(lambda expected=expected: expected in woken, f"{what} is told with its index")  # type: ignore[misc]
            assert {service for service, _ in woken} == {name}
    assert parked.report().reconnects == 0


def test_a_check_of_a_node_wakes_what_is_on_it(consul: Consul, make_parked: Make) -> None:
    fill(consul)
    consul.register("elsewhere", port=1, node="node-x", address="10.9.9.9")
    parked, woken = make_parked(consul)
    parked.want([*SERVICES[:10], "elsewhere"])
    wait_for(parked, 11)
    woken.clear()
    consul.node_status("node-1", "critical")
    wait_until(lambda: {service for service, _ in woken} == set(SERVICES[:10]), "all on that node are told")


def test_a_filter_that_matches_nothing_empties_the_answer_and_no_more(consul: Consul) -> None:
    """The query of parked.py is cheap: two bytes, the same index, the same leader, whatever has changed."""
    fill(consul)
    asked = f"/v1/health/service/{SERVICES[3]}?near=_agent"

    def both(more: str = "") -> tuple[httpx.Response, httpx.Response]:
        cheap = consul.response("GET", f"{asked}&filter={quote(FILTER)}{more}")
        return cheap, consul.response("GET", asked + more)

    changes: Mapping[str, Callable[[], None]] = {
        "nothing": lambda: None,
        **changes_of(consul, SERVICES[3]),
        "another service": lambda: put(consul, SERVICES[4], 0, 9999),
        "a node": lambda: consul.node_status("node-0", "critical"),
        "the end": lambda: take(consul, SERVICES[3]),
        "another service's end": lambda: take(consul, SERVICES[4]),
    }
    for what, change in changes.items():
        change()
        cheap, full = both()
        assert cheap.content == b"[]", what
        for name in ("Index", "Knownleader", "Lastcontact", "Query-Backend", "Effective-Consistency"):
            assert cheap.headers[f"X-Consul-{name}"] == full.headers[f"X-Consul-{name}"], (what, name)
        assert (cheap.headers["X-Consul-Knownleader"], cheap.headers["X-Consul-Query-Backend"]) == (
            "true",
            "blocking-query",
        )
    index = cheap.headers["X-Consul-Index"]
    waited = consul.response("GET", f"{asked}&filter={quote(FILTER)}&index={index}&wait=100ms")
    assert (waited.content, waited.headers["X-Consul-Index"]) == (b"[]", index)


def test_the_default_mode_is_asked_for_whatever_staleness_an_agent_allows(make_consul: MakeConsul) -> None:
    consul = make_consul(config={"discovery_max_stale": "10s"})
    _, target, _ = Question(ConsulSettings(name="dc1", url=consul.url)).request("consul", "").decode().split(" ", 2)
    assert consul.response("GET", target).headers["X-Consul-Effective-Consistency"] == "leader"


def test_peeking_tells_exactly_what_is_unchanged(consul: Consul, make_parked: Make) -> None:
    fill(consul)
    parked, _ = make_parked(consul, parked=0)
    chance = random.Random(7)
    for _ in range(5):
        indexes = {service: consul.index(f"/v1/health/service/{service}") for service in SERVICES}
        assert parked.peek(indexes) == set(SERVICES)
        changed = set(chance.sample(SERVICES, 9))
        for service in changed:
            put(consul, service, 0, chance.randint(10000, 60000))
        assert parked.peek(indexes) == set(SERVICES) - changed
        assert parked.peek(dict.fromkeys(SERVICES, 1)) == set()
    assert parked.peek({}) == set()


def test_only_the_first_services_are_parked_and_the_choice_can_change(consul: Consul, make_parked: Make) -> None:
    fill(consul)
    parked, woken = make_parked(consul, parked=10)
    parked.want(SERVICES)
    wait_until(lambda: parked.parked().keys() == set(SERVICES[:10]), "the first ten are parked")
    parked.want([SERVICES[20], *SERVICES])
    wait_until(lambda: parked.parked().keys() == {*SERVICES[:9], SERVICES[20]}, "another ten are parked")
    woken.clear()
    put(consul, SERVICES[9], 0, 9999)
    put(consul, SERVICES[20], 0, 9999)
    wait_until(lambda: bool(woken), "a parked service wakes")
    assert {service for service, _ in woken} == {SERVICES[20]}
    assert parked.report().reconnects == 0


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_every_footing_is_regained_after_a_restart(make_consul: MakeConsul, make_parked: Make, end: str) -> None:
    consul = make_consul(dev=False)
    fill(consul)
    parked, woken = make_parked(consul)
    parked.want(SERVICES)
    wait_for(parked, len(SERVICES))
    getattr(consul, end)()
    wait_for(parked, 0)
    woken.clear()
    consul.start()
    put(consul, SERVICES[3], 0, 9999)
    wait_for(parked, len(SERVICES))
    index = consul.index(f"/v1/health/service/{SERVICES[3]}")
    wait_until(lambda: (SERVICES[3], index) in woken, "what changed meanwhile is told")
    assert parked.report().shrunk == ""


def test_connections_that_are_cut_are_made_again_and_tell_what_was_missed(consul: Consul, make_parked: Make) -> None:
    fill(consul)
    with Relay(consul.url) as relay:
        parked, woken = make_parked(consul, url=relay.url)
        parked.want(SERVICES)
        wait_for(parked, len(SERVICES))
        for turn in range(3):
            woken.clear()
            relay.cut()
            changed = SERVICES[turn::7]
            for service in changed:
                put(consul, service, 0, 9000 + turn)
            indexes = {service: consul.index(f"/v1/health/service/{service}") for service in SERVICES}
            wait_until(lambda: set(indexes.items()) <= set(woken), "every index is told")  # noqa: B023
            wait_for(parked, len(SERVICES))
        assert relay.connections == 4 * len(SERVICES)
        report = parked.report()
        assert (report.reconnects, report.shrunk) == (3 * len(SERVICES), "")
        parked.stop()


def test_a_wiped_server_is_told_though_its_indexes_are_lower(make_consul: MakeConsul, make_parked: Make) -> None:
    consul = make_consul(dev=False)
    fill(consul)
    parked, woken = make_parked(consul)
    parked.want(SERVICES)
    wait_for(parked, len(SERVICES))
    woken.clear()
    consul.wipe()
    put(consul, SERVICES[3], 0, 9999)
    index = consul.index(f"/v1/health/service/{SERVICES[3]}")
    wait_until(lambda: (SERVICES[3], index) in woken, "the lower index is told")
    wait_for(parked, len(SERVICES))


def test_a_snapshot_that_is_restored_is_told_though_its_indexes_are_lower(consul: Consul, make_parked: Make) -> None:
    """Consul answers what waits with the index that it was asked with, as if nothing had changed."""
    fill(consul)
    with httpx.Client(base_url=consul.url, trust_env=False, timeout=30) as client:
        snapshot = client.get("/v1/snapshot").content
        put(consul, SERVICES[3], 0, 9999)
        parked, woken = make_parked(consul, limits=replace(LIMITS, wait=3600.0))
        parked.want(SERVICES)
        wait_for(parked, len(SERVICES))
        woken.clear()
        assert client.put("/v1/snapshot", content=snapshot).is_success
    index = consul.index(f"/v1/health/service/{SERVICES[3]}")
    wait_until(lambda: (SERVICES[3], index) in woken, "the lower index is told")
    wait_for(parked, len(SERVICES))
