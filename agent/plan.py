"""From what a cluster should hold and what it holds to what must be done, in that order.

Pure: a plan is a small value, made to be printed, counted, held back and thrown
away. Carried out up to any point and made again, it leads to the same end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from state.model import DIGEST, SERVICE_ENTRY, Held, Resource, ResourceKey, digest_of


class Action(StrEnum):
    """What to do with an object, as a plan prints it."""

    CREATE = "+"
    UPDATE = "~"
    DELETE = "-"


@dataclass(frozen=True, slots=True)
class Change:
    """One step: ``resource`` is what should be (None to delete), ``held`` what is there (None to create)."""

    action: Action
    key: ResourceKey
    resource: Resource | None
    held: Held | None
    why: str


def plan(
    desired: Iterable[Resource],
    held: Iterable[Held],
    owner: str,
    taken: Mapping[ResourceKey, str] = MappingProxyType({}),
) -> tuple[Change, ...]:
    """Return the changes that bring objects of one cluster to what is desired.

    Nothing of another owner is touched but what is ``taken``, for the reason given
    there. WorkloadEntries come before their ServiceEntry when they come, and after
    what replaces them when they go.
    """
    wanted: dict[ResourceKey, Resource] = {}
    for resource in desired:
        # Two hosts may be one in this cluster, whose own namespace a rule names: what is live wins, then the first.
        if resource.key not in wanted or (wanted[resource.key].kept and not resource.kept):
            wanted[resource.key] = resource
    there = {one.key: one for one in held}
    puts = (_put(resource, there.get(key), owner, taken.get(key, "")) for key, resource in wanted.items())
    changes = [change for change in puts if change]
    changes.extend(
        Change(Action.DELETE, key, None, one, "no longer desired")
        for key, one in there.items()
        if one.owner == owner and key not in wanted
    )
    return tuple(sorted(changes, key=_turn))


def _put(resource: Resource, held: Held | None, owner: str, taken: str) -> Change | None:
    """Return what it takes for an object to be there as desired, if anything."""
    if resource.kept:
        return None
    if held is None:
        why = "new host" if resource.key.kind == SERVICE_ENTRY else "new endpoint"
        return Change(Action.CREATE, resource.key, resource, None, why)
    if held.owner != owner:
        return Change(Action.UPDATE, resource.key, resource, held, taken) if taken else None
    differences = _differences(resource, held)
    if not differences:
        return None
    return Change(Action.UPDATE, resource.key, resource, held, ", ".join(differences))


def _differences(resource: Resource, held: Held) -> list[str]:
    found: list[str] = []
    if not held.spec_digest:
        found.append("spec unknown")
    elif held.spec_digest != digest_of(resource.spec):
        found.append("spec differs")
    found.extend(f"label {key}: {old} -> {new}" for key, old, new in _moved(resource.labels, held.labels))
    found.extend(
        f"label {key} no longer desired" for key in held.own_labels if key in held.labels and key not in resource.labels
    )
    annotations = [key for key, _, _ in _moved(resource.annotations, held.annotations)]
    # The digest of it all differs whenever anything does: worth a word only when it is alone.
    telling = [key for key in annotations if key != DIGEST] if found or len(annotations) > 1 else annotations
    found.extend(f"annotation {key} differs" for key in telling)
    return found


def _moved(desired: Mapping[str, str], held: Mapping[str, str]) -> list[tuple[str, str, str]]:
    if desired.items() <= held.items():  # nearly always
        return []
    return [(key, held.get(key, "none"), value) for key, value in sorted(desired.items()) if held.get(key) != value]


def _turn(change: Change) -> tuple[bool, bool, ResourceKey]:
    return change.action is Action.DELETE, change.key.kind == SERVICE_ENTRY, change.key
