"""The last look before a deletion."""

import json

import pytest

from agent.gate import Gate, gate, instances_of, sources_of, too_many
from state.model import SOURCE, WORKLOAD_ENTRY, Absence, Held, Instance, InstanceKey, Reason, ResourceKey, Waiting
from tests.core import instance

ONE = InstanceKey("orders", "node-1", "orders-1")
TWO = InstanceKey("orders", "node-2", "orders-2")


class Said:
    """What registries say, by registry and registration."""

    def __init__(self, passed: set[str], words: dict[tuple[str, InstanceKey], tuple[Instance | None, bool]]) -> None:
        self._passed = passed
        self._words = words

    def passed(self, registry: str | None = None) -> bool:
        return registry in self._passed if registry else self._passed == {"dc1", "dc2"}

    def word(self, registry: str, key: InstanceKey) -> tuple[Instance | None, Waiting | None] | None:
        if registry not in ("dc1", "dc2"):
            return None
        found, waits = self._words.get((registry, key), (None, False))
        return found, Waiting(key=key, reason=Reason.HOLD, word=None, since=0.0) if waits else None


def held(*sources: tuple[str, InstanceKey], text: str | None = None) -> Held:
    shown = json.dumps([[registry, *key] for registry, key in sources]) if text is None else text
    key = ResourceKey(WORKLOAD_ENTRY, "legacy", "orders-1")
    return Held(key=key, labels={}, annotations={SOURCE: shown}, endpoint=("10.1.2.3", 80))


LISTED = (instance("orders-1"), False)
CRITICAL = (instance("orders-1", absent_because=Absence.CRITICAL), False)
WAITS = (instance("orders-1"), True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({}, Gate.OPEN),
        ({("dc1", ONE): LISTED}, Gate.LISTED),
        ({("dc1", ONE): CRITICAL}, Gate.OPEN),
        ({("dc1", ONE): WAITS}, Gate.SHUT),
        ({("dc1", ONE): WAITS, ("dc2", TWO): LISTED}, Gate.LISTED),
        ({("dc1", ONE): WAITS, ("dc2", TWO): CRITICAL}, Gate.OPEN),
    ],
)
def test_a_deletion_depends_on_what_its_registrations_say(
    words: dict[tuple[str, InstanceKey], tuple[Instance | None, bool]], expected: Gate
) -> None:
    assert gate(held(("dc1", ONE), ("dc2", TWO)), Said({"dc1", "dc2"}, words)) is expected


def test_nothing_goes_while_one_of_its_registries_had_no_pass() -> None:
    assert gate(held(("dc1", ONE), ("dc2", TWO)), Said({"dc1"}, {})) is Gate.SHUT
    assert gate(held(("dc1", ONE)), Said({"dc1"}, {})) is Gate.OPEN


def test_what_came_from_a_registry_that_is_configured_no_more_may_be_our_own_mistake() -> None:
    assert gate(held(("gone", ONE)), Said({"dc1", "dc2"}, {})) is Gate.LISTED


@pytest.mark.parametrize("text", ["", "[]", "{", "[1]", "null", '[["dc1"]]', "[[[]]]"])
def test_an_object_that_does_not_tell_where_it_came_from_needs_every_pass(text: str) -> None:
    assert sources_of(held(text=text)) == ()
    assert gate(held(text=text), Said({"dc1", "dc2"}, {})) is Gate.LISTED
    assert gate(held(text=text), Said({"dc1"}, {})) is Gate.SHUT


def test_more_than_ten_and_more_than_thirty_per_cent_are_too_many() -> None:
    assert not too_many(10, 10)
    assert too_many(11, 11)
    assert not too_many(30, 100)
    assert too_many(31, 100)


def test_an_object_gives_back_the_registrations_that_it_was_made_of() -> None:
    assert instances_of([held(("dc1", ONE), ("dc2", TWO))]) == {
        "dc1": {ONE: Instance(key=ONE, address="10.1.2.3", port=80, restored=True)},
        "dc2": {TWO: Instance(key=TWO, address="10.1.2.3", port=80, restored=True)},
    }
