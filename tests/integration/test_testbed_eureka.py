"""The Eureka of the test bed: a real server, which does what the tests of isthmus build upon."""

import ssl

import httpx
import pytest

from tests.integration.estate import endpoints
from tests.integration.eureka_estate import Renewing, fill, move_to_consul, move_to_eureka
from tests.testbed.consul import Consul
from tests.testbed.eureka import USER, Eureka, MakeEureka, MakeEurekaPeers
from tests.testbed.eureka_api import Answer, amazon, described
from tests.testbed.processes import wait_until

JSON = {"Accept": "application/json"}


def ids(answer: Answer) -> set[str]:
    return {one.id for one in answer.instances}


def actions(answer: Answer) -> dict[str, tuple[str, str]]:
    return {one.id: (one.action, one.status) for one in answer.instances}


def test_eureka_shows_what_is_registered_changed_and_cancelled(eureka: Eureka) -> None:
    eureka.register("orders", "orders-1", "10.1.2.3", 8080, metadata={"zone": "a"}, secure_port=8443, hostname="h1")
    one = eureka.instance("ORDERS", "orders-1")
    assert one
    assert (one.app, one.ip, one.hostname, one.status) == ("ORDERS", "10.1.2.3", "h1", "UP")
    assert (one.port, one.port_enabled, one.secure_port, one.secure_port_enabled) == (8080, True, 8443, True)
    assert one.metadata == (("zone", "a"),)
    eureka.set_status("ORDERS", "orders-1", "OUT_OF_SERVICE")
    two = eureka.instance("ORDERS", "orders-1")
    assert two
    assert two.status == "OUT_OF_SERVICE"
    assert two.updated >= one.updated
    eureka.clear_status("ORDERS", "orders-1")
    eureka.put_metadata("ORDERS", "orders-1", weight="5")
    three = eureka.instance("ORDERS", "orders-1")
    assert three
    assert (three.status, three.metadata) == ("UP", (("weight", "5"), ("zone", "a")))
    assert eureka.renew("ORDERS", "orders-1")
    eureka.cancel("ORDERS", "orders-1")
    assert not eureka.renew("ORDERS", "orders-1")
    assert eureka.instance("ORDERS", "orders-1") is None
    assert eureka.names() == []


def test_odd_names_and_data_of_amazon_come_back_as_they_were_sent(eureka: Eureka) -> None:
    odd = "host-1:a pp:80 a+b%25?#;x"
    where = amazon("eu-west-1a", "i-0abc", "10.0.0.2")
    eureka.register("A.b-C_d e", odd, "10.0.0.2", 0, port_enabled=False, data_center=where)
    assert ids(eureka.apps()) == {odd}
    raw = eureka.request("GET", "apps/")["applications"]["application"][0]["instance"][0]
    assert raw["dataCenterInfo"]["metadata"]["availability-zone"] == "eu-west-1a"
    found = eureka.instance("A.B-C_D E", odd)
    assert found
    assert not found.port_enabled


def test_a_delta_carries_actions_a_hash_of_everything_and_a_growing_version(eureka: Eureka) -> None:
    assert eureka.apps().hashcode == ""
    eureka.register("hashed", "d-1", "10.0.0.1")
    eureka.register("hashed", "d-2", "10.0.0.2", status="DOWN")
    first = eureka.delta()
    assert first.hashcode == "DOWN_1_UP_1_"
    assert actions(first)["d-2"] == ("ADDED", "DOWN")
    assert eureka.delta() == first
    eureka.set_status("HASHED", "d-1", "OUT_OF_SERVICE")
    eureka.cancel("HASHED", "d-2")
    second = eureka.delta()
    assert second.version > first.version
    assert second.hashcode == "OUT_OF_SERVICE_1_"
    assert actions(second)["d-1"] == ("MODIFIED", "OUT_OF_SERVICE")
    assert actions(second)["d-2"] == ("DELETED", "DOWN")
    assert eureka.apps().version == 1


def test_without_the_read_only_cache_a_delta_is_of_now(eureka: Eureka) -> None:
    for number in range(20):
        eureka.register("now", f"now-{number}", f"10.0.0.{number + 1}")
        assert f"now-{number}" in ids(eureka.delta())
        assert f"now-{number}" in ids(eureka.apps())


def test_many_instances_come_in_few_calls_as_from_a_peer(eureka: Eureka) -> None:
    eureka.register_many(
        described("many", f"m-{number}", f"10.0.{number // 250}.{number % 250}") for number in range(600)
    )
    assert eureka.delta().hashcode == "UP_600_"
    assert len(eureka.application("MANY")) == 600
    assert eureka.renew("MANY", "m-599")


def test_by_default_only_the_read_of_one_instance_is_of_now(cached_eureka: Eureka) -> None:
    cached_eureka.register("late", "late-1", "10.0.0.1")
    # The cache was filled anew a moment ago, so that it is not for the next half minute.
    wait_until(lambda: "late-1" in ids(cached_eureka.apps()), "the cache shows the instance", 60)
    cached_eureka.register("late", "late-2", "10.0.0.2")
    cached_eureka.cancel("LATE", "late-1")
    assert cached_eureka.instance("LATE", "late-2")
    assert cached_eureka.instance("LATE", "late-1") is None
    assert ids(cached_eureka.apps()) == {"late-1"}
    assert {one.id: one.status for one in cached_eureka.apps().instances} == {"late-1": "UP"}


def test_a_killed_eureka_comes_back_empty_with_a_lower_version(make_eureka: MakeEureka) -> None:
    eureka = make_eureka()
    for number in range(5):
        eureka.register("orders", f"orders-{number}", f"10.0.0.{number + 1}")
        before = eureka.delta()
    eureka.kill()
    with pytest.raises(httpx.ConnectError):
        eureka.delta()
    eureka.start()
    after = eureka.delta()
    assert before.version > after.version
    assert (after.hashcode, after.instances) == ("", ())
    assert not eureka.renew("ORDERS", "orders-1")


def test_a_paused_eureka_answers_nothing_until_it_is_resumed(make_eureka: MakeEureka) -> None:
    eureka = make_eureka()
    eureka.pause()
    with pytest.raises(httpx.TimeoutException):
        eureka.client.get("apps/delta", timeout=0.3)
    eureka.resume()
    assert eureka.delta().instances == ()


def test_two_peers_tell_each_other_and_outlive_each_other(make_eureka_peers: MakeEurekaPeers) -> None:
    one, other = make_eureka_peers()
    one.register("orders", "orders-1", "10.0.0.1")
    other.register("orders", "orders-2", "10.0.0.2")
    for server in (one, other):
        wait_until(lambda server=server: ids(server.apps()) == {"orders-1", "orders-2"}, "both have both")  # type: ignore[misc]
    other.cancel("ORDERS", "orders-1")
    wait_until(lambda: one.instance("ORDERS", "orders-1") is None, "the cancel arrived")
    one.set_status("ORDERS", "orders-2", "OUT_OF_SERVICE")
    wait_until(lambda: other.delta().hashcode == "OUT_OF_SERVICE_1_", "the status arrived")
    one.register("orders", "orders-3", "10.0.0.3")
    wait_until(lambda: other.instance("ORDERS", "orders-3") is not None, "the third arrived")
    one.kill()
    assert ids(other.apps()) == {"orders-2", "orders-3"}
    one.start()
    # At its start it takes over what is UP, and hears of the rest when that is renewed with its peer.
    wait_until(lambda: ids(one.apps()) == {"orders-3"}, "the peer's instances were taken over")
    assert other.renew("ORDERS", "orders-2")
    wait_until(lambda: ids(one.apps()) == {"orders-2", "orders-3"}, "both have both again")
    found = one.instance("ORDERS", "orders-2")
    assert found
    assert found.status == "OUT_OF_SERVICE"


def test_eureka_asks_for_a_password_and_sends_a_stranger_to_no_page(make_eureka: MakeEureka) -> None:
    eureka = make_eureka(password="s3cret")
    eureka.register("orders", "orders-1", "10.0.0.1")
    assert ids(eureka.delta()) == {"orders-1"}
    for user in (None, (USER, "wrong")):
        refused = httpx.get(f"{eureka.url}/apps/", headers=JSON, auth=user, trust_env=False)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="Realm"')


def test_eureka_behind_a_login_form_answers_with_a_page(make_eureka: MakeEureka) -> None:
    eureka = make_eureka(password="s3cret", more={"testbed.login": "form"})
    page = httpx.get(f"{eureka.url}/apps/", headers=JSON, follow_redirects=True, trust_env=False)
    assert [(one.status_code, one.headers["Location"][-6:]) for one in page.history] == [(302, "/login")]
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html;charset=UTF-8")


def test_eureka_over_tls_demands_a_client_certificate(make_eureka: MakeEureka) -> None:
    eureka = make_eureka(tls=True, demand_certificate=True)
    eureka.register("orders", "orders-1", "10.0.0.1")
    assert eureka.url.startswith("https:")
    assert ids(eureka.delta()) == {"orders-1"}
    assert eureka.ca_file
    trusting = ssl.create_default_context(cafile=str(eureka.ca_file))
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        httpx.get(f"{eureka.url}/apps/", verify=trusting, trust_env=False)


def test_eureka_refuses_reads_while_it_warms_up_and_deltas_when_they_are_off(make_eureka: MakeEureka) -> None:
    never_open = {"eureka.instance.registry.default-open-for-traffic-count": 0}
    eureka = make_eureka(disable_delta=True, wait_time_in_ms_when_sync_empty=5000, more=never_open)
    eureka.register("orders", "orders-1", "10.0.0.1")
    assert eureka.client.get("apps/", headers=JSON).status_code == 403
    wait_until(lambda: eureka.client.get("apps/", headers=JSON).status_code == 200, "it is warm")
    assert ids(eureka.apps()) == {"orders-1"}
    assert eureka.client.get("apps/delta", headers=JSON).status_code == 403


def test_a_lease_that_nobody_renews_ends_and_one_that_is_renewed_stays(make_eureka: MakeEureka) -> None:
    eureka = make_eureka(enable_self_preservation=False, eviction_interval_timer_in_ms=500)
    with Renewing(eureka, every=0.5) as clients:
        clients.register("orders", "renewed", "10.0.0.1", lease=4)
        eureka.register("orders", "forgotten", "10.0.0.2", lease=4)
        # It ends after twice its time, a known quirk of the server.
        wait_until(lambda: actions(eureka.delta())["forgotten"] == ("DELETED", "UP"), "the lease ended", 60)
        assert eureka.instance("ORDERS", "forgotten") is None
        assert eureka.instance("ORDERS", "renewed")
    wait_until(lambda: eureka.instance("ORDERS", "renewed") is None, "nobody renews any longer", 60)


def test_clients_that_renew_register_again_with_a_server_that_forgot_them(make_eureka: MakeEureka) -> None:
    eureka = make_eureka()
    with Renewing(eureka, every=0.2) as clients:
        for number in range(3):
            clients.register("orders", f"orders-{number}", f"10.0.0.{number + 1}", metadata={"zone": "a"})
        clients.stop_renewing("ORDERS", "orders-2")
        eureka.restart()
        wait_until(lambda: ids(eureka.apps()) == {"orders-0", "orders-1"}, "the clients came back")
        assert {one.metadata for one in eureka.apps().instances} == {(("zone", "a"),)}
        clients.cancel("ORDERS", "orders-1")
        assert ids(eureka.apps()) == {"orders-0"}


def test_clients_go_to_another_server_when_theirs_is_dead(make_eureka_peers: MakeEurekaPeers) -> None:
    one, other = make_eureka_peers()
    with Renewing(one, other, every=0.2) as clients:
        clients.register("orders", "orders-1", "10.0.0.1")
        one.kill()
        wait_until(lambda: ids(other.apps()) == {"orders-1"}, "the other has it")
        clients.set_status("ORDERS", "orders-1", "DOWN")
        found = other.instance("ORDERS", "orders-1")
        assert found
        assert found.status == "DOWN"


def test_an_estate_moves_between_the_registries_and_is_always_in_one(eureka: Eureka, consul: Consul) -> None:
    def listed() -> set[tuple[str, str]]:
        hosts = {(f"{one.app.lower()}.mesh.internal", one.ip) for one in eureka.apps().instances}
        return hosts | {(f"{one.service}.mesh.internal", one.address) for one in consul.catalog()}

    fill(eureka, range(6), services=2)
    for number in range(6):
        move_to_consul(eureka, consul, (number,), services=2)
        assert listed() == endpoints(range(6), services=2)
    assert eureka.names() == []
    move_to_eureka(eureka, consul, range(6), services=2)
    assert listed() == endpoints(range(6), services=2)
    assert consul.catalog() == []
