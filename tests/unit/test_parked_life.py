"""How parked queries begin and end, and how indexes are compared beside them."""

import socket
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from hooks.consul.parked import Parked
from hooks.consul.settings import ConsulSettings
from tests.testbed.processes import wait_until
from tests.unit.parking import FAULTS, LIMITS, NEVER, REFUSALS, MakeSite, hold, sites
from tests.unit.rawserver import Connection, RawServer

make_site = pytest.fixture(sites)

# Its life.


def test_it_ends_whatever_it_waits_for(make_site: MakeSite) -> None:
    def serve(connection: Connection) -> None:
        if connection.ask().service != "peeked":
            connection.answer(7)
        connection.wait_for_end()

    site = make_site(serve, replace(LIMITS, read_timeout=NEVER))
    site.parked.want(["a"])
    site.wait_for("a")
    told: list[frozenset[str]] = []
    peeking = threading.Thread(target=lambda: told.append(site.parked.peek({"peeked": 7})))
    peeking.start()
    wait_until(lambda: any(asked.service == "peeked" for asked in site.server.asked), "an index is asked for")
    site.parked.stop()
    peeking.join()
    assert told == [frozenset()]
    wait_until(lambda: site.server.is_deserted, "all connections are closed")
    assert not [thread for thread in threading.enumerate() if thread.name == "dc1 parked"]
    site.parked.want(["b"])
    site.parked.stop()
    assert site.parked.peek({"a": 7}) == site.parked.parked().keys() == frozenset()
    assert site.parked.report().parked == 0


def test_what_is_not_started_needs_not_be_stopped() -> None:
    parked = Parked(ConsulSettings(name="dc1", url="http://127.0.0.1:1", parked=5), LIMITS, print)
    parked.want(["a"])
    assert parked.peek({"a": 7}) == frozenset()
    assert parked.stuck(time.monotonic() + NEVER) == ""
    assert parked.report().shrunk == ""
    parked.stop()


def test_a_thread_that_does_not_move_is_told(make_site: MakeSite) -> None:
    site = make_site(hold)
    wait_until(lambda: bool(site.parked.stuck(time.monotonic() + NEVER)), "it has begun")
    assert site.parked.stuck(time.monotonic()) == ""
    assert "dc1 parked" in site.parked.stuck(time.monotonic() + 2 * LIMITS.deadline)
    site.parked.stop()
    assert site.parked.stuck(time.monotonic() + NEVER) == ""


def test_an_error_of_whoever_is_woken_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    woken: list[str] = []

    def wake(service: str, _: int) -> None:
        woken.append(service)
        if woken.count(service) == 1:
            raise ValueError("not yet")

    with RawServer(hold) as server:
        parked = Parked(ConsulSettings(name="dc1", url=server.url, parked=5), LIMITS, wake)
        parked.want(["a", "b"])
        parked.start()
        wait_until(lambda: parked.parked().keys() == {"a", "b"}, "both wait")
        parked.stop()
    assert sorted(woken) == ["a", "a", "b", "b"]
    assert "not yet" in caplog.text


# Comparing indexes.


def test_what_cannot_be_told_is_left_out_of_a_comparison(make_site: MakeSite) -> None:
    def serve(connection: Connection) -> None:
        while True:
            asked = connection.ask()
            if asked.service in FAULTS:
                connection.answer(**FAULTS[asked.service])
            elif asked.service.startswith("cut"):
                return
            else:
                connection.answer(99)

    site = make_site(serve)
    services = [*FAULTS, "good", "bad/../name", *(f"more-{number}" for number in range(20))]
    assert site.parked.peek(dict.fromkeys(services, 99)) == {"good", *(f"more-{number}" for number in range(20))}
    assert len(site.server.connections) == 4
    assert site.parked.peek(dict.fromkeys(services, 98)) == set()
    assert len(site.server.connections) == 4, "they are kept"
    # With one connection that ends, what was asked there and not answered yet cannot be told.
    services = ["a", "b", "cut", "c"]
    assert site.parked.peek(dict.fromkeys(services, 99)) == {"a", "b", "c"}
    assert site.parked.peek(dict.fromkeys(["a", "cut me", "b"], 99)) == {"a", "b"}


def test_a_comparison_ends_in_time_with_what_it_has(make_site: MakeSite) -> None:
    def serve(connection: Connection) -> None:
        while connection.ask().service != "slow":
            connection.answer(7)
        connection.wait_for_end()

    site = make_site(serve, parked=0)
    assert site.parked.peek({"a": 7, "slow": 7, "b": 7}) == {"a"}
    wait_until(lambda: site.parked.peek({"a": 7, "b": 7}) == {"a", "b"}, "on another connection, after a while")


def test_a_server_that_is_not_there_is_not_asked_for_every_comparison(make_site: MakeSite) -> None:
    site = make_site(REFUSALS["429"], replace(LIMITS, retry=(NEVER,)), parked=0)
    for _ in range(5):
        assert site.parked.peek({"a": 7}) == set()
    assert len(site.server.connections) == 1


def test_a_comparison_that_came_too_early_does_not_ask_for_a_later_one(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers to what was asked twice would be taken for those of the services that are compared next."""
    known = threading.Event()
    look_up = socket.getaddrinfo

    def slowly(*asked: Any, **more: Any) -> Any:
        known.wait(20)
        return look_up(*asked, **more)

    def serve(connection: Connection) -> None:
        while True:
            connection.ask()
            connection.answer(7)

    site = make_site(serve)
    port = site.server.url.rpartition(":")[2]
    settings = ConsulSettings(name="dc1", url=f"http://localhost:{port}", parked=0)
    monkeypatch.setattr("hooks.consul.route.socket.getaddrinfo", slowly)
    parked = Parked(settings, LIMITS, lambda *_: None)
    parked.start()
    assert parked.peek({"a": 7}) == frozenset(), "where the server is was not known in time"
    threading.Timer(0.3, known.set).start()
    assert parked.peek({"b": 7, "c": 7}) == {"b", "c"}
    parked.peek({"d": 7})
    parked.stop()
    assert sorted(asked.service for asked in site.server.asked) == ["b", "c", "d"]
