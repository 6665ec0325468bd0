"""Parked queries and what a real Consul grants: connections, certificates, tokens."""

import ssl
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from hooks.consul.parked import Parked
from tests.integration.parking import LIMITS, SERVICES, Make, fill, parkings, put, wait_for
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.pki import Authority
from tests.testbed.processes import wait_until

make_parked = pytest.fixture(parkings)


def test_what_is_abandoned_is_not_missing_elsewhere(make_consul: MakeConsul, make_parked: Make) -> None:
    """Consul counts the connection of an abandoned query until its wait is over."""
    consul = make_consul(config={"limits": {"http_max_conns_per_client": 15}})
    fill(consul)
    parked, _ = make_parked(consul, parked=10)
    for start in (0, 10, 20, 0):
        chosen = SERVICES[start : start + 10]
        parked.want(chosen)
        wait_until(lambda chosen=chosen: parked.parked().keys() == set(chosen), "the choice is parked")  # type: ignore[misc]
    assert (parked.report().budget, parked.report().shrunk) == (10, "")
    parked.stop()
    again, _ = make_parked(consul, parked=10)
    again.want(SERVICES)
    wait_for(again, 10)
    assert (again.report().budget, again.report().reconnects) == (10, 0)


@pytest.mark.parametrize("tls", [False, True])
def test_where_few_connections_are_allowed_nobody_else_is_refused(
    make_consul: MakeConsul, make_parked: Make, tls: bool
) -> None:
    consul = make_consul(config={"limits": {"http_max_conns_per_client": 20}}, tls=tls)
    fill(consul)
    refused: list[str] = []
    done = Event()

    def others() -> None:
        with httpx.Client(base_url=consul.url, verify=_verify(consul), trust_env=False) as client:
            while not done.wait(0.01):
                try:
                    if client.get("/v1/status/leader").status_code != 200:
                        refused.append("status")
                except httpx.HTTPError as error:
                    refused.append(repr(error))

    parked, woken = make_parked(consul, limits=replace(LIMITS, wait=1.0), **_keys(consul))
    threads = [Thread(target=others) for _ in range(15)]  # and the test's own: with those there would be too many
    for thread in threads:
        thread.start()
    try:
        parked.want(SERVICES)
        wait_until(lambda: bool(parked.report().shrunk), "the budget is shrunk")
        wait_until(lambda: _has_settled(parked), "it settles below the limit")
        indexes = {service: consul.index(f"/v1/health/service/{service}") for service in SERVICES}
        for _ in range(5):
            assert parked.peek(indexes) == set(SERVICES), "comparing has connections of its own"
        name = min(parked.parked())
        woken.clear()
        put(consul, name, 0, 9999)
        wait_until(lambda: name in {service for service, _ in woken}, "what is parked still wakes")
        wait_until(lambda: parked.report().budget > 15, "after a long time more is tried again", 60)
        wait_until(lambda: _has_settled(parked), "it settles again")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert refused == []


def _verify(consul: Consul) -> ssl.SSLContext | bool:
    if consul.client_pair is None:
        return True
    context = ssl.create_default_context(cafile=str(consul.ca_file))
    context.load_cert_chain(consul.client_pair.cert_file, consul.client_pair.key_file)
    return context


def _has_settled(parked: Parked) -> bool:
    budget = parked.report().budget
    return 8 <= budget <= 15 and parked.parked().keys() == set(SERVICES[:budget])


def _keys(consul: Consul) -> dict[str, object]:
    if consul.client_pair is None:
        return {}
    return {
        "ca_file": consul.ca_file,
        "cert_file": consul.client_pair.cert_file,
        "key_file": consul.client_pair.key_file,
        "tls_server_name": consul.server_name,
    }


def test_tls_and_a_token_are_used(make_consul: MakeConsul, make_parked: Make, tmp_path: Path) -> None:
    consul = make_consul(tls=True, acl=True)
    fill(consul)
    token = tmp_path / "token"
    token.write_text("wrong")
    parked, woken = make_parked(consul, token_file=token, **_keys(consul))
    parked.want(SERVICES[:3])
    indexes = {service: consul.index(f"/v1/health/service/{service}") for service in SERVICES}
    assert (parked.peek(indexes), woken) == (frozenset(), [])
    token.write_text(consul.create_token('service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'))
    wait_for(parked, 3)
    assert parked.peek(indexes) == set(SERVICES)
    woken.clear()
    put(consul, SERVICES[1], 0, 9999)
    wait_until(lambda: {service for service, _ in woken} == {SERVICES[1]}, "a change wakes")
    token.unlink()
    put(consul, SERVICES[1], 0, 9998)
    wait_for(parked, 2)


def test_a_server_that_cannot_be_verified_is_not_asked(make_consul: MakeConsul, make_parked: Make) -> None:
    consul = make_consul(tls=True)
    fill(consul)
    parked, woken = make_parked(consul, **(_keys(consul) | {"tls_server_name": "another.example"}))
    parked.want(SERVICES)
    wait_until(lambda: "another.example" in parked.report().shrunk, "the reason is told")
    assert (parked.peek({SERVICES[0]: 1}), parked.parked(), woken) == (frozenset(), {}, [])


def test_a_certificate_authority_that_is_renewed_needs_no_restart(
    make_consul: MakeConsul, make_parked: Make, tmp_path: Path
) -> None:
    consul = make_consul(tls=True)
    assert consul.ca_file
    fill(consul)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(Authority(tmp_path / "other").ca_file.read_bytes())
    parked, _ = make_parked(consul, **(_keys(consul) | {"ca_file": ca_file}))
    parked.want(SERVICES[:3])
    wait_until(lambda: "verify" in parked.report().shrunk, "nobody trusts the server")
    ca_file.write_bytes(consul.ca_file.read_bytes())
    wait_for(parked, 3)
