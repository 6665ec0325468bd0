from typing import Any

import pytest

from hooks.eureka import parse
from hooks.eureka.overlay import Gone, Overlay, effective
from hooks.eureka.parse import Applications, Lease
from hooks.eureka.view import FRESH, DeltaView, Word
from state.errors import RegistryError
from tests.eureka import answer, registered, settings, written

NOW = 5000.0  # monotonic seconds
LATER = NOW + FRESH + 1


def lease(updated: int, id: str = "a", action: str = "ADDED", *, scope: str = "*", **fields: Any) -> Lease:
    one = registered(id, actionType=action, lastUpdatedTimestamp=str(updated), **fields)
    (found,) = parse.applications(settings(services=(scope,)), written(answer(one))).leases
    return found


def deleted(updated: int, id: str = "a") -> Lease:
    return lease(updated, id, "DELETED")  # it still says UP


def said(*leases: Lease, version: int = 1) -> Applications:
    return Applications(version, "", leases)


def view_of(*leases: Lease, now: float = NOW - 1000) -> DeltaView:
    view = DeltaView()
    view.take_full(said(*leases), now)
    return view


def times(view: DeltaView) -> dict[str, int]:
    return {id: one.updated for id, one in view.leases("ORDERS").items()}


# Deltas.


def test_a_delta_adds_modifies_and_deletes() -> None:
    view = view_of(lease(1, "a"), lease(1, "b"))
    delta = said(lease(2, "c"), lease(2, "a", "MODIFIED", status="DOWN"), deleted(2, "b"), version=7)
    assert view.take_delta(delta, NOW) == {"ORDERS"}
    assert times(view) == {"a": 2, "c": 2}
    assert view.hashcode == "DOWN_1_UP_1_"
    assert view.version == 7


def test_a_repeated_delta_changes_nothing() -> None:
    view, delta = view_of(lease(1)), said(lease(3), deleted(2, "b"))
    view.take_delta(delta, NOW)
    assert view.take_delta(delta, NOW + 5) == set()
    assert view.take_delta(delta, LATER + 100) == set()
    assert times(view) == {"a": 3}


def test_what_is_added_twice_is_there_once() -> None:
    view = DeltaView()
    assert view.take_delta(said(lease(1), lease(1)), NOW) == {"ORDERS"}
    assert view.hashcode == "UP_1_"


def test_what_is_modified_and_was_unknown_is_there() -> None:
    view = DeltaView()
    view.take_delta(said(lease(1, action="MODIFIED")), NOW)
    assert times(view) == {"a": 1}


def test_a_deleted_stranger_changes_nothing() -> None:
    view = view_of(lease(1))
    assert view.take_delta(said(deleted(2, "stranger")), NOW) == set()
    assert times(view) == {"a": 1}
    assert view.hashcode == "UP_1_"


def test_a_deleted_stranger_does_not_appear_in_an_older_full_read() -> None:
    view = view_of()
    view.take_delta(said(deleted(2)), NOW)
    assert view.take_full(said(lease(1)), NOW + 30) == set()


@pytest.mark.parametrize("order", [1, -1])
def test_deleted_and_added_again_in_one_delta_is_there_in_any_order(order: int) -> None:
    for known in (view_of(lease(1)), view_of(lease(3)), DeltaView()):
        known.take_delta(said(*[deleted(2), lease(3)][::order]), NOW)
        assert times(known) == {"a": 3}


def test_of_one_time_the_last_counts() -> None:
    view = DeltaView()
    view.take_delta(said(deleted(2), lease(2)), NOW)
    assert times(view) == {"a": 2}
    view.take_delta(said(lease(2), deleted(2)), NOW)
    assert times(view) == {}


def test_deltas_out_of_order_end_in_the_newest() -> None:
    view = DeltaView()
    for delta in (said(lease(4)), said(deleted(3)), said(lease(2)), said(deleted(5)), said(lease(4))):
        view.take_delta(delta, NOW)
    assert times(view) == {}


@pytest.mark.parametrize("action", ["", "EVICTED", "added"])
def test_an_unknown_action_is_refused_and_nothing_of_its_delta_is_taken(action: str) -> None:
    view = view_of(lease(1))
    with pytest.raises(RegistryError, match=rf"actionType '{action}' of ORDERS 'b' is unknown"):
        view.take_delta(said(deleted(2), lease(2, "b", action), version=9), NOW)
    assert times(view) == {"a": 1}
    assert view.version == 0


def test_a_delta_without_times_is_obeyed_in_its_order() -> None:
    view = view_of(lease(0))
    view.take_delta(said(lease(0, action="MODIFIED", status="DOWN")), NOW)
    assert view.hashcode == "DOWN_1_"
    view.take_delta(said(deleted(0)), NOW)
    assert times(view) == {}


def test_a_status_that_a_heartbeat_changed_is_seen_although_no_time_moved() -> None:
    view = view_of(lease(1))
    assert view.take_delta(said(lease(1, status="OUT_OF_SERVICE")), NOW) == {"ORDERS"}
    assert view.take_full(said(lease(1)), LATER) == {"ORDERS"}
    assert view.hashcode == "UP_1_"


def test_an_older_full_read_does_not_undo_what_a_delta_showed_at_the_same_time() -> None:
    view = view_of(lease(1))
    view.take_delta(said(lease(2)), NOW)
    view.take_delta(said(lease(2, status="OUT_OF_SERVICE")), NOW + 1)
    assert view.take_full(said(lease(2)), NOW + 31) == set()
    word = view.word("ORDERS", "a")
    assert word is not None
    assert (word.learnt, word.taught) == (NOW, NOW)


def test_two_words_that_both_mean_unknown_differ_for_the_hash() -> None:
    view = view_of(lease(1, status="UNKNOWN"))
    assert view.take_delta(said(lease(1, status="DRAINING")), NOW) == set()
    assert view.hashcode == "DRAINING_1_"


def test_a_hash_that_never_matches_moves_nothing() -> None:
    view = view_of(lease(1))
    delta = Applications(1, "UP_99_", (lease(2),))
    assert view.take_delta(delta, NOW) == set()
    assert view.hashcode == "UP_1_" != delta.hashcode


def test_a_change_that_nobody_sees_is_none() -> None:
    view = view_of(lease(1))
    assert view.take_delta(said(lease(2, lastDirtyTimestamp="9")), NOW) == set()
    assert times(view) == {"a": 2}


def test_what_is_out_of_scope_only_counts() -> None:
    view = DeltaView()
    assert view.take_full(said(lease(1, scope="else")), NOW) == set()
    assert (view.hashcode, view.applications()) == ("UP_1_", set())
    assert view.take_delta(said(lease(2, action="DELETED", scope="else")), NOW) == set()
    assert view.hashcode == ""
    assert effective(view, Overlay(), "ORDERS") == ()


# Clocks.


def test_what_is_older_is_believed_once_no_cache_can_be_that_old() -> None:
    view = view_of()
    view.take_delta(said(lease(7_200_000)), NOW)
    assert view.take_delta(said(lease(1, action="MODIFIED", status="DOWN")), NOW + FRESH - 1) == set()
    assert view.take_delta(said(lease(1, action="MODIFIED", status="DOWN")), LATER) == {"ORDERS"}
    assert view.hashcode == "DOWN_1_"


def test_a_clock_that_went_back_does_not_hide_a_cancel_for_ever() -> None:
    view = view_of(lease(7_200_000))
    assert view.take_delta(said(deleted(1)), NOW) == {"ORDERS"}


# Full reads.


def test_a_full_read_replaces_the_view() -> None:
    view = view_of(lease(1, "a"), lease(1, "b"))
    assert view.take_full(said(lease(2, "b", status="DOWN"), lease(1, "c")), NOW) == {"ORDERS"}
    assert times(view) == {"b": 2, "c": 1}
    assert view.word("ORDERS", "a") == Word(None, 1, NOW, last=lease(1))


def test_the_same_full_read_again_changes_nothing() -> None:
    view = view_of(lease(1, "a"), lease(1, "b"))
    assert view.take_full(said(lease(1, "b"), lease(1, "a")), NOW) == set()


def test_a_full_read_older_than_a_delta_removes_nothing_that_it_taught() -> None:
    view = view_of(lease(1))
    view.take_delta(said(lease(2), lease(2, "b")), NOW)
    assert view.take_full(said(lease(1)), NOW + 30) == set()
    assert times(view) == {"a": 2, "b": 2}


def test_a_full_read_older_than_a_delta_resurrects_nothing() -> None:
    view = view_of(lease(1))
    view.take_delta(said(deleted(2)), NOW)
    assert view.take_full(said(lease(1)), NOW + 30) == set()
    assert times(view) == {}


def test_a_full_read_shows_what_was_registered_again() -> None:
    view = view_of(lease(1))
    view.take_delta(said(deleted(2)), NOW)
    assert view.take_full(said(lease(3)), NOW) == {"ORDERS"}
    assert times(view) == {"a": 3}


def test_a_full_read_counts_alone_when_deltas_taught_nothing_for_long() -> None:
    view = view_of()
    view.take_delta(said(lease(2, "a"), deleted(2, "b")), NOW)
    assert view.take_full(said(lease(1, "b")), LATER) == {"ORDERS"}
    assert times(view) == {"b": 1}


def test_a_delta_older_than_a_full_read_brings_nothing_back() -> None:
    view = view_of(lease(1))
    view.take_full(said(), NOW)
    assert view.take_delta(said(lease(1)), NOW + 20) == set()
    assert view.take_delta(said(lease(2)), NOW + 20) == {"ORDERS"}


def test_a_peer_with_half_the_registry_leaves_a_word_on_what_it_lacks() -> None:
    view = view_of(*(lease(1, str(number)) for number in range(10)))
    view.take_full(said(*(lease(1, str(number)) for number in range(5))), NOW)
    word = view.word("ORDERS", "9")
    assert word is not None
    assert (word.deleted, word.last) == (False, lease(1, "9"))
    assert view.take_full(said(*(lease(1, str(number)) for number in range(10))), NOW + 1) == {"ORDERS"}
    assert len(times(view)) == 10


def test_what_is_gone_is_forgotten_but_not_while_deltas_repeat_it() -> None:
    view = view_of(lease(1))
    view.take_delta(said(deleted(2)), NOW)
    view.take_delta(said(deleted(2)), NOW + 150)
    assert view.word("ORDERS", "a") == Word(None, 2, NOW, NOW, deleted=True, last=lease(1))
    view.take_delta(said(), NOW + 200)
    assert view.word("ORDERS", "a") is None


def test_what_a_full_read_lacked_is_remembered_for_as_long_as_a_delta_may_be_old() -> None:
    view = view_of(lease(1))
    view.take_full(said(), NOW)
    view.take_delta(said(), NOW + 29)
    assert view.take_delta(said(lease(1)), NOW + 30) == set()


def test_a_delta_tells_what_a_full_read_only_lacked() -> None:
    view = view_of(lease(1))
    view.take_full(said(), NOW)
    assert view.take_delta(said(deleted(2)), NOW + 1) == set()
    word = view.word("ORDERS", "a")
    assert word is not None
    assert word.deleted
    assert word.last == lease(1)


def test_another_server_begins_with_nothing() -> None:
    view = view_of(lease(9))
    view.clear()
    assert (view.hashcode, view.applications(), view.word("ORDERS", "a"), view.version) == ("", set(), None, 0)
    assert view.take_delta(said(lease(1)), NOW) == {"ORDERS"}


# The overlay.


def shown(view: DeltaView, overlay: Overlay) -> list[tuple[str, str]]:
    return [(one.key.id, one.absent_because.value) for one in effective(view, overlay, "ORDERS")]


def taught(*words: Lease | Gone, now: float = NOW) -> Overlay:
    overlay = Overlay()
    for word in words:
        overlay.teach(word, now)
    return overlay


def test_without_an_overlay_the_view_is_effective_in_order() -> None:
    assert shown(view_of(lease(1, "b"), lease(1, "a")), Overlay()) == [("a", ""), ("b", "")]


def test_uncached_words_overrule_the_view() -> None:
    view = view_of(lease(1, "a"), lease(1, "b"))
    overlay = taught(Gone("ORDERS", "a", 1), lease(2, "b", status="DOWN"), lease(2, "c"))
    assert shown(view, overlay) == [("b", "DOWN"), ("c", "")]
    assert len(overlay) == 3
    assert effective(view, overlay, "BILLS") == ()


def test_a_later_word_of_the_view_overrules_the_overlay() -> None:
    view = view_of(lease(1))
    overlay = taught(Gone("ORDERS", "a", 1))
    view.take_delta(said(lease(3)), NOW + 1)
    assert shown(view, overlay) == [("a", "")]
    view, overlay = view_of(lease(1)), taught(lease(2))
    view.take_delta(said(deleted(3)), NOW + 1)
    assert shown(view, overlay) == []


def test_an_older_word_of_the_view_does_not_undo_the_overlay() -> None:
    view, overlay = view_of(), taught(Gone("ORDERS", "a", 2), lease(4, "b"))
    view.take_full(said(lease(1, "a"), lease(2, "b", status="DOWN")), NOW + 29)
    view.take_delta(said(lease(2, "a"), deleted(3, "b")), NOW + 29)
    assert overlay.settle(view, NOW + 29) == set()
    assert shown(view, overlay) == [("b", "")]


def test_what_was_found_is_back_although_the_view_lacks_it() -> None:
    view = view_of(lease(1))
    view.take_delta(said(deleted(2)), NOW - 1)
    assert shown(view, taught(lease(3))) == [("a", "")]
    # The server's clock went back: it was found after the cancel was known, whatever its time says.
    assert shown(view, taught(lease(1))) == [("a", "")]


def test_an_older_lease_is_no_news_for_the_overlay() -> None:
    overlay = taught(lease(3, status="DOWN"), lease(2))
    assert overlay.word("ORDERS", "a") == lease(3, status="DOWN")
    overlay.teach(lease(2), LATER)
    assert overlay.word("ORDERS", "a") == lease(2)


def test_what_is_not_found_is_gone_in_every_state_that_was_known() -> None:
    overlay = taught(lease(3), Gone("ORDERS", "a", 1))
    assert overlay.word("ORDERS", "a") == Gone("ORDERS", "a", 3)
    overlay.teach(Gone("ORDERS", "a"), LATER)  # no poll came between
    assert overlay.word("ORDERS", "a") == Gone("ORDERS", "a", 3)
    overlay.teach(lease(4), NOW)
    assert overlay.word("ORDERS", "a") == lease(4)


def test_the_overlay_drops_what_the_view_caught_up_with() -> None:
    view = view_of(lease(1, "a"), lease(1, "b"), lease(1, "c"))
    overlay = taught(lease(2, "a"), Gone("ORDERS", "b", 2), Gone("ORDERS", "c", 2))
    assert overlay.settle(view, NOW + 1) == set()
    view.take_delta(said(lease(2, "a"), deleted(2, "b"), lease(3, "c")), NOW + 1)
    assert overlay.settle(view, NOW + 1) == {"ORDERS"}
    assert len(overlay) == 0
    assert shown(view, overlay) == [("a", ""), ("c", "")]


def test_the_overlay_keeps_a_found_one_whose_content_the_view_does_not_show_yet() -> None:
    view, overlay = view_of(lease(1)), taught(lease(1, status="OUT_OF_SERVICE"))
    assert overlay.settle(view, NOW + 1) == set()
    assert shown(view, overlay) == [("a", "OUT_OF_SERVICE")]


def test_the_overlay_keeps_a_gone_stranger_that_a_cache_may_still_list() -> None:
    view, overlay = DeltaView(), taught(Gone("ORDERS", "a", 2))
    assert overlay.settle(view, NOW + 1) == set()
    view.take_full(said(lease(2)), NOW + 29)
    assert shown(view, overlay) == []


def test_the_overlay_keeps_a_gone_one_of_which_the_view_knows_an_earlier_end() -> None:
    view, overlay = view_of(lease(1)), taught(Gone("ORDERS", "a", 4))
    view.take_delta(said(deleted(2)), NOW + 1)
    assert overlay.settle(view, NOW + 1) == set()
    view.take_delta(said(lease(3)), NOW + 2)
    assert shown(view, overlay) == []


def test_the_overlay_drops_everything_after_a_minute() -> None:
    view, overlay = view_of(lease(1)), taught(Gone("ORDERS", "a", 1))
    assert overlay.settle(view, NOW + FRESH - 1) == set()
    assert overlay.settle(view, NOW + FRESH) == {"ORDERS"}
    assert shown(view, overlay) == [("a", "")]
    assert overlay.word("ORDERS", "a") is None


def test_another_server_begins_without_an_overlay() -> None:
    overlay = taught(lease(1))
    overlay.clear()
    assert len(overlay) == 0
