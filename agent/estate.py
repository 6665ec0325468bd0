"""What an owner has in a cluster: what of it can go when it is gone, and what of it another owner can take over.

Pure.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from agent.gate import sources_of
from agent.hosts import Place
from agent.mirror import place_of
from agent.naming import host_label
from state.model import HOST_LABEL, SERVICE_ENTRY, WORKLOAD_ENTRY, Held, ResourceKey

Objects = Mapping[ResourceKey, Held]


@dataclass(frozen=True, slots=True)
class Left:
    """An object that is left as it is, and why."""

    held: Held
    why: str


@dataclass(frozen=True, slots=True)
class Estate:
    """The objects of an owner with which something may be done, WorkloadEntries first, and those that are left."""

    objects: tuple[Held, ...] = ()
    left: tuple[Left, ...] = ()


def owners(objects: Iterable[Held]) -> tuple[str, ...]:
    """Return everybody who has something in a cluster, sorted."""
    return tuple(sorted({held.owner for held in objects if held.owner}))


def purgeable(objects: Objects, owner: str) -> Estate:
    """Return what of an owner's can be deleted: no ServiceEntry that selects a WorkloadEntry of another owner."""
    others = _owners_at(held for held in objects.values() if held.owner != owner)
    return _split(objects, owner, lambda held: _used(others, held))


def idle(objects: Objects, owner: str) -> Estate:
    """Return those of an owner's ServiceEntries that can be deleted now: they select no WorkloadEntry at all."""
    there = _owners_at(objects.values())
    services = {key: held for key, held in objects.items() if key.kind == SERVICE_ENTRY}
    return _split(services, owner, lambda held: _used(there, held))


def adoptable(objects: Objects, owner: str, registries: Collection[str]) -> Estate:
    """Return what of an owner's can be taken over by one that hears these registries.

    What another registry may still list is left: nobody here would hear of it, and it would be deleted.
    """
    theirs = [held for held in objects.values() if held.owner == owner and held.key.kind == WORKLOAD_ENTRY]
    unheard = {held.key: why for held in theirs if (why := _unheard(held, registries))}
    heard_at = _owners_at(held for held in theirs if held.key not in unheard)
    unheard_at = _owners_at(held for held in theirs if held.key in unheard)

    def why_left(held: Held) -> str:
        if held.key.kind == WORKLOAD_ENTRY:
            return unheard.get(held.key, "")
        place = _selected(held)
        return "what it selects is left as well" if place in unheard_at and place not in heard_at else ""

    return _split(objects, owner, why_left)


def _split(objects: Objects, owner: str, why_left: Callable[[Held], str]) -> Estate:
    found: list[Held] = []
    left: list[Left] = []
    ours = (held for held in objects.values() if held.owner == owner)
    for held in sorted(ours, key=lambda one: (one.key.kind == SERVICE_ENTRY, one.key)):
        if why := why_left(held):
            left.append(Left(held, why))
        else:
            found.append(held)
    return Estate(tuple(found), tuple(left))


def _owners_at(objects: Iterable[Held]) -> dict[Place, set[str]]:
    """Return whose WorkloadEntries are at which place."""
    found: dict[Place, set[str]] = {}
    for held in objects:
        if held.key.kind == WORKLOAD_ENTRY:
            found.setdefault(place_of(held), set()).add(held.owner or "nobody")
    return found


def _used(workloads: Mapping[Place, set[str]], held: Held) -> str:
    """Return by whom a ServiceEntry is used, if it is one."""
    if held.key.kind != SERVICE_ENTRY:
        return ""
    users = workloads.get(_selected(held), set())
    return f"it selects WorkloadEntries of {', '.join(sorted(users))}" if users else ""


def _selected(held: Held) -> Place:
    """Return the place whose WorkloadEntries a ServiceEntry selects; an alias selects those of another host."""
    try:
        label = json.loads(held.spec)["workloadSelector"]["labels"][HOST_LABEL]
    except (ValueError, TypeError, KeyError):
        label = host_label(held.key.name)
    return Place(held.key.namespace, str(label))


def _unheard(held: Held, registries: Collection[str]) -> str:
    sources = sources_of(held)
    if not sources:
        return "it does not say which registration it came from"
    unknown = sorted({registry for registry, _ in sources} - set(registries))
    return f"it came from {', '.join(unknown)}, which this configuration does not have" if unknown else ""
