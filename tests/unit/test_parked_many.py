"""How many queries are parked, and where they come from."""

import logging
import resource
import socket
from collections import Counter
from contextlib import closing, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from hooks.consul import sources
from hooks.consul.client import ConsulClient
from hooks.consul.parked import SHARED, Parked, ParkedReport
from hooks.consul.settings import ConsulSettings
from state.errors import RegistryError
from tests.testbed.processes import wait_until
from tests.unit.parking import LIMITS, OURS, REFUSALS, MakeSite, Site, hold, only, sites
from tests.unit.rawserver import Connection, RawServer

make_site = pytest.fixture(sites)

# How many.


@pytest.mark.parametrize("refusal", REFUSALS)
def test_it_settles_below_what_is_allowed(make_site: MakeSite, refusal: str) -> None:
    limits = replace(LIMITS, wait=0.3)  # which is how long it rests before it grows again
    site = make_site(only(8, REFUSALS[refusal]), limits, parked=30)
    services = [f"svc-{number}" for number in range(30)]
    site.parked.want(services)
    wait_until(lambda: site.parked.report().budget < 30, "the budget is shrunk")
    wait_until(lambda: _has_settled(site, services), "it settles", 15)
    assert site.parked.report().shrunk


def _has_settled(site: Site, services: list[str]) -> bool:
    budget = site.parked.report().budget
    return 2 <= budget <= 6 and site.parked.parked().keys() == set(services[:budget])


def test_where_nothing_is_allowed_nothing_is_parked_until_it_is(make_site: MakeSite) -> None:
    site = make_site(REFUSALS["429"], replace(LIMITS, wait=0.5))
    site.parked.want(["a", "b"])
    wait_until(lambda: site.parked.report().budget == 0, "nothing may be parked")
    assert len(site.server.connections) == 1
    site.server.serve = hold
    site.wait_for("a", "b")
    assert "429" in site.parked.report().shrunk


def test_a_server_that_answers_nobody_is_asked_by_one_at_a_time(make_site: MakeSite) -> None:
    site = make_site(REFUSALS["accept and close"], parked=30)
    services = [f"svc-{number}" for number in range(30)]
    site.parked.want(services)
    wait_until(lambda: len(site.server.connections) >= 10, "it was tried ten times")
    assert site.server.most == 1
    report = site.parked.report()
    assert (report.parked, report.budget) == (0, 30)
    assert "closed" in report.shrunk
    site.server.serve = hold
    site.wait_for(*services)
    assert site.parked.report().shrunk == ""


def test_only_the_first_are_parked_and_a_change_of_the_list_moves_as_few_as_possible(make_site: MakeSite) -> None:
    site = make_site(hold, parked=3)
    site.parked.want(["a", "b", "c", "d", "b"])
    site.wait_for("a", "b", "c")
    site.parked.want(["d", "c", "a", "b"])
    site.wait_for("a", "c", "d")
    site.parked.want(["c", "a", "d"])
    site.parked.want(["a", "unaskable/../name", "c", "d"])
    site.wait_for("a", "c", "d")
    assert Counter(asked.service for asked in site.server.asked if not asked.index) == Counter("abcd")
    site.parked.want([])
    site.wait_for()
    wait_until(lambda: site.server.is_deserted, "all connections are closed")


# Where it comes from, and what it says of itself.


def test_no_address_has_more_than_its_share_and_none_is_anybody_elses(make_site: MakeSite) -> None:
    site = make_site(hold, parked=160)
    services = [f"svc-{number}" for number in range(160)]
    site.parked.want(services)
    site.wait_for(*services)
    assert site.parked.peek(dict.fromkeys(services, 7)) == set(services)
    found = Counter(connection.source for connection in site.server.connections)
    assert sorted(found.values()) == [4, 10, 150]
    assert all(ip_address(source) in OURS for source in found)


def test_without_an_address_of_our_own_few_are_parked(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FIRST", int(ip_address("192.0.2.0")))
    site = make_site(hold, parked=30)
    services = [f"svc-{number}" for number in range(30)]
    site.parked.want(services)
    site.wait_for(*services[:16])
    assert "192." in site.parked.report().shrunk
    assert site.parked.peek({"x": 7}) == {"x"}
    assert {connection.source for connection in site.server.connections} == {"127.0.0.1"}


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_a_name_and_the_other_family_are_reached(make_site: MakeSite, host: str) -> None:
    site = make_site(hold, host=host, parked=120)
    site.parked.want(["a", "b"])
    site.wait_for("a", "b")
    assert site.parked.peek({"a": 7, "b": 6}) == {"a"}
    assert site.parked.report().budget == (80 if host == "::1" else 120)


def test_what_it_asks_carries_the_configured_parameters_and_no_secret_is_told(
    make_site: MakeSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = tmp_path / "token"
    token.write_text("s3cret\n")

    def serve(connection: Connection) -> None:
        asked = connection.ask()
        said = f"{asked.headers.get('x-consul-token')} {asked.headers.get('authorization')}"
        connection.answer(said, code=200 if connection.number else 403, body=said.encode())
        connection.send(said.encode())
        connection.wait_for_end()

    with RawServer(serve) as server:
        url = server.url.replace("//", "//me:pass%20word@") + "/base/"
        site = make_site(hold, url=url, datacenter="dc 2", token_file=token)
        site.parked.want(["my svc/1"])
        wait_until(lambda: len(server.asked) >= 4, "it was asked")
        assert site.parked.peek({"my svc/1": 7}) == set()
        token.unlink()
        assert site.parked.peek({"my svc/1": 7}) == set()
        site.parked.stop()
        asked = server.asked[0]
    assert asked.query == {"near": "_agent", "filter": 'Service.ID == ""', "leader": "", "dc": "dc 2"}
    assert asked.headers["host"] == f"127.0.0.1:{server.port}"
    assert asked.headers["authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    assert asked.headers["x-consul-token"] == "s3cret"
    told = caplog.text + str(site.parked.report())
    assert caplog.records
    assert not [secret for secret in ("s3cret", "pass%20word", "pass word", "bWU6") if secret in told]


def test_what_the_machine_grants_bounds_the_budget_and_is_told() -> None:
    def report(url: str) -> ParkedReport:
        return Parked(ConsulSettings(name="dc1", url=url, parked=10000), LIMITS, print).report()

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (800, hard))
    try:
        found = report("http://127.0.0.1:1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (found.budget, found.shrunk) == (400, "no more than 800 files may be open")
    found = report("http://consul.invalid:8500")
    assert (found.budget, found.shrunk) == (SHARED, "its clients on this machine share one address")


def test_connections_that_wait_are_probed(make_site: MakeSite) -> None:
    """Nothing on loopback dies without a word: what is shown is what the kernel was asked for."""
    site = make_site(hold)
    site.parked.want(["a"])
    site.wait_for("a")
    with closing(ConsulClient(site.parked.settings, LIMITS)) as client:
        with suppress(RegistryError):
            client.nodes()
        wire = site.parked._waiting["a"]._wire
        assert wire
        for held in (wire._socket, client._transport._socket):
            assert held
            assert held.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle, count, pause = (
                held.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT, socket.TCP_KEEPINTVL)
            )
            assert idle + count * pause <= 30, "seconds"
