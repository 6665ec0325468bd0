import time

import pytest

from agent.holds import Situation, deletions_name, ending, withheld
from state.limits import Limits
from state.model import WORKLOAD_ENTRY, Count, Held, InstanceKey, Reason, ResourceKey, Standing, Waiting

KEY = InstanceKey("orders", "node-1", "orders-1")
NOW = time.monotonic()


def waiting(reason: Reason, *, waited: float = 5.0, proofs: int = 0) -> Waiting:
    return Waiting(key=KEY, reason=reason, word=None, since=NOW - waited, proofs=proofs)


def situation(left: int = 8, baseline: int = 12, epoch_age: float | None = None, readable: bool = True) -> Situation:
    standing = Standing(
        left=Count(left, left),
        minutes=(Count(baseline, baseline),) * 10,
        epoch_began=None if epoch_age is None else NOW - epoch_age,
    )
    return Situation("consul-dc1", standing, Limits(), readable, NOW)


def test_grace_ends_by_itself_after_what_is_left_of_it() -> None:
    assert ending(waiting(Reason.GRACE, waited=48), situation()) == (
        "It is the last of its host, and goes in 12 s; at once when the host has another endpoint."
    )
    assert "goes now" in ending(waiting(Reason.GRACE, waited=61), situation())


def test_what_was_looked_at_once_is_judged_by_the_next_pass() -> None:
    assert ending(waiting(Reason.LOOK), situation()).startswith("The next complete pass judges it")


@pytest.mark.parametrize(
    ("proofs", "sentence"),
    [
        (0, "It goes when 3 more passes found it missing, 1 min apart;"),
        (2, "It goes when 1 more pass found it missing;"),
        (3, "It goes with the next pass that finds it missing;"),
    ],
)
def test_a_held_removal_tells_how_many_passes_are_still_needed(proofs: int, sentence: str) -> None:
    assert ending(waiting(Reason.HOLD, proofs=proofs), situation()).startswith(sentence)


def test_a_held_removal_waits_for_a_young_epoch() -> None:
    young = ending(waiting(Reason.HOLD, proofs=3), situation(epoch_age=420))
    assert "not within 3 min, as the registry's data began anew" in young
    assert "began anew" not in ending(waiting(Reason.HOLD, proofs=3), situation(epoch_age=601))


def test_only_an_operator_removes_more_than_half() -> None:
    sentence = ending(waiting(Reason.HOLD, proofs=7), situation(left=5, baseline=12))
    assert sentence.startswith("Only `isthmus accept consul-dc1` removes it, since fewer than half of 12 instances")
    assert "Only" not in ending(waiting(Reason.HOLD), situation(left=0, baseline=9))


def test_panic_ends_when_half_would_be_left_in_service() -> None:
    sentence = ending(waiting(Reason.PANIC), situation(left=4, baseline=12))
    assert sentence.startswith("It goes as soon as half of 12 instances would be left in service")
    assert "(now 4)" in sentence
    assert "`isthmus accept consul-dc1`" in sentence


def test_nothing_is_concluded_while_the_registry_cannot_be_read() -> None:
    sentence = ending(waiting(Reason.LOOK), situation(readable=False))
    assert sentence.startswith(
        "Nothing is concluded while consul-dc1 cannot be read. After that: the next complete pass"
    )
    assert ending(waiting(Reason.GRACE), situation(readable=False)).startswith("It is the last")


def test_a_cluster_that_withholds_deletions_has_one_row() -> None:
    objects = [Held(key=ResourceKey(WORKLOAD_ENTRY, "legacy", name), labels={}, annotations={}) for name in ("b", "a")]
    rows = withheld({"east": objects, "west": ()})
    assert [(row["name"], row["hold"], row["reason"]) for row in rows] == [
        ("east", deletions_name("east"), "deletions")
    ]
    assert rows[0]["objects"] == ["WorkloadEntry legacy/a", "WorkloadEntry legacy/b"]
    assert "only `isthmus accept east` does" in rows[0]["ends"]
    assert len(deletions_name("east")) == 8
    assert deletions_name("east") != deletions_name("west")
