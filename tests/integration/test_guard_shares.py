"""How much may leave a real Consul at once, with the next pass, after three passes, and only by an operator."""

import time
from pathlib import Path

import pytest

from state.errors import RegistryError
from tests.integration.estate import endpoints, fill, node_of, take
from tests.integration.guard_site import DC1, PATIENCE, Site
from tests.testbed.consul import Consul
from tests.testbed.processes import wait_until

ALL = range(60)
LONG = 3600


@pytest.mark.parametrize("gone", [6, 17, 18])
def test_a_decommissioning_of_up_to_30_per_cent_is_believed_by_the_next_pass(
    consul: Consul, tmp_path: Path, caplog: pytest.LogCaptureFixture, gone: int
) -> None:
    fill(consul, ALL[:gone], node="old")
    fill(consul, ALL[gone:])
    with Site(tmp_path, consul.url, release_spacing=LONG) as site:
        site.wait_for_first(endpoints(ALL))
        consul.deregister_node("old")
        site.wait_for(endpoints(ALL[gone:]), "what was decommissioned has left")
        site.passes(1)
        assert not site.rows()
        assert site.witness.departed == endpoints(ALL[:gone])
    assert "is held" not in caplog.text


@pytest.mark.parametrize("gone", [19, 24, 30])
def test_a_decommissioning_of_up_to_half_is_held_until_three_passes_have_proved_it(
    consul: Consul, tmp_path: Path, gone: int
) -> None:
    fill(consul, ALL[:gone], node="old")
    fill(consul, ALL[gone:])
    with Site(tmp_path, consul.url, release_spacing=1) as site:
        site.wait_for_first(endpoints(ALL))
        began = time.monotonic()
        consul.deregister_node("old")
        wait_until(lambda: site.waiting()["hold"] >= gone - 3, "what one look may not remove is held", PATIENCE)
        departed = set(site.witness.departed)
        assert len(departed) <= 3
        assert site.waiting() == {"hold": gone - len(departed)}
        site.wait_for(endpoints(ALL[gone:]), "proved missing, and half is left")
        assert time.monotonic() - began >= 2
        assert not site.rows()
        assert site.witness.departed == endpoints(ALL[:gone])
        assert site.registry()["present"] == {"now": 60 - gone, "baseline": 60 - gone}


@pytest.mark.parametrize("gone", [31, 36])
def test_a_decommissioning_of_more_than_half_waits_for_an_operator(consul: Consul, tmp_path: Path, gone: int) -> None:
    fill(consul, ALL[:gone], node="old")
    fill(consul, ALL[gone:])
    with Site(tmp_path, consul.url) as site:
        site.wait_for_first(endpoints(ALL))
        consul.deregister_node("old")
        wait_until(
            lambda: sum(row["proofs"] >= 4 for row in site.rows()) >= gone - 3, "four passes have proved it", PATIENCE
        )
        held = site.waiting()["hold"]
        assert site.waiting() == {"hold": held}
        assert len(site.witness.departed) == gone - held <= 3
        assert site.agent.accept(DC1) == held
        site.wait_for(endpoints(ALL[gone:]), "what was accepted has left")
        assert not site.rows()
        # The release has set the baseline to what is left.
        assert site.registry()["present"] == {"now": 60 - gone, "baseline": 60 - gone}
        take(consul, range(gone, gone + 7))
        site.wait_for(endpoints(ALL[gone + 7 :]), "a further 30 % is no more than that")


def test_a_decommissioning_in_a_tight_loop_loses_no_more_than_30_per_cent_before_it_is_held(
    consul: Consul, tmp_path: Path
) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url, release_spacing=LONG) as site:
        site.wait_for_first(endpoints(ALL))
        take(consul, ALL[:36])
        wait_until(
            lambda: site.registry()["present"]["now"] == 24 and set(site.waiting()) == {"hold"},
            "all were judged",
            PATIENCE,
        )
        site.passes(1)
        held = site.waiting()["hold"]
        assert 18 <= held <= 36
        assert len(site.witness.look()) == 24 + held
        assert site.witness.departed < endpoints(ALL[:36])
        fill(consul, ALL)
        site.wait_for(endpoints(ALL), "all is there again")
        site.wait_for_waiting("nothing waits any more")


def test_a_registry_of_ten_that_is_emptied_waits_for_an_operator(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(10), services=5, node="old")
    with Site(tmp_path, consul.url) as site:
        site.wait_for_first(endpoints(range(10), 5))
        consul.deregister_node("old")
        wait_until(
            lambda: [row["proofs"] >= 4 for row in site.rows()] == [True] * 10, "four passes have proved it", PATIENCE
        )
        assert not site.witness.departed
        assert site.agent.accept(DC1) == 10
        site.wait_for((), "what was accepted has left")
        assert not site.rows()


@pytest.mark.parametrize("count", [1, 9])
def test_a_registry_of_fewer_than_ten_that_is_emptied_is_held_until_three_passes_have_proved_it(
    consul: Consul, tmp_path: Path, count: int
) -> None:
    fill(consul, range(count), services=5, node="old")
    with Site(tmp_path, consul.url, release_spacing=1) as site:
        site.wait_for_first(endpoints(range(count), 5))
        began = time.monotonic()
        consul.deregister_node("old")
        site.wait_for_waiting("all is held", hold=count)
        assert not site.witness.departed
        site.wait_for((), "proved missing; the time that it was held was its grace")
        assert time.monotonic() - began >= 2
        assert not site.rows()


@pytest.mark.parametrize("back", [True, False])
def test_a_rack_whose_nodes_are_all_critical_is_held(consul: Consul, tmp_path: Path, back: bool) -> None:
    rack = [number for number in ALL if number % 10 < 4]
    nodes = sorted({node_of(number) for number in rack})
    fill(consul, ALL)
    with Site(tmp_path, consul.url, release_spacing=LONG if back else 0.5) as site:
        site.wait_for_first(endpoints(ALL))
        checks = [{"Node": node, "CheckID": "serfHealth", "Name": "serfHealth"} for node in nodes]

        def flip(status: str) -> None:
            changes = [{"Check": {"Verb": "set", "Check": check | {"Status": status}}} for check in checks]
            consul.request("PUT", "/v1/txn", changes)

        flip("passing")
        flip("critical")
        wait_until(lambda: site.waiting()["hold"] >= 21, "what one look may not remove is held", PATIENCE)
        departed = set(site.witness.departed)
        assert len(departed) <= 3
        assert site.waiting() == {"hold": 24 - len(departed)}
        if back:
            site.nothing_leaves_for(0.5)
            flip("passing")
            site.wait_for(endpoints(ALL), "all is there again")
        else:
            site.wait_for(endpoints(ALL) - endpoints(rack), "proved critical, and half is left")
            flip("passing")
            site.wait_for(endpoints(ALL), "all is there again")
            departed = endpoints(rack)
        assert site.witness.departed == departed
        site.wait_for_waiting("nothing waits any more")


def test_green_beside_blue_moves_no_baseline(consul: Consul, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(consul, ALL, node="blue")
    with Site(tmp_path, consul.url, release_spacing=LONG) as site:
        site.wait_for_first(endpoints(ALL))
        fill(consul, range(100, 160), node="green")
        site.wait_for(endpoints([*ALL, *range(100, 160)]), "green is there")
        consul.deregister_node("blue")
        site.wait_for(endpoints(range(100, 160)), "blue has left")
        assert not site.rows()
    assert "is held" not in caplog.text


def test_two_decommissionings_soon_after_one_another_add_up(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(12), node="one")
    fill(consul, range(12, 24), node="other")
    fill(consul, ALL[24:])
    with Site(tmp_path, consul.url, release_spacing=LONG) as site:
        site.wait_for_first(endpoints(ALL))
        consul.deregister_node("one")
        site.wait_for(endpoints(ALL[12:]), "20 % have left")
        consul.deregister_node("other")
        site.wait_for_waiting("40 % in all are too many", hold=12)
        site.passes(2)
        assert site.witness.departed == endpoints(range(12))


def test_two_decommissionings_with_time_between_them_do_not_add_up(consul: Consul, tmp_path: Path) -> None:
    fill(consul, range(12), node="one")
    fill(consul, range(12, 24), node="other")
    fill(consul, ALL[24:])
    with Site(tmp_path, consul.url, release_spacing=LONG, baseline=1) as site:
        site.wait_for_first(endpoints(ALL))
        consul.deregister_node("one")
        site.wait_for(endpoints(ALL[12:]), "20 % have left")
        wait_until(lambda: site.registry()["present"]["baseline"] == 48, "the baseline follows", PATIENCE)
        consul.deregister_node("other")
        site.wait_for(endpoints(ALL[24:]), "a further 25 % have left")
        assert not site.rows()


def test_a_baseline_does_not_shrink_while_anything_is_held(consul: Consul, tmp_path: Path) -> None:
    fill(consul, ALL[:36], node="old")
    fill(consul, ALL[36:])
    with Site(tmp_path, consul.url, baseline=1) as site:
        site.wait_for_first(endpoints(ALL))
        consul.deregister_node("old")
        wait_until(lambda: sum(row["proofs"] >= 4 for row in site.rows()) >= 33, "passes have proved it", PATIENCE)
        wait_until(lambda: min(row["waited_seconds"] for row in site.rows()) > 2.5, "time goes by", PATIENCE)
        assert site.registry()["present"] == {"now": 24, "baseline": 60}
        assert len(site.witness.departed) <= 3
        # What comes does not let go of what is held, unless half is left again.
        fill(consul, range(100, 105), node="new")
        site.passes(4)
        assert len(site.witness.departed) <= 3
        fill(consul, [105], node="new")
        site.wait_for(endpoints([*ALL[36:], *range(100, 106)]), "half is left, and passes have proved it")


def test_what_an_operator_accepts_while_the_registry_cannot_be_read_is_not_accepted(
    consul: Consul, tmp_path: Path
) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url) as site:
        site.wait_for_first(endpoints(ALL))
        consul.restart()
        site.wait_for_waiting("all is held", hold=60)
        consul.kill()
        site.wait_for_error(DC1)
        with pytest.raises(RegistryError, match=DC1):
            site.agent.accept(DC1)
        consul.start()
        site.wait_for_recovery()
        site.passes(2)
        assert site.waiting() == {"hold": 60}
        assert not site.witness.departed
