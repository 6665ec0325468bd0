"""What is due when, against a table that is looked through."""

from hypothesis import given
from hypothesis import strategies as st

from agent.alarms import Alarms
from agent.plan import Action, Change
from agent.repairs import Repairs
from agent.retry import content_digest
from state.checkpoint import Applied
from state.model import WORKLOAD_ENTRY, Resource, ResourceKey

KEYS = st.sampled_from([("a",), ("b",), ("c",)])
TIMES = st.integers(0, 20).map(float)
STEPS = st.lists(st.tuples(st.sampled_from(["set", "earlier", "drop", "due"]), KEYS, TIMES), max_size=60)


@given(STEPS)
def test_what_is_due_is_what_a_table_says(steps: list[tuple[str, tuple[str], float]]) -> None:
    alarms: Alarms[tuple[str]] = Alarms()
    table: dict[tuple[str], float] = {}
    for step, key, at in steps:
        if step == "set":
            alarms.set(key, at)
            table[key] = at
        elif step == "earlier":
            alarms.set_earlier(key, at)
            table[key] = min(at, table.get(key, at))
        elif step == "drop":
            alarms.drop(key)
            table.pop(key, None)
        else:
            due = {key for key, when in table.items() if when <= at}
            assert sorted(alarms.due(at)) == sorted(due)
            table = {key: when for key, when in table.items() if key not in due}
        assert alarms.next() == min(table.values(), default=None)
        assert [key in alarms for key in table] == [True] * len(table)


def test_what_is_set_again_and_again_is_held_once() -> None:
    alarms: Alarms[tuple[str]] = Alarms()
    for at in range(10_000):
        alarms.set(("a",), float(at))
    assert len(alarms._heap) < 100
    assert alarms.due(10_000.0) == [("a",)]


def test_repairs_of_long_ago_are_forgotten() -> None:
    repairs = Repairs(fight=600.0)
    for number in range(1000):
        key = ResourceKey(WORKLOAD_ENTRY, "legacy", f"w{number}")
        resource = Resource(key=key, labels={}, annotations={}, spec={"weight": 1})
        row = Applied(key=key, digest=content_digest(resource), uid="u", generation=1, resource_version="1")
        now = 10.0 * number
        assert repairs.judge(Change(Action.UPDATE, key, resource, None, ""), row, now) is None
        repairs.made(key, now)
    assert repairs.count == 1000
    assert len(repairs._made) == 60
