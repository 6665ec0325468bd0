"""Real Eureka servers that die, come back empty, or know less than others: nothing healthy is removed."""

from collections.abc import Iterable
from pathlib import Path

from state.model import Reason
from tests.eureka_hearing import EurekaHearing
from tests.testbed.eureka import Eureka, MakeEureka, MakeEurekaPeers
from tests.testbed.processes import wait_until

APPS = ("BILLING", "ORDERS", "USERS")
ALL = range(12)


def fill(server: Eureka, numbers: Iterable[int] = ALL) -> None:
    """Register instances by their numbers, spread over the applications."""
    for number in numbers:
        server.register(APPS[number % len(APPS)], f"i-{number}", f"10.0.0.{number + 1}")


def renew(server: Eureka) -> bool:
    """Renew what `fill` registered, whereupon a peer that missed something asks for it."""
    return all(server.renew(APPS[number % len(APPS)], f"i-{number}") for number in ALL)


def has_all(server: Eureka) -> bool:
    """Tell whether a server has all of them: its cache may not know for 180 s what came while it was being filled."""
    return all(server.instance(APPS[number % len(APPS)], f"i-{number}") for number in ALL)


def believed(hearing: EurekaHearing) -> set[str]:
    """Return the IDs of all believed instances."""
    return {id_ for app in APPS for id_ in hearing.ids(app)}


def ids(numbers: Iterable[int]) -> set[str]:
    return {f"i-{number}" for number in numbers}


# Another life of the data.


def test_an_empty_server_whose_instances_come_back_loses_none(make_eureka: MakeEureka, tmp_path: Path) -> None:
    server = make_eureka()
    fill(server)
    with EurekaHearing(tmp_path, server.url) as hearing:
        hearing.wait_for_polls()
        server.restart()
        wait_until(lambda: hearing.epoch == 2, "another epoch has begun")
        wait_until(lambda: len(hearing.waiting()) == len(ALL), "everything is held")
        assert set(hearing.waiting().values()) == {Reason.HOLD}
        assert believed(hearing) == ids(ALL)
        fill(server)
        wait_until(lambda: not hearing.waiting(), "nothing waits any more")
        assert believed(hearing) == ids(ALL)
        assert hearing.epoch == 2
        assert hearing.report.full_reads["epoch"] == 1
        assert not hearing.report.shared


def test_what_left_while_the_server_was_down_is_held(make_eureka: MakeEureka, tmp_path: Path) -> None:
    server = make_eureka()
    fill(server)
    with EurekaHearing(tmp_path, server.url) as hearing:
        hearing.wait_for_polls()
        server.kill()
        wait_until(lambda: bool(hearing.loop.report().error), "it cannot be read")
        assert believed(hearing) == ids(ALL)
        server.start()
        fill(server, ALL[1:])
        wait_until(lambda: hearing.waiting() == {"i-0": Reason.HOLD}, "one is held, and that alone")
        assert hearing.loop.report().error == ""
        assert believed(hearing) == ids(ALL)


def test_versions_are_remembered_over_a_restart_of_ours(make_eureka: MakeEureka, tmp_path: Path) -> None:
    server = make_eureka()
    with EurekaHearing(tmp_path, server.url) as hearing:
        for number in ALL:
            fill(server, [number])
            wait_until(lambda: believed(hearing) == ids(range(number + 1)), "it is heard")  # noqa: B023
        last = hearing.loop.report().index
        assert last > len(ALL) / 2
    server.restart()
    fill(server, ALL[1:])
    with EurekaHearing(tmp_path, server.url) as hearing:
        assert hearing.epoch == 2
        wait_until(lambda: hearing.waiting() == {"i-0": Reason.HOLD}, "what it did not show again is held")
        assert 0 < hearing.loop.report().index < last
        assert believed(hearing) == ids(ALL)


def test_a_restart_of_ours_alone_is_no_epoch(eureka: Eureka, tmp_path: Path) -> None:
    fill(eureka)
    with EurekaHearing(tmp_path, eureka.url):
        pass
    eureka.cancel("BILLING", "i-0")
    with EurekaHearing(tmp_path, eureka.url) as hearing:
        wait_until(lambda: believed(hearing) == ids(ALL[1:]), "what left meanwhile is gone")
        assert hearing.epoch == 1
        assert not hearing.waiting()


# Servers that cannot be read.


def test_a_silent_server_costs_nothing_and_comes_back(make_eureka: MakeEureka, tmp_path: Path) -> None:
    server = make_eureka()
    fill(server)
    with EurekaHearing(tmp_path, server.url, limits={"read_timeout": 0.5, "connect_timeout": 0.5}) as hearing:
        server.pause()
        wait_until(lambda: bool(hearing.loop.report().error), "it cannot be read")
        assert "no answer within" in hearing.loop.report().error
        assert believed(hearing) == ids(ALL)
        server.resume()
        wait_until(lambda: not hearing.loop.report().error, "it is readable again")
        server.cancel("BILLING", "i-0")
        wait_until(lambda: believed(hearing) == ids(ALL[1:]), "a change is heard")
        assert hearing.epoch == 1
        assert not hearing.waiting()


def test_another_peer_is_read_when_one_dies(make_eureka_peers: MakeEurekaPeers, tmp_path: Path) -> None:
    first, second = make_eureka_peers()
    fill(first)
    wait_until(lambda: renew(first) and has_all(second), "the other peer has them all")
    with EurekaHearing(tmp_path, first.url, second.url) as hearing:
        assert hearing.report.server == first.url
        first.kill()
        second.register("ORDERS", "i-12", "10.0.0.13")
        wait_until(lambda: believed(hearing) == ids(range(13)), "what the other peer hears is believed")
        wait_until(lambda: hearing.report.server == second.url, "the turn is over")
        assert hearing.report.full_reads == {"start": 1, "server": 1}
        assert hearing.loop.report().error == ""
        assert hearing.epoch == 1
        assert not hearing.waiting()
        first.start()
        hearing.wait_for_polls()
        assert hearing.report.server == second.url
        second.kill()
        wait_until(lambda: hearing.report.server == first.url, "the first peer is read again")
        assert believed(hearing) == ids(range(13))


def test_one_that_another_server_lacks_is_asked_for_twice(make_eureka: MakeEureka, tmp_path: Path) -> None:
    whole, part = make_eureka(), make_eureka()
    fill(whole)
    fill(part, ALL[1:])
    with EurekaHearing(tmp_path, whole.url, part.url) as hearing:
        whole.kill()
        wait_until(lambda: believed(hearing) == ids(ALL[1:]), "what the second server lacks is gone")
        billing = [s for r in hearing.listener.readings for s in r.snapshots if s.service == "BILLING"]
        missing = [snapshot for snapshot in billing if all(one.key.id != "i-0" for one in snapshot.instances)]
        assert [key.id for key in missing[0].unread] == ["i-0"]
        assert not missing[-1].unread


def test_a_server_with_half_the_registry_removes_nothing(
    eureka: Eureka, make_eureka: MakeEureka, tmp_path: Path
) -> None:
    other = make_eureka()
    fill(other)
    fill(eureka, ALL[::2])
    with EurekaHearing(tmp_path, other.url, eureka.url) as hearing:
        other.kill()
        wait_until(lambda: set(hearing.waiting().values()) == {Reason.HOLD}, "half is held")
        assert set(hearing.waiting()) == ids(ALL[1::2])
        assert believed(hearing) == ids(ALL)
