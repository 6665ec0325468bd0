"""What the guard lets through and what it holds, on a real Consul: wipes, panic and grace."""

import time
from pathlib import Path

from tests.integration.estate import endpoint, endpoints, fill, flip_together, host, node_of, take, take_together
from tests.integration.guard_site import DC1, PATIENCE, Site
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.processes import wait_until

ALL = range(60)
LONG = 3600


def test_a_registry_wiped_at_once_loses_nothing_until_an_operator_accepts(
    make_consul: MakeConsul, tmp_path: Path
) -> None:
    consul = make_consul(dev=False)
    fill(consul, ALL)
    with Site(tmp_path / "site", consul.url, epoch=1, service_entry_grace=1) as site:
        site.wait_for_first(endpoints(ALL))
        written = site.writes()
        consul.wipe()
        site.wait_for_waiting("all is held", hold=60)
        assert site.registry()["epoch"] == 2
        # Proofs and an old epoch help nothing, as nothing would be left.
        wait_until(lambda: all(row["proofs"] >= 4 for row in site.rows()), "four passes have proved it", PATIENCE)
        assert site.registry()["epoch_seconds"] > 1
        assert site.waiting() == {"hold": 60}
        # A list that was asked for before there was a leader can be the last to be answered.
        wait_until(
            lambda: all("Only `isthmus accept" in row["ends"] for row in site.rows()), "readable again", PATIENCE
        )
        assert site.writes() == written
        assert not site.witness.departed

        # One accepted removal does not let the others go, and what is seen again is simply there.
        hold = next(row["hold"] for row in site.rows() if row["id"] == "i-7")
        assert site.agent.accept(DC1, hold) == 1
        site.wait_for(endpoints(ALL) - {endpoint(7)}, "one has left")
        fill(consul, range(10, 20))
        site.wait_for_waiting("ten are back", hold=49)
        site.passes(4)
        assert site.waiting() == {"hold": 49}
        assert site.witness.departed == {endpoint(7)}
        assert site.writes() == written + 1

        assert site.agent.accept(DC1) == 49
        site.wait_for(endpoints(range(10, 20)), "what was accepted has left")
        assert not site.rows()
        files = site.places["review"]
        wait_until(lambda: len(list(files.glob("*.yaml"))) == 10, "hosts that nobody needs have gone", PATIENCE)


def test_a_registry_wiped_service_by_service_loses_no_more_than_the_shares_allow(
    consul: Consul, tmp_path: Path
) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url, release_spacing=LONG) as site:
        site.wait_for_first(endpoints(ALL))
        for service in range(20):
            take(consul, range(service, 60, 20))
            gone = 3 * (service + 1)
            believed = min(18, gone)
            wait_until(
                lambda gone=gone, believed=believed: (
                    site.waiting()["hold"] == gone - believed  # type: ignore[misc]
                    and site.registry()["present"]["now"] == 60 - gone
                    and not site.waiting()["look"]
                ),
                f"{gone} were judged: {site.waiting()}",
                PATIENCE,
            )
        kept = [number for number in ALL if number % 20 >= 6]
        site.wait_for(endpoints(kept), "what was believed has left, after its grace")
        assert site.waiting() == {"hold": 42}
        site.passes(4)
        assert site.witness.departed == endpoints(ALL) - endpoints(kept)
        assert site.agent.accept(DC1) == 42
        site.wait_for((), "what was accepted has left")
        assert not site.rows()


def test_a_registry_restarted_empty_and_refilled_leaves_no_trace(consul: Consul, tmp_path: Path) -> None:
    fill(consul, ALL)
    # A young epoch releases nothing, also not when half is back.
    with Site(tmp_path, consul.url, epoch=600) as site:
        site.wait_for_first(endpoints(ALL))
        written = site.writes()
        consul.restart()
        site.wait_for_waiting("all is held", hold=60)
        site.nothing_leaves_for(1)
        fill(consul, ALL[:30])
        site.wait_for_waiting("half of it is back", hold=30)
        fill(consul, ALL[30:])
        site.wait_for_waiting("all is back")
        site.passes(2)
        site.wait_until_written()
        assert site.witness.look() == endpoints(ALL)
        assert not site.witness.departed
        assert site.writes() == written
        # The new epoch is as good as the old one: what leaves now is judged as ever.
        take(consul, [0])
        site.wait_for(endpoints(ALL[1:]), "what has left later is gone")


def test_a_registry_that_was_only_restarted_lives_on(make_consul: MakeConsul, tmp_path: Path) -> None:
    consul = make_consul(dev=False)
    fill(consul, ALL)
    with Site(tmp_path / "site", consul.url) as site:
        site.wait_for_first(endpoints(ALL))
        written = site.writes()
        consul.stop()
        site.wait_for_error(DC1)
        consul.start()
        site.wait_for_recovery()
        # A server that still replays its log may answer with index 1, which begins an epoch (seen): all of it is back.
        assert site.registry()["epoch"] <= 2
        assert site.writes() == written
        assert not site.rows()
        take(consul, [0])
        site.wait_for(endpoints(ALL[1:]), "what has left later is gone")


def test_a_registry_wiped_while_no_agent_runs_is_noticed_by_its_index(make_consul: MakeConsul, tmp_path: Path) -> None:
    consul = make_consul(dev=False)
    fill(consul, ALL)
    for _ in range(20):  # the new life must not have got as far as the old one
        flip_together(consul, [0], "warning")
        flip_together(consul, [0], "passing")
    with Site(tmp_path / "site", consul.url, epoch=1) as site:
        site.wait_for_first(endpoints(ALL))
        site.wait_until_written()
        site.end()
        consul.wipe()
        fill(consul, ALL[:58])
        site.begin()
        site.wait_for_waiting("what this life has not shown is held, however little", hold=2)
        assert site.registry()["epoch"] == 2
        assert site.writes() == 0
        assert not site.witness.departed
        site.wait_for(endpoints(ALL[:58]), "proved missing, and more than half is left")
        assert not site.rows()


def test_a_check_that_flaps_a_thousand_times_ends_right(consul: Consul, tmp_path: Path) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url) as site:
        site.wait_for_first(endpoints(ALL))
        for number in range(1001):
            consul.set_status("i-5", ("critical", "passing")[number % 2], node=node_of(5))
        site.wait_for(endpoints(ALL) - {endpoint(5)}, "it has ended critical")
        for number in range(1, 100):
            consul.set_status("i-5", ("critical", "passing")[number % 2], node=node_of(5))
        site.wait_for(endpoints(ALL), "it has ended passing")
        site.passes(1)
        assert site.witness.departed <= {endpoint(5)}
        assert site.registry()["epoch"] == 1
        assert site.registry()["error"] == ""
        assert not site.rows()


def test_checks_that_fail_together_leave_what_they_would_halve_until_half_is_healthy(
    consul: Consul, tmp_path: Path
) -> None:
    fill(consul, range(20), services=1)
    with Site(tmp_path, consul.url) as site:
        site.wait_for_first(endpoints(range(20), 1))
        written = site.writes()
        flip_together(consul, range(12), "critical", services=1)
        site.wait_for_waiting("all that fail together are held", panic=12)
        site.passes(4)
        assert site.waiting() == {"panic": 12}
        assert not site.witness.departed
        assert site.writes() == written
        consul.set_status("i-0", "passing", node=node_of(0))
        site.wait_for_waiting("one is healthy again", panic=11)
        consul.set_status("i-1", "passing", node=node_of(1))
        site.wait_for(endpoints([0, 1, *range(12, 20)], 1), "half would be left again")
        assert site.witness.departed == endpoints(range(2, 12), 1)
        assert not site.rows()
        flip_together(consul, range(2, 12), "passing", services=1)
        site.wait_for(endpoints(range(20), 1), "all is there again")


def test_checks_that_fail_one_after_another_leave_half(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(20))
    with Site(tmp_path, consul.url) as site:
        site.wait_for_first(endpoints(range(20)))
        for number in range(12):
            consul.set_status(f"i-{number}", "critical", node=node_of(number))
            site.wait_for_waiting(f"{number + 1} are critical", panic=max(0, number - 9))
            site.wait_for(endpoints(range(min(number + 1, 10), 20)), "half of them at most has left")
        assert site.agent.accept(DC1) == 2
        site.wait_for(endpoints(range(12, 20)), "what was accepted has left")


def test_the_last_instances_of_a_host_stay_for_the_grace_and_leave(consul: Consul, tmp_path: Path) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url, empty_grace=2) as site:
        site.wait_for_first(endpoints(ALL))
        began = time.monotonic()
        take_together(consul, [4, 24, 44])
        site.wait_for_waiting("the host would have none", grace=3)
        assert not site.witness.departed
        site.wait_for(endpoints(n for n in ALL if n % 20 != 4), "grace is over")
        assert time.monotonic() - began >= 2
        assert not site.rows()


def test_a_host_that_gets_another_instance_ends_the_grace_at_once(consul: Consul, tmp_path: Path) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url, empty_grace=LONG) as site:
        site.wait_for_first(endpoints(ALL))
        take_together(consul, [4, 24, 44])
        site.wait_for_waiting("the host would have none", grace=3)
        site.passes(2)
        assert not site.witness.departed
        consul.register("svc-4", "green", address="10.0.9.9", port=8080, node="green", status="critical")
        site.passes(1)
        assert site.waiting() == {"grace": 3}
        consul.set_status("green", "passing", node="green")
        others = endpoints(n for n in ALL if n % 20 != 4)
        site.wait_for(others | {(host("svc-4"), "10.0.9.9")}, "the host has another")
        assert not site.rows()
        assert site.witness.departed == endpoints([4, 24, 44])


def test_the_last_instances_of_a_host_leave_at_once_when_they_are_critical(consul: Consul, tmp_path: Path) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url, empty_grace=LONG) as site:
        site.wait_for_first(endpoints(ALL))
        flip_together(consul, [4, 24, 44], "critical")
        site.wait_for(endpoints(n for n in ALL if n % 20 != 4), "critical ones have left")
        consul.maintenance("i-5", node=node_of(5))
        consul.maintenance("i-25", node=node_of(25))
        consul.maintenance("i-45", node=node_of(45))
        site.wait_for(endpoints(n for n in ALL if n % 20 not in (4, 5)), "those in maintenance have left")
        assert not site.rows()
        assert (site.places["review"] / f"{host('svc-4')}.yaml").exists(), "the host is still needed"
