"""What the guard believes of a real Consul that cannot be read, or only in part: tokens, broken answers, TLS."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.between import Answer, Fault, Proxy, honest
from tests.integration.estate import Endpoint, endpoint, endpoints, fill, host, node_of, take
from tests.integration.guard_site import DC1, PATIENCE, Site
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.processes import wait_until

ALL = range(60)
LONG = 3600
NODES = 'node_prefix "" { policy = "read" }'
EVERYTHING = f'service_prefix "" {{ policy = "read" }} {NODES}'
TEAM = 'service_prefix "team-a" { policy = "read" }'
FILTERED = "the token may not see all of it, X-Consul-Results-Filtered-By-ACLs: true"


def with_token(folder: Path, consul: Consul, rules: str) -> tuple[str, Path]:
    """Make a token and the file that holds it."""
    token, path = consul.create_token(rules), folder / "token"
    path.write_text(token)
    return token, path


@pytest.mark.parametrize("rules", [f"{TEAM} {NODES}", "", 'service_prefix "" { policy = "read" }', NODES])
def test_a_narrowed_token_makes_the_registry_unreadable_and_removes_nothing(
    make_consul: MakeConsul, tmp_path: Path, rules: str
) -> None:
    consul = make_consul(acl=True)
    fill(consul, ALL)
    consul.register("team-a-web", address="10.0.9.1", port=8080, node="a")
    consul.register("team-a-web", "other", address="10.0.9.2", port=8080, node="a")
    token, path = with_token(tmp_path, consul, EVERYTHING)
    everything = endpoints(ALL) | {(host("team-a-web"), "10.0.9.1"), (host("team-a-web"), "10.0.9.2")}
    settings = {DC1: {"token_file": str(path)}}
    with Site(tmp_path / "site", consul.url, registries=settings, sweep=1, wait=1) as site:
        site.wait_for_first(everything)
        written = site.writes()
        consul.set_rules(token, rules)
        site.wait_for_error(f"{DC1}: /v1/", FILTERED)
        consul.deregister("other", node="a")
        take(consul, [0])
        site.nothing_leaves_for(2)
        assert not site.rows()
        assert token not in site.report()
        consul.set_rules(token, EVERYTHING)
        site.wait_for(everything - {endpoint(0), (host("team-a-web"), "10.0.9.2")}, "what has left meanwhile is gone")
        site.wait_for_recovery()
        assert not site.rows()
        assert site.writes() == written + 2
        assert site.registry()["epoch"] == 1


def test_a_revoked_token_removes_nothing_and_a_new_one_needs_no_restart(
    make_consul: MakeConsul, tmp_path: Path
) -> None:
    consul = make_consul(acl=True)
    fill(consul, ALL)
    token, path = with_token(tmp_path, consul, EVERYTHING)
    settings = {DC1: {"token_file": str(path)}}
    with Site(tmp_path / "site", consul.url, registries=settings, sweep=1, wait=1) as site:
        site.wait_for_first(endpoints(ALL))
        accessor = consul.response("GET", "/v1/acl/token/self", token=token).json()["AccessorID"]
        consul.request("DELETE", f"/v1/acl/token/{accessor}")
        site.wait_for_error("403", "ACL not found")
        take(consul, [0])
        site.nothing_leaves_for(1)
        assert token not in site.report()
        path.write_text(consul.create_token(EVERYTHING))
        site.wait_for(endpoints(ALL[1:]), "what has left meanwhile is gone")
        site.wait_for_recovery()
        assert site.registry()["epoch"] == 1


@contextmanager
def team_site(make_consul: MakeConsul, tmp_path: Path, rules: str) -> Iterator[tuple[Consul, str, Site]]:
    """A registry of two teams, and a site with a token for the services of one."""
    consul = make_consul(acl=True)
    for number in range(10):
        for team in ("a", "b"):
            name = f"team-{team}-{number}"
            consul.register(name, address=f"10.0.{ord(team)}.{number}", port=8080, node=f"node-{team}")
    consul.register("team-a-probe", address="10.0.9.1", port=8080, node="node-a")
    token, path = with_token(tmp_path, consul, rules)
    scope = {"services": ["team-a*"], "probe": "team-a-probe", "token_file": str(path)}
    with Site(tmp_path / "site", consul.url, registries={DC1: scope}, sweep=1, wait=1) as site:
        yield consul, token, site


def team(*numbers: int) -> set[Endpoint]:
    """Return where the instances of team a must be found, its probe among them."""
    return {(host("team-a-probe"), "10.0.9.1"), *((host(f"team-a-{n}"), f"10.0.97.{n}") for n in numbers)}


@pytest.mark.parametrize("nodes", [NODES, 'node "node-a" { policy = "read" }'])
def test_a_declared_scope_needs_a_token_for_no_more_than_it_and_its_nodes(
    make_consul: MakeConsul, tmp_path: Path, nodes: str
) -> None:
    with team_site(make_consul, tmp_path, TEAM) as (consul, token, site):
        site.wait_for_error(f"{DC1}: /v1/health/service/team-a-", FILTERED)
        assert site.witness.look() == set()
        consul.set_rules(token, f"{TEAM} {nodes}")
        site.wait_for_first(team(*range(10)))
        assert site.registry()["state"] == "ok"
        consul.set_status("team-a-3", "critical", node="node-a")
        site.wait_for(team(0, 1, 2, *range(4, 10)), "a critical one has left")
        consul.deregister("team-a-4", node="node-a")
        site.wait_for(team(0, 1, 2, *range(5, 10)), "a deregistered one has left")
        consul.set_status("team-a-3", "passing", node="node-a")
        site.wait_for(team(0, 1, 2, 3, *range(5, 10)), "a healthy one is back")
        consul.set_rules(token, TEAM)
        site.wait_for_error(f"{DC1}: /v1/health/service/team-a-", FILTERED)
        consul.deregister("team-a-5", node="node-a")
        site.nothing_leaves_for(1)
        assert not site.rows()


def test_what_a_narrowed_token_hides_within_its_scope_is_not_taken_for_gone(
    make_consul: MakeConsul, tmp_path: Path
) -> None:
    with team_site(make_consul, tmp_path, f"{TEAM} {NODES}") as (consul, token, site):
        site.wait_for_first(team(*range(10)))
        consul.set_rules(token, f'{TEAM} {NODES} service "team-a-5" {{ policy = "deny" }}')
        wait_until(
            lambda: [one["service"] for one in site.registry()["unreadable"]] == ["team-a-5"], "hidden", PATIENCE
        )
        # This empties a service, and so what the list of services lacks is looked at.
        consul.deregister("team-a-6", node="node-a")
        site.wait_for(team(0, 1, 2, 3, 4, 5, 7, 8, 9), "a deregistered one has left")
        site.nothing_leaves_for(1)
        site.passes(2)
        assert not site.rows()
        assert site.witness.look() == team(0, 1, 2, 3, 4, 5, 7, 8, 9)


@pytest.fixture
def proxy(consul: Consul) -> Iterator[Proxy]:
    """A proxy before the test's Consul."""
    with Proxy(consul.url) as running:
        yield running


def failing(*services: str) -> Fault:
    """Answer 500 for these services."""
    paths = {f"/v1/health/service/{service}" for service in services}
    return lambda path, answer: Answer(500, b"rpc error") if path in paths else answer


def empty(path: str, answer: Answer) -> Answer:
    """Answer with nothing at all, and an index from nowhere."""
    body = b"{}" if path == "/v1/catalog/services" else b"[]"
    return replace(answer, body=body).having("X-Consul-Index", "999999")


def half(_path: str, answer: Answer) -> Answer:
    """Answer with the first half of a body."""
    return replace(answer, body=answer.body[: len(answer.body) // 2])


SPOILT: Mapping[str, tuple[Fault, str]] = {
    "HTML": (lambda _, answer: replace(answer, body=b"<html>All is well</html>"), "answered without JSON: <html>"),
    "half a JSON": (half, "answered without JSON"),
    "no leader": (lambda _, answer: answer.having("X-Consul-Knownleader", "false"), "answered without a leader"),
    "no index": (lambda _, answer: answer.having("X-Consul-Index", None), "answered with X-Consul-Index ''"),
    "500": (lambda _path, _: Answer(500, b"rpc error: no leader"), "answered 500: rpc error: no leader"),
    "429": (lambda _path, _: Answer(429, b"Your IP is issuing too many"), "answered 429: Your IP"),
    "a redirect": (lambda _path, _: Answer(302, b"", {"Location": "/login"}), "answered 302"),
    "nothing": (empty, "(the probe consul, without which nothing is believed): the answer is empty"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_spoilt_answers_remove_nothing(consul: Consul, proxy: Proxy, tmp_path: Path, kind: str) -> None:
    fill(consul, ALL)
    with Site(tmp_path / "site", proxy.url, sweep=1, wait=1) as site:
        site.wait_for_first(endpoints(ALL))
        proxy.fault, words = SPOILT[kind]
        take(consul, [0])
        fill(consul, [60])
        site.wait_for_error(f"{DC1}: /v1/", words)
        site.nothing_leaves_for(1)
        assert site.witness.look() == endpoints(ALL)
        proxy.fault = honest
        site.wait_for_recovery()
        if site.registry()["epoch"] == 1:
            site.wait_for(endpoints(range(1, 61)), "what has changed meanwhile is there")
            assert not site.rows()
        else:  # an index that comes from nowhere and goes back begins another life
            assert kind == "nothing"
            site.wait_for_waiting("what this life has not shown is held", hold=1)
            site.wait_for(endpoints(range(61)), "what is new is there")


def test_a_catalogue_of_which_half_cannot_be_read_is_no_pass_and_removes_nothing(
    consul: Consul, proxy: Proxy, tmp_path: Path
) -> None:
    fill(consul, ALL, services=30)
    with Site(tmp_path / "site", proxy.url, sweep=1) as site:
        site.wait_for_first(endpoints(ALL, 30))
        proxy.fault = failing(*(f"svc-{number}" for number in range(1, 30, 2)))
        site.wait_for_error(f"{DC1}: /v1/health/service/svc-", "answered 500: rpc error")
        passes = site.registry()["passes"]
        gone = [1, *range(0, 24, 2)]
        take(consul, gone)
        # What only comes is believed wherever it can be read, also behind what cannot.
        fill(consul, range(84, 90), services=30)
        site.wait_for(endpoints([*ALL, 84, 86, 88], 30), "what is new in services that can be read is there")
        site.nothing_leaves_for(1)
        assert not site.witness.departed
        assert site.registry()["passes"] == passes
        assert len(site.registry()["unreadable"]) == 15
        # Whoever starts now has no pass either, and so removes nothing.
        site.end()
        take(consul, [24])
        site.begin()
        site.wait_for_error(f"{DC1}: /v1/health/service/svc-", "answered 500: rpc error")
        site.nothing_leaves_for(1)
        assert site.registry()["passes"] == 0
        assert not site.witness.departed
        proxy.fault = honest
        site.wait_for(endpoints([*ALL, *range(84, 90)], 30) - endpoints([*gone, 24], 30), "all that has left is gone")
        site.wait_for_recovery()
        assert not site.rows()


def test_one_service_of_thirty_that_cannot_be_read_keeps_its_instances_and_stops_nothing_else(
    consul: Consul, proxy: Proxy, tmp_path: Path
) -> None:
    fill(consul, ALL, services=30)
    with Site(tmp_path / "site", proxy.url, sweep=1) as site:
        site.wait_for_first(endpoints(ALL, 30))
        proxy.fault = failing("svc-3")
        take(consul, [3, 33, *range(10, 20)])
        consul.set_status("i-20", "critical", node=node_of(20))
        fill(consul, [60], services=30)
        left = endpoints([*range(10), *range(21, 61)], 30)
        site.wait_for(left, "everybody else's changes are there")
        site.passes(2)
        report = site.registry()
        assert report["state"] == "ok"
        assert [one["service"] for one in report["unreadable"]] == ["svc-3"]
        assert "/v1/health/service/svc-3: answered 500: rpc error" in report["unreadable"][0]["reason"]
        assert not site.rows()
        assert site.witness.look() == left
        proxy.fault = honest
        site.wait_for(left - endpoints([3, 33], 30), "it can be read again, and its instances have left")
        assert site.registry()["unreadable"] == []


def test_tls_with_a_client_certificate_and_another_name_of_the_server(make_consul: MakeConsul, tmp_path: Path) -> None:
    consul = make_consul(tls=True)
    assert consul.ca_file
    assert consul.client_pair
    fill(consul, ALL)
    settings = {
        "ca_file": str(consul.ca_file),
        "cert_file": str(consul.client_pair.cert_file),
        "key_file": str(consul.client_pair.key_file),
        "tls_server_name": consul.server_name,
    }
    with Site(tmp_path / "site", consul.url, registries={DC1: settings}) as site:
        site.wait_for_first(endpoints(ALL))
        consul.set_status("i-0", "critical", node=node_of(0))
        site.wait_for(endpoints(ALL[1:]), "a critical one has left")
        consul.restart()
        site.wait_for_waiting("all is held", hold=60)
        fill(consul, ALL)
        site.wait_for(endpoints(ALL), "all is there")
    for name, changed, words in (
        ("name", {"tls_server_name": "server.dc9.consul"}, "server.dc9.consul"),
        ("certificate", {"cert_file": None, "key_file": None}, "certificate required"),
    ):
        wrong = {key: value for key, value in (settings | changed).items() if value}
        with Site(tmp_path / name, consul.url, registries={DC1: wrong}) as site:
            site.wait_for_error(f"{DC1}: /v1/", words)
