"""Parked queries before servers that answer as no real Consul can be made to."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.testbed.processes import wait_until
from tests.unit.parking import FAULTS, LIMITS, NEVER, MakeSite, hold, sites, wait
from tests.unit.rawserver import Connection

make_site = pytest.fixture(sites)

# What an answer says.


def test_an_index_is_told_when_it_is_not_the_one_that_was_asked_with(make_site: MakeSite) -> None:
    def serve(connection: Connection) -> None:
        for index in (10, 10, 12, 12):
            connection.ask()
            connection.answer(index)
        wait(connection)

    site = make_site(serve, replace(LIMITS, wait=1e-9))  # so that an answer without a change is no haste
    site.parked.want(["a"])
    wait_until(lambda: [asked.index for asked in site.server.asked] == [0, 10, 10, 12, 12], "it asks on")
    assert site.woken == [("a", 10), ("a", 12)]
    assert (site.parked.report().wakeups, site.parked.report().reconnects) == (1, 0)


def test_an_index_that_goes_back_is_told_and_forgotten(make_site: MakeSite) -> None:
    def serve(connection: Connection) -> None:
        for index in (10, 5, 6):
            connection.ask()
            connection.answer(index)
        wait(connection)

    site = make_site(serve)
    site.parked.want(["a"])
    wait_until(lambda: [asked.index for asked in site.server.asked] == [0, 10, 0, 6], "it asks anew")
    assert site.woken == [("a", 10), ("a", 5), ("a", 6)]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_that_may_not_be_believed_wakes_nothing_and_is_asked_for_again(
    make_site: MakeSite, fault: str
) -> None:
    def serve(connection: Connection) -> None:
        if connection.number == 0:
            for answer in (FAULTS[fault], {"index": 7}, FAULTS[fault], {"index": 8}):
                connection.ask()
                connection.answer(**answer)
        hold(connection)

    site = make_site(serve)
    site.parked.want(["a"])
    wait_until(lambda: len(site.server.asked) == 5, "it asks again, on the same connection")
    assert [asked.index for asked in site.server.asked] == [0, 0, 7, 0, 8]
    assert site.woken == [("a", 7), ("a", 8)]
    site.wait_for("a")


def test_an_index_below_one_counts_as_one(make_site: MakeSite) -> None:
    def serve(connection: Connection) -> None:
        connection.ask()
        connection.answer(0)
        wait(connection)

    site = make_site(serve)
    site.parked.want(["a"])
    wait_until(lambda: [asked.index for asked in site.server.asked] == [0, 1], "it waits with the index 1")
    assert site.woken == [("a", 1)]


def test_what_does_not_wait_is_not_asked_again_and_again(make_site: MakeSite) -> None:
    def serve(connection: Connection) -> None:
        while True:
            asked = connection.ask()
            if asked.service == "hasty":
                connection.answer(7)  # whatever index it was asked with
            elif asked.index < 10:
                connection.answer(asked.index + 1)

    site = make_site(serve, replace(LIMITS, retry=(NEVER,)))
    site.parked.want(["hasty"])
    wait_until(lambda: len(site.server.asked) == 2, "it has asked once too often")
    site.parked.want(["hasty", "patient"])
    wait_until(lambda: ("patient", 10) in site.woken, "another has asked ten times")
    assert Counter(asked.service for asked in site.server.asked)["hasty"] == 2
    assert site.parked.parked().keys() == {"patient"}, "nobody waits for the other"


# What is no answer.

OK = b"HTTP/1.1 200 OK\r\nX-Consul-Index: 99\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY = OK + b"Content-Length: 2\r\n\r\n[]"
NO_ANSWERS = {
    "nothing": b"",
    "half a head": OK,
    "half a body": OK + b"Content-Length: 100\r\n\r\n[]",
    "no length": OK + b"\r\n[]",
    "a length below zero": OK + b"Content-Length: -1\r\n\r\n",
    "a huge body": OK + b"Content-Length: 2000000\r\n\r\n" + bytes(2_000_000),
    "a huge head": OK + b"X: " + b"x" * 2_000_000,
    "endless chunks": CHUNKED + (b"4000\r\n" + bytes(2**14) + b"\r\n") * 100,
    "a chunk of no size": CHUNKED + b"-5\r\n",
    "another protocol": b"220 mail.example ESMTP\r\n\r\n",
    "two answers": EMPTY + EMPTY,
}


@pytest.mark.parametrize("fault", NO_ANSWERS)
def test_a_connection_without_an_answer_is_replaced_and_wakes_nothing(make_site: MakeSite, fault: str) -> None:
    def serve(connection: Connection) -> None:
        if connection.number > 1:
            hold(connection)
        if connection.number == 0:
            connection.ask()
            connection.answer(7)
        connection.ask()
        connection.send(NO_ANSWERS[fault])
        connection.wait_for_end()

    site = make_site(serve, replace(LIMITS, wait=2.0))
    site.parked.want(["a"])
    wait_until(lambda: len(site.server.connections) >= 3, "two connections were given up")
    site.wait_for("a")
    assert set(site.woken) == {("a", 7)}
    report = site.parked.report()
    assert (report.budget, report.shrunk) == (10, "")
    assert report.reconnects >= 1


def test_an_answer_that_drips_is_given_up(make_site: MakeSite) -> None:
    def serve(connection: Connection) -> None:
        while connection.number < 2:
            connection.ask()
            for octet in OK:
                connection.send(bytes([octet]))
                connection.rest(0.2)
        hold(connection)

    site = make_site(serve)
    site.parked.want(["a"])
    site.wait_for("a")
    assert site.woken == [("a", 7)]


def test_a_connection_that_was_cut_is_made_again_and_tells_its_index(make_site: MakeSite) -> None:
    site = make_site(hold)
    services = [f"svc-{number}" for number in range(10)]
    site.parked.want(services)
    site.wait_for(*services)
    site.woken.clear()
    site.server.cut()
    wait_until(lambda: len(site.woken) == 10, "each has told its index")
    site.wait_for(*services)
    assert set(site.woken) == {(service, 7) for service in services}
    assert site.parked.report().reconnects == 10
