import pytest

from hooks.consul.budget import Budget


def test_it_is_halved_when_refused_and_grows_to_three_quarters_of_where_it_was() -> None:
    budget = Budget(150, patience=50)
    assert (budget.allowed, budget.why, budget.grow(1000)) == (150, "", False)
    budget.refuse(asked=1000, now=1001, served=20, why="429")
    assert (budget.allowed, budget.why) == (10, "429")
    assert not budget.grow(1050)
    seen = []
    for turn in range(5):
        budget.grow(1051 + 50 * turn)
        seen.append(budget.allowed)
    assert seen == [12, 15, 15, 15, 15]
    assert budget.why == "429"


def test_what_was_asked_before_the_last_refusal_does_not_count_again() -> None:
    budget = Budget(150, patience=50)
    for _ in range(5):
        budget.refuse(asked=1000, now=1001, served=20, why="429")
    assert budget.allowed == 10
    budget.refuse(asked=1002, now=1003, served=10, why="429")
    assert budget.allowed == 5


def test_where_it_was_refused_is_tried_again_after_a_long_time() -> None:
    budget = Budget(40, patience=50)
    budget.refuse(asked=1000, now=1000, served=20, why="429")
    for turn in range(1, 11):
        budget.grow(1000 + 50 * turn)
    assert budget.allowed == 15
    for turn in range(11, 20):
        budget.grow(1000 + 50 * turn)
    assert (budget.allowed, budget.why) == (40, "")


@pytest.mark.parametrize("served", [0, 1])
def test_it_grows_from_nothing(served: int) -> None:
    budget = Budget(10, patience=50)
    budget.refuse(asked=1000, now=1000, served=served, why="429")
    assert budget.allowed == 0
    assert budget.grow(1050)
    assert budget.allowed == 1
    assert not budget.grow(1100)


def test_a_cap_is_for_good() -> None:
    budget = Budget(150, patience=50)
    budget.cap(100, "one address")
    budget.cap(120, "files")
    assert (budget.allowed, budget.why) == (100, "one address")
    budget.refuse(asked=0, now=1, served=40, why="429")
    assert budget.why == "429"
    for turn in range(1, 40):
        budget.grow(1 + 50 * turn)
    assert (budget.allowed, budget.why) == (100, "one address")
    small = Budget(16, patience=50)
    small.cap(16, "one address")
    assert small.why == ""
