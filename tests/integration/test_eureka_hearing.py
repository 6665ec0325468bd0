"""What a real Eureka server tells, and how soon it is believed."""

from pathlib import Path

from hooks.found import Source
from state.model import Absence
from tests.eureka_hearing import EurekaHearing
from tests.testbed.eureka import USER, Eureka, MakeEureka
from tests.testbed.processes import wait_until


def test_what_is_there_at_the_start_is_read(eureka: Eureka, tmp_path: Path) -> None:
    eureka.register("ORDERS", "orders-1", "10.0.0.1", 8080, metadata={"zone": "a"})
    eureka.register("ORDERS", "orders-2", "10.0.0.2", 8080, status="OUT_OF_SERVICE")
    with EurekaHearing(tmp_path, eureka.url, region="dc1") as hearing:
        first, second = hearing.instances("ORDERS")
        assert (first.address, first.port, first.locality) == ("10.0.0.1", 8080, "dc1/a")
        assert (first.absent_because, second.absent_because) == (Absence.NONE, Absence.OUT_OF_SERVICE)
        assert hearing.report.full_reads == {"start": 1}


def test_registering_changing_and_leaving_are_heard_by_deltas_alone(eureka: Eureka, tmp_path: Path) -> None:
    eureka.register("ORDERS", "orders-1", "10.0.0.1")
    with EurekaHearing(tmp_path, eureka.url, poll=1.0) as hearing:
        eureka.register("ORDERS", "orders-2", "10.0.0.2")
        hearing.wait_for_ids("ORDERS", "orders-1", "orders-2")
        eureka.set_status("ORDERS", "orders-2", "OUT_OF_SERVICE")
        wait_until(
            lambda: hearing.instances("ORDERS")[1].absent_because is Absence.OUT_OF_SERVICE, "it is out of service"
        )
        eureka.put_metadata("ORDERS", "orders-1", version="v2")
        wait_until(lambda: hearing.instances("ORDERS")[0].version == "v2", "it has another version")
        eureka.cancel("ORDERS", "orders-1")
        hearing.wait_for_ids("ORDERS", "orders-2")
        assert hearing.report.full_reads == {"start": 1}
        assert hearing.report.confirmations >= 2
        wait_until(lambda: hearing.loop.report().found[Source.DELTA].changes == 4, "four changes are counted")
        assert hearing.loop.report().repairs == 0


def test_in_quiet_nothing_is_handed_over(eureka: Eureka, tmp_path: Path) -> None:
    eureka.register("ORDERS", "orders-1", "10.0.0.1")
    with EurekaHearing(tmp_path, eureka.url) as hearing:
        hearing.wait_for_polls()
        before, unchanged = len(hearing.listener.readings), hearing.report.unchanged
        hearing.wait_for_polls(5)
        assert len(hearing.listener.readings) == before
        assert hearing.report.unchanged > unchanged
        assert hearing.report.full_reads == {"start": 1}


def test_a_service_that_leaves_wholly_is_heard(eureka: Eureka, tmp_path: Path) -> None:
    eureka.register("ORDERS", "orders-1", "10.0.0.1")
    eureka.register("BILLING", "billing-1", "10.0.0.2")
    with EurekaHearing(tmp_path, eureka.url) as hearing:
        eureka.cancel("ORDERS", "orders-1")
        hearing.wait_for_ids("ORDERS")
        assert hearing.ids("BILLING") == ["billing-1"]


def test_what_is_out_of_scope_counts_for_the_hash_alone(eureka: Eureka, tmp_path: Path) -> None:
    eureka.register("ORDERS", "orders-1", "10.0.0.1")
    eureka.register("BILLING", "billing-1", "10.0.0.2")
    with EurekaHearing(tmp_path, eureka.url, services=("ord*",)) as hearing:
        eureka.register("BILLING", "billing-2", "10.0.0.3")
        eureka.register("ORDERS", "orders-2", "10.0.0.4")
        hearing.wait_for_ids("ORDERS", "orders-1", "orders-2")
        hearing.wait_for_polls()
        assert set(hearing.listener.services()) == {"ORDERS"}
        assert (hearing.report.mismatches, hearing.report.full_reads) == (0, {"start": 1})


def test_a_pass_that_is_asked_for_reads_everything(eureka: Eureka, tmp_path: Path) -> None:
    eureka.register("ORDERS", "orders-1", "10.0.0.1")
    with EurekaHearing(tmp_path, eureka.url, poll=3600.0) as hearing:
        eureka.register("ORDERS", "orders-2", "10.0.0.2")
        hearing.loop.pass_now()
        assert hearing.ids("ORDERS") == ["orders-1", "orders-2"]
        assert hearing.report.full_reads == {"start": 1, "asked": 1}


def test_one_reading_without_a_thread_is_enough(eureka: Eureka, tmp_path: Path) -> None:
    eureka.register("ORDERS", "orders-1", "10.0.0.1")
    hearing = EurekaHearing(tmp_path, eureka.url)
    try:
        hearing.loop.once()
        assert hearing.ids("ORDERS") == ["orders-1"]
        eureka.cancel("ORDERS", "orders-1")
        eureka.register("ORDERS", "orders-2", "10.0.0.2")
        hearing.loop.once()
        assert hearing.ids("ORDERS") == ["orders-2"]
    finally:
        hearing.close()


def test_a_hint_is_a_poll(eureka: Eureka, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, eureka.url, poll=3600.0) as hearing:
        eureka.register("ORDERS", "orders-1", "10.0.0.1")
        hearing.loop.hint("service", "ORDERS")
        hearing.wait_for_ids("ORDERS", "orders-1")


# The server's cache.


def test_a_change_is_heard_through_the_default_cache(cached_eureka: Eureka, tmp_path: Path) -> None:
    with EurekaHearing(tmp_path, cached_eureka.url) as hearing:
        cached_eureka.register("BILLING", "billing-1", "10.0.0.2")
        cached_eureka.register("ORDERS", "orders-1", "10.0.0.1")
        hearing.wait_for_ids("ORDERS", "orders-1", deadline=60)
        cached_eureka.set_status("ORDERS", "orders-1", "DOWN")
        wait_until(lambda: hearing.instances("ORDERS")[0].absent_because is Absence.DOWN, "it is down", 60)
        cached_eureka.cancel("ORDERS", "orders-1")
        hearing.wait_for_ids("ORDERS", deadline=60)


def test_one_that_is_back_before_the_cache_tells_is_not_removed(cached_eureka: Eureka, tmp_path: Path) -> None:
    def cached(action: str) -> bool:
        return any((one.id, one.action) == ("orders-1", action) for one in cached_eureka.delta().instances)

    with EurekaHearing(tmp_path, cached_eureka.url, poll=3600.0) as hearing:
        cached_eureka.register("ORDERS", "orders-1", "10.0.0.1", 8080)
        wait_until(lambda: cached("ADDED"), "the cache has it", 60)
        hearing.loop.hint("services")
        hearing.wait_for_ids("ORDERS", "orders-1")

        cached_eureka.cancel("ORDERS", "orders-1")
        wait_until(lambda: cached("DELETED"), "the cache lacks it", 60)
        cached_eureka.register("ORDERS", "orders-1", "10.0.0.1", 8081)
        hearing.loop.hint("services")
        wait_until(lambda: [one.port for one in hearing.instances("ORDERS")] == [8081], "its new port is heard")
        hearing.loop.pass_now()
        assert [one.port for one in hearing.instances("ORDERS")] == [8081]
        assert hearing.report.overlay == 1

        wait_until(lambda: any(one.port == 8081 for one in cached_eureka.delta().instances), "the cache has it", 60)
        hearing.loop.pass_now()
        assert [one.port for one in hearing.instances("ORDERS")] == [8081]
        assert hearing.report.overlay == 0
        removals = [
            reading
            for reading in hearing.listener.readings[1:]
            for snapshot in reading.snapshots
            if snapshot.service == "ORDERS" and not snapshot.instances
        ]
        assert not removals


# Being let in.


def test_a_server_with_a_password_and_a_certificate_is_read(make_eureka: MakeEureka, tmp_path: Path) -> None:
    server = make_eureka(password="s3cret of some", tls=True, demand_certificate=True)
    assert server.client_pair is not None
    password = tmp_path / "password"
    password.write_text("s3cret of some\n")
    server.register("ORDERS", "orders-1", "10.0.0.1")
    with EurekaHearing(
        tmp_path,
        server.url,
        username=USER,
        password_file=password,
        ca_file=server.ca_file,
        cert_file=server.client_pair.cert_file,
        key_file=server.client_pair.key_file,
        tls_server_name=server.server_name,
    ) as hearing:
        assert hearing.ids("ORDERS") == ["orders-1"]
        password.write_text("another\n")
        wait_until(lambda: "answered 401" in hearing.loop.report().error, "it is told that we are not let in")
        assert "another" not in hearing.loop.report().error
        assert hearing.ids("ORDERS") == ["orders-1"]
        password.write_text("s3cret of some\n")
        wait_until(lambda: not hearing.loop.report().error, "we are let in again")


def test_a_server_without_deltas_is_read_whole(make_eureka: MakeEureka, tmp_path: Path) -> None:
    server = make_eureka(disable_delta=True)
    server.register("ORDERS", "orders-1", "10.0.0.1")
    server.register("ORDERS", "orders-2", "10.0.0.2")
    with EurekaHearing(tmp_path, server.url) as hearing:
        assert hearing.ids("ORDERS") == ["orders-1", "orders-2"]
        server.register("ORDERS", "orders-3", "10.0.0.3")
        hearing.wait_for_ids("ORDERS", "orders-1", "orders-2", "orders-3")
        server.cancel("ORDERS", "orders-1")
        hearing.wait_for_ids("ORDERS", "orders-2", "orders-3")
        assert hearing.report.full_reads["disabled"] >= 3
        assert hearing.loop.report().error == ""
