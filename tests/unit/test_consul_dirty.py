import itertools
import time

import pytest

from hooks.consul.dirty import Dirty, Mark, too_many
from hooks.consul.recent import Recent
from hooks.consul.timetable import Timetable
from hooks.found import CONSUL_SOURCES, Found, Source, Tally
from state.limits import Limits


@pytest.fixture
def tally() -> Tally:
    return Tally(CONSUL_SOURCES)


@pytest.fixture
def dirty(tally: Tally) -> Dirty:
    return Dirty((1.0, 5.0), tally)


# What is dirty.


def test_what_is_marked_first_is_taken_first(dirty: Dirty) -> None:
    dirty.mark(["b"], Source.HINT, 1.0)
    dirty.mark(["a"], Source.STATUS, 2.0)
    assert dirty.take() == ("b", Mark(1.0, Source.HINT))
    assert dirty.take() == ("a", Mark(2.0, Source.STATUS))
    assert dirty.take() is None


def test_the_first_to_mark_a_service_counts(dirty: Dirty, tally: Tally) -> None:
    dirty.mark(["a"], Source.PARKED, 1.0)
    for _ in range(200):
        dirty.mark(["a", "b"], Source.HINT, 2.0)
    assert dirty.take() == ("a", Mark(1.0, Source.PARKED))
    assert {source: one.wakeups for source, one in tally.report().items() if one.wakeups} == {
        Source.PARKED: 1,
        Source.HINT: 1,
    }


def test_what_is_marked_while_it_is_read_is_read_again(dirty: Dirty) -> None:
    dirty.mark(["a"], Source.PARKED, 1.0)
    dirty.take()
    dirty.mark(["a"], Source.HINT, 2.0)
    dirty.read("a")
    assert dirty.take() == ("a", Mark(2.0, Source.HINT))


def test_a_reading_that_came_to_nothing_is_nobodys_wakeup(dirty: Dirty, tally: Tally) -> None:
    dirty.restore(["a"], Mark(1.0, Source.LIST))
    assert dirty.take() == ("a", Mark(1.0, Source.LIST))
    assert tally.report()[Source.LIST] == Found()


# What cannot be read.


def failing(dirty: Dirty, *services: str) -> None:
    for service in services:
        dirty.mark([service], Source.STATUS, 1.0)
        taken = dirty.take()
        assert taken is not None
        dirty.failed(*taken, 10.0, "500")


def test_what_cannot_be_read_waits_for_an_answer_and_keeps_its_mark(dirty: Dirty) -> None:
    failing(dirty, "a")
    dirty.mark(["a"], Source.HINT, 20.0)
    assert dirty.take() is None
    assert dirty.suspects() == {"a"}
    assert dirty.next_suspect() == ("a", 11.0)
    dirty.answered("a")
    assert dirty.next_suspect() == ("", float("inf"))
    assert dirty.has_answered("a")
    assert dirty.failing() == {"a"}, "as long as it has not been read"
    assert dirty.take() is None, "what never failed goes first"
    assert dirty.take(answered=True) == ("a", Mark(1.0, Source.STATUS))
    dirty.read("a")
    assert (dirty.failing(), dirty.troubles(), dirty.has_answered("a")) == (set(), {}, False)


def test_what_does_not_answer_is_asked_less_and_less(dirty: Dirty) -> None:
    failing(dirty, "a")
    dirty.still_failed("a", 20.0, "no answer")
    assert dirty.next_suspect() == ("a", 25.0)
    dirty.still_failed("a", 30.0, "no answer")
    assert dirty.next_suspect() == ("a", 35.0)
    assert dirty.troubles() == {"a": "no answer"}
    dirty.hurry()
    assert dirty.next_suspect() == ("a", 0.0)


def test_suspects_take_turns(dirty: Dirty) -> None:
    failing(dirty, "a", "b", "c")
    asked = []
    for now in itertools.islice(itertools.count(20), 6):
        service, _ = dirty.next_suspect()
        asked.append(service)
        dirty.still_failed(service, now, "no answer")
    assert asked == ["a", "b", "c"] * 2


def test_what_fails_again_after_an_answer_is_a_suspect_again(dirty: Dirty) -> None:
    failing(dirty, "a")
    dirty.answered("a")
    taken = dirty.take(answered=True)
    assert taken is not None
    dirty.failed(*taken, 50.0, "500")
    assert dirty.is_suspect("a")
    assert dirty.next_suspect() == ("a", 55.0)


@pytest.mark.parametrize(
    ("unread", "services", "many"),
    [(0, 0, False), (1, 30, False), (2, 30, True), (5, 100, False), (6, 100, True), (1, 1, True)],
)
def test_a_pass_leaves_one_service_or_five_per_cent_unread(unread: int, services: int, many: bool) -> None:
    assert too_many(unread, services) is many


# What was found.


def test_changes_add_up_and_the_slowest_is_remembered(tally: Tally) -> None:
    now = time.monotonic()
    tally.woke(Source.STATUS, 3)
    tally.changed(Source.STATUS, 2, now - 50)
    tally.changed(Source.STATUS, 1, now - 25)
    tally.changed(Source.STATUS, 0, now - 99)
    found = tally.report()[Source.STATUS]
    assert (found.wakeups, found.changes, round(found.seconds), round(found.longest)) == (3, 3, 125, 50)
    assert tally.report().keys() == set(CONSUL_SOURCES)


# What is parked.


def test_what_changed_last_is_parked_first_then_the_others_by_name() -> None:
    recent = Recent(3)
    recent.listed({"d", "c", "b", "a"})
    assert recent.is_stale()
    assert recent.wanted() == ["a", "b", "c"]
    recent.changed("b")
    assert not recent.is_stale(), "it is parked already"
    recent.changed("d")
    assert recent.is_stale()
    assert recent.wanted() == ["d", "b", "a"]
    recent.changed("c")
    recent.changed("a")
    assert recent.wanted() == ["a", "c", "d"]


def test_what_is_gone_leaves_its_place_to_another() -> None:
    recent = Recent(2)
    recent.listed({"a", "b", "c"})
    recent.wanted()
    recent.gone("a")
    assert recent.is_stale()
    assert recent.wanted() == ["b", "c"]
    recent.gone("nobody")
    assert not recent.is_stale()


def test_what_comes_to_a_registry_that_was_empty_is_parked() -> None:
    recent = Recent(2)
    recent.changed("before-the-list")
    recent.listed([])
    recent.changed("orders")
    assert recent.is_stale()
    assert recent.wanted() == ["orders"]


def test_without_a_budget_nothing_is_parked() -> None:
    recent = Recent(0)
    recent.listed({"a"})
    recent.changed("a")
    assert not recent.is_stale()
    assert recent.wanted() == []


# When what is due.

TIMES = Limits(pass_spacing=2.0, sweep=300.0)


@pytest.fixture
def times() -> Timetable:
    times = Timetable(TIMES)
    times.want_pass(0.0)
    times.begin_pass()
    times.end_pass(0.0, 5.0, complete=True)
    return times


def test_a_pass_rests_ten_times_its_duration(times: Timetable) -> None:
    assert times.pass_due(None) == 305.0
    times.want_pass(6.0)
    assert times.pass_due(None) == 55.0
    assert times.pass_due(5.0) == 55.0
    assert times.begin_pass() == 6.0


def test_a_sweep_is_what_nobody_wanted(times: Timetable) -> None:
    assert times.begin_pass() is None
    times.want_reread(7.0)
    assert times.begin_pass() == 7.0
    assert times.reread_due() == float("inf"), "the pass was one"


def test_a_reread_rests_on_its_own_duration_and_not_on_a_pass(times: Timetable) -> None:
    assert times.reread_due() == float("inf")
    times.want_reread(6.0)
    assert times.reread_due() == 7.0
    assert times.begin_reread() == 6.0
    times.end_reread(8.0, 0.1)
    times.want_reread(8.5)
    assert times.reread_due() == 10.0
    times.begin_reread()
    times.end_reread(11.0, 0.6)
    times.want_reread(11.5)
    assert times.reread_due() == 17.0
    times.end_pass(20.0, 120.0, complete=True)
    assert times.reread_due() == 122.0


def test_there_is_no_reread_before_a_pass_was_complete() -> None:
    times = Timetable(TIMES)
    times.want_reread(1.0)
    times.end_pass(0.0, 5.0, complete=False)
    assert times.reread_due() == float("inf")
    times.end_pass(5.0, 6.0, complete=True)
    assert times.reread_due() == 8.0
