"""What the guard knows after a restart of the agent, with or without its state, and of two datacenters at once."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.estate import Endpoint, endpoint, endpoints, fill, host, node_of, take, take_together
from tests.integration.guard_site import DC1, PATIENCE, REVIEW, Site
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.processes import wait_until

ALL = range(60)
LONG = 3600
DC2 = "consul-dc2"


@contextmanager
def decommissioned(
    consul: Consul, folder: Path, gone: int, *clusters: str, epoch: float = LONG, release_spacing: float = 0.4
) -> Iterator[Site]:
    """A site whose registry has just lost so many of 60 instances, all but three of which are held."""
    fill(consul, ALL[:gone], node="old")
    fill(consul, ALL[gone:])
    named = clusters or (REVIEW,)
    with Site(folder, consul.url, clusters=named, epoch=epoch, release_spacing=release_spacing) as site:
        site.wait_for_first(endpoints(ALL))
        consul.deregister_node("old")
        wait_until(lambda: site.waiting()["hold"] >= gone - 3, "what one look may not remove is held", PATIENCE)
        site.wait_until_written()
        assert len(site.witness.look()) == 60 - gone + site.waiting()["hold"]
        yield site


@pytest.mark.parametrize("killed", [False, True])
def test_a_hold_goes_on_after_a_restart_and_ends_as_it_would_have(consul: Consul, tmp_path: Path, killed: bool) -> None:
    with decommissioned(consul, tmp_path, 24, release_spacing=1) as site:
        held = site.waiting()["hold"]
        wait_until(lambda: all(row["proofs"] == 2 for row in site.rows()), "two passes have proved it", PATIENCE)
        departed = set(site.witness.departed)
        site.end(killed=killed)
        site.begin()
        assert site.waiting() == {"hold": held}
        assert all(row["proofs"] == 2 and row["waited_seconds"] >= 1 for row in site.rows())
        site.wait_for(endpoints(ALL[24:]), "the third pass has proved it")
        assert departed < site.witness.departed == endpoints(ALL[:24])
        assert not site.rows()
        assert site.registry()["epoch"] == 1


def test_a_hold_that_only_an_operator_ends_outlives_restarts(consul: Consul, tmp_path: Path) -> None:
    with decommissioned(consul, tmp_path, 36) as site:
        held = site.waiting()["hold"]
        departed = set(site.witness.departed)
        for _ in range(2):
            site.end()
            site.begin()
            site.passes(2)
            assert site.waiting() == {"hold": held}
            assert site.writes() == 0
        assert site.witness.departed == departed
        assert site.agent.accept(DC1) == held
        site.wait_for(endpoints(ALL[36:]), "what was accepted has left")


@pytest.mark.parametrize("clusters", [(REVIEW,), (REVIEW, "other")])
@pytest.mark.parametrize("later", [False, True])
def test_a_hold_whose_state_is_lost_ends_as_it_would_have(
    consul: Consul, tmp_path: Path, clusters: tuple[str, ...], later: bool
) -> None:
    with decommissioned(consul, tmp_path, 24, *clusters, epoch=2, release_spacing=1) as site:
        held = site.waiting()["hold"]
        site.end()
        departed = set(site.witness.departed)
        site.lose_state()
        if later:
            hide(site)
        began = time.monotonic()
        site.begin()
        if later:
            wait_until(site.agent.view.passed, "the registry had a pass", PATIENCE)
            site.agent.loops[DC1].pass_now()
            assert site.agent.lanes[REVIEW].report().error
            show(site)
        site.wait_for_waiting("what the cluster holds and the registry does not list is held", hold=held)
        assert site.registry()["epoch"] == 2
        assert site.witness.departed == departed
        site.wait_for(endpoints(ALL[24:]), "proved missing in an epoch that is old, and more than half is left")
        assert time.monotonic() - began >= 2
        assert not site.rows()
        for cluster in clusters:
            assert len(list(site.places[cluster].glob("*.yaml"))) == 20


def hide(site: Site) -> None:
    """Make the first cluster unreadable: a file stands where its folder was."""
    folder = site.places[REVIEW]
    folder.rename(folder.with_name("hidden"))
    folder.write_text("")


def show(site: Site) -> None:
    """Make it readable again."""
    folder = site.places[REVIEW]
    folder.unlink()
    folder.with_name("hidden").rename(folder)


def test_a_hold_that_only_an_operator_ends_outlives_the_loss_of_the_state(consul: Consul, tmp_path: Path) -> None:
    with decommissioned(consul, tmp_path, 36, epoch=0.5) as site:
        held, departed = site.waiting()["hold"], set(site.witness.departed)
        site.end()
        site.lose_state()
        site.begin()
        site.wait_for_waiting("it is held again", hold=held)
        wait_until(lambda: all(row["proofs"] >= 4 for row in site.rows()), "four passes have proved it", PATIENCE)
        assert site.registry()["epoch_seconds"] >= 0.5
        assert site.witness.departed == departed
        assert site.writes() == 0
        assert site.agent.accept(DC1) == held
        site.wait_for(endpoints(ALL[36:]), "what was accepted has left")


@pytest.mark.parametrize("gone", [1, 5])
def test_what_vanishes_while_the_state_is_lost_is_held_however_little(
    consul: Consul, tmp_path: Path, gone: int
) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url, epoch=2) as site:
        site.wait_for_first(endpoints(ALL))
        site.end()
        site.lose_state()
        take(consul, ALL[:gone])
        began = time.monotonic()
        site.begin()
        site.wait_for_waiting("no registry lists it", hold=gone)
        assert not site.witness.departed
        assert site.writes() == 0
        site.wait_for(endpoints(ALL[gone:]), "proved missing in an epoch that is old")
        assert time.monotonic() - began >= 2
        assert not site.rows()


def test_a_lost_state_and_a_registry_that_is_empty_remove_nothing(consul: Consul, tmp_path: Path) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url, epoch=0.5) as site:
        site.wait_for_first(endpoints(ALL))
        site.end()
        site.lose_state()
        consul.kill()
        site.begin()
        site.wait_for_error(DC1)
        wait_until(lambda: site.agent.lanes[REVIEW].report().read, "the cluster was read", PATIENCE)
        consul.start()
        site.wait_for_waiting("all is held", hold=60)
        wait_until(lambda: all(row["proofs"] >= 4 for row in site.rows()), "four passes have proved it", PATIENCE)
        assert not site.witness.departed
        fill(consul, ALL)
        site.wait_for_waiting("all is back")
        site.passes(1)
        assert site.witness.look() == endpoints(ALL)
        assert not site.witness.departed


def test_a_grace_goes_on_after_a_restart(consul: Consul, tmp_path: Path) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url, empty_grace=4) as site:
        site.wait_for_first(endpoints(ALL))
        began = time.monotonic()
        take_together(consul, [4, 24, 44])
        site.wait_for_waiting("the host would have none", grace=3)
        wait_until(lambda: all(row["waited_seconds"] >= 1 for row in site.rows()), "it waits", PATIENCE)
        site.end()
        site.begin()
        assert all(1 <= row["waited_seconds"] < 4 for row in site.rows())
        site.wait_for_waiting("it still waits", grace=3)
        assert not site.witness.departed
        site.wait_for(endpoints(n for n in ALL if n % 20 != 4), "grace is over")
        assert time.monotonic() - began >= 4
        assert not site.rows()


def test_a_grace_whose_state_is_lost_is_held_and_ends(consul: Consul, tmp_path: Path) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url, empty_grace=2, epoch=1) as site:
        site.wait_for_first(endpoints(ALL))
        take_together(consul, [4, 24, 44])
        site.wait_for_waiting("the host would have none", grace=3)
        site.end()
        site.lose_state()
        site.begin()
        site.wait_for_waiting("no registry lists it", hold=3)
        assert not site.witness.departed
        site.wait_for(endpoints(n for n in ALL if n % 20 != 4), "proved missing; the time that it was held counts")
        assert not site.rows()


def test_a_grace_that_ends_while_no_agent_runs_is_no_reason_to_remove_what_has_come_back(
    consul: Consul, tmp_path: Path
) -> None:
    fill(consul, ALL)
    with Site(tmp_path, consul.url, empty_grace=1) as site:
        site.wait_for_first(endpoints(ALL))
        take_together(consul, [4, 24, 44])
        site.wait_for_waiting("the host would have none", grace=3)
        consul.pause()
        site.end()
        site.begin()
        # What has elapsed ends the grace in what is believed, but nothing leaves before this start's first pass.
        site.nothing_leaves_for(2)
        consul.resume()
        fill(consul, [4, 24, 44])
        site.wait_for(endpoints(ALL), "all is there")
        site.passes(2)
        assert not site.rows()


def test_a_registry_that_began_anew_while_no_agent_ran_is_known_by_its_lists(
    make_consul: MakeConsul, tmp_path: Path
) -> None:
    """No service's index tells it: the new ones are higher by then, those of the lists are not yet."""
    consul = make_consul(dev=False)
    fill(consul, ALL)
    services = consul.index("/v1/catalog/services")
    add_nodes(consul, 200)
    with Site(tmp_path / "site", consul.url, baseline=1, sweep=0.2) as site:
        site.wait_for_first(endpoints(ALL))
        wait_until(lambda: stored_index(site) >= consul.index("/v1/catalog/nodes"), "it is remembered", PATIENCE)
        site.end()
        consul.wipe()
        add_nodes(consul, services)
        fill(consul, ALL[2:])
        site.begin()
        wait_until(lambda: site.waiting().get("hold") == 2, "what the new life lacks is held", PATIENCE)
        assert site.registry()["epoch"] == 2
        assert site.witness.departed == frozenset()


def add_nodes(consul: Consul, number: int) -> None:
    """Add nodes without services, each of which moves the index of the list of nodes."""
    with httpx.Client(base_url=consul.url, trust_env=False) as client:
        for one in range(number):
            body = {"Node": f"empty-{one}", "Address": "10.9.9.9"}
            assert client.put("/v1/catalog/register", json=body).is_success


def stored_index(site: Site) -> int:
    with closing(sqlite3.connect(site.config.state)) as database:
        return max((int(index) for (index,) in database.execute("SELECT consul_index FROM registry")), default=0)


def test_two_datacenters_are_two_registries_that_share_hosts(make_consul: MakeConsul, tmp_path: Path) -> None:
    dc1, dc2 = make_consul(), make_consul(datacenter="dc2")
    fill(dc1, range(20))
    fill(dc2, range(20, 40))
    dc1.register("svc-0", "shared", address="10.0.9.1", port=8080, node="shared")
    dc2.register("svc-0", "shared", address="10.0.9.1", port=8080, node="shared")
    shared = (host("svc-0"), "10.0.9.1")
    names = {DC1: {"datacenter": "dc1"}, DC2: {"datacenter": "dc2"}}
    with Site(tmp_path / "site", dc1.url, dc2.url, registries=names, empty_grace=LONG) as site:
        there: set[Endpoint] = endpoints(range(40)) | {shared}
        site.wait_for_first(there)

        # One datacenter's last instance of a host leaves at once while the other has one.
        take(dc1, [4])
        there -= {endpoint(4)}
        site.wait_for(there, "the host has another")
        take(dc2, [24])
        site.wait_for_waiting("the host would have none", DC2, grace=1)
        assert not site.rows(DC1)

        # An endpoint of both follows the most pessimistic word, and stays while one of them lists it.
        dc2.set_status("shared", "critical", node="shared")
        site.wait_for(there - {shared}, "one of them says critical")
        dc2.set_status("shared", "passing", node="shared")
        site.wait_for(there, "both say passing")
        dc1.deregister("shared", node="shared")
        site.passes(1, DC1)
        assert site.witness.look() == there

        # One that cannot be read, and then comes back empty, keeps its instances and holds up nobody else.
        dc2.kill()
        site.wait_for_error(name=DC2)
        dc1.set_status("i-5", "critical", node=node_of(5))
        take(dc1, [6])
        site.wait_for(there - {endpoint(5), endpoint(6)}, "what the other registry says is done")
        there -= {endpoint(5), endpoint(6)}
        dc2.start()
        site.wait_for_waiting("all of the other datacenter is held", DC2, hold=20, grace=1)
        take(dc1, [7])
        there -= {endpoint(7)}
        site.wait_for(there, "a host with what is held has another")
        assert not site.rows(DC1)
        assert site.registry(DC1)["epoch"] == 1
        fill(dc2, range(20, 40))
        dc2.register("svc-0", "shared", address="10.0.9.1", port=8080, node="shared")
        site.wait_for_waiting("all is back", DC2)
        site.passes(1, DC2)
        assert site.witness.look() == there
