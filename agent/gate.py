"""Whether an object that is no longer desired may be deleted: the last look before a deletion.

Pure. The guard judges what registries say; this judges what a lane concludes
from it, and finds our own mistakes: a change of configuration or version that
would remove endpoints which a registry still lists.
"""

import json
from collections.abc import Iterable
from enum import Enum
from typing import Protocol

from state.model import SOURCE, Absence, Held, Instance, InstanceKey, Waiting

FEW = 10
SHARE = 30  # per cent of a cluster's objects

Source = tuple[str, InstanceKey]


class Gate(Enum):
    """What may be done with an object that is no longer desired."""

    OPEN = "may be deleted"
    LISTED = "may be deleted, but a registry still lists it: perhaps our own mistake"
    SHUT = "stays: a registry was not read yet, or its removal waits"


class Sayings(Protocol):
    """What the registries say, as far as a deletion is concerned."""

    def passed(self, registry: str | None = None) -> bool:
        """Tell whether a registry had a pass since the start."""

    def word(self, registry: str, key: InstanceKey) -> tuple[Instance | None, Waiting | None] | None:
        """Return what is believed of a registration and why it waits; None for an unknown registry."""


def gate(held: Held, sayings: Sayings) -> Gate:
    """Judge the deletion of an object by the registrations that it came from."""
    sources = sources_of(held)
    if not sources:
        return Gate.LISTED if sayings.passed() else Gate.SHUT
    listed = waits = live = False
    for registry, key in sources:
        said = sayings.word(registry, key)
        if said is None:
            if not sayings.passed():
                return Gate.SHUT  # perhaps the registry has another name now, and was not read under that yet
            listed = True  # of a registry that left the configuration: nobody says that it is gone
            continue
        if not sayings.passed(registry):
            return Gate.SHUT
        instance, row = said
        if instance is not None and row is None:
            live = True
            listed = listed or instance.absent_because is Absence.NONE
        waits = waits or row is not None
    if waits and not live:
        return Gate.SHUT
    return Gate.LISTED if listed else Gate.OPEN


def too_many(listed: int, objects: int) -> bool:
    """Tell whether so many deletions of listed endpoints look like our own mistake."""
    return listed > max(FEW, objects * SHARE // 100)


def sources_of(held: Held) -> tuple[Source, ...]:
    """Return the registrations that an object names, none if it names none legibly."""
    try:
        rows = json.loads(held.annotations.get(SOURCE, ""))
        return tuple((str(registry), InstanceKey(str(s), str(n), str(i))) for registry, s, n, i in rows)
    except (ValueError, TypeError):
        return ()


def instances_of(objects: Iterable[Held]) -> dict[str, dict[InstanceKey, Instance]]:
    """Return, by registry, the instances that a cluster's objects were made of.

    Only what keeps an endpoint where it is can be restored: its address and port.
    """
    found: dict[str, dict[InstanceKey, Instance]] = {}
    for held in objects:
        if held.endpoint:
            address, port = held.endpoint
            for registry, key in sources_of(held):
                found.setdefault(registry, {})[key] = Instance(key=key, address=address, port=port, restored=True)
    return found
