"""A lane's picture of the isthmus objects in its cluster, whoever owns them."""

from collections.abc import Iterable, Mapping

from agent.authorship import selector_of
from agent.hosts import Place
from agent.naming import host_label
from state.model import SERVICE_ENTRY, WORKLOAD_ENTRY, Held, ResourceKey


class Mirror:
    """Objects by key, and the keys at each place."""

    def __init__(self) -> None:
        self.objects: dict[ResourceKey, Held] = {}
        self._at: dict[Place, set[ResourceKey]] = {}
        self._selecting: dict[Place, set[ResourceKey]] = {}  # ServiceEntries by the other place that they select

    def replace(self, objects: Mapping[ResourceKey, Held]) -> set[Place]:
        """Take a whole new picture; return every place that is in the old or the new one."""
        places = set(self._at)
        self.objects, self._at, self._selecting = {}, {}, {}
        for held in objects.values():
            self.put(held)
        return places | set(self._at)

    def put(self, held: Held) -> set[Place]:
        """Take one object; return the places that it is and was at."""
        before = self.drop(held.key)
        self.objects[held.key] = held
        place = place_of(held)
        self._at.setdefault(place, set()).add(held.key)
        if held.key.kind == SERVICE_ENTRY and (selected := selected_at(held)) not in (None, place):
            self._selecting.setdefault(selected, set()).add(held.key)
        return before | {place}

    def drop(self, key: ResourceKey) -> set[Place]:
        """Forget one object; return the place that it was at."""
        held = self.objects.pop(key, None)
        if held is None:
            return set()
        place = place_of(held)
        self._at[place].discard(key)
        if not self._at[place]:
            del self._at[place]
        if key.kind == SERVICE_ENTRY and (selected := selected_at(held)) in self._selecting:
            self._selecting[selected].discard(key)
            if not self._selecting[selected]:
                del self._selecting[selected]
        return {place}

    def at(self, place: Place, keys: Iterable[ResourceKey] = ()) -> list[Held]:
        """Return what is at a place, and what has one of these keys wherever it is."""
        found = self._at.get(place, set()) | {key for key in keys if key in self.objects}
        return [self.objects[key] for key in found]

    def key(self, key: ResourceKey) -> ResourceKey:
        """Return a key, the very one of the object that is there, if it is: keys are kept long, and in many places."""
        held = self.objects.get(key)
        return key if held is None else held.key

    def places(self) -> set[Place]:
        """Return every place that holds something."""
        return set(self._at)

    def selecting(self, place: Place) -> list[Held]:
        """Return the ServiceEntries elsewhere that select what is at a place: a host's aliases."""
        return [self.objects[key] for key in self._selecting.get(place, ())]

    def has_workloads(self, place: Place, owner: str = "") -> bool:
        """Tell whether an owner's WorkloadEntry is at a place, or anybody's."""
        keys = (key for key in self._at.get(place, ()) if key.kind == WORKLOAD_ENTRY)
        return any(not owner or self.objects[key].owner == owner for key in keys)

    def entries(self, owner: str) -> list[Held]:
        """Return the ServiceEntries of an author."""
        return [h for key, h in self.objects.items() if key.kind == SERVICE_ENTRY and h.owner == owner]


def selected_at(held: Held) -> Place | None:
    """Return where the WorkloadEntries are that a ServiceEntry selects, None when its spec is not known."""
    label = selector_of(held)
    return None if label is None else Place(held.key.namespace, label or host_label(held.key.name))


def place_of(held: Held) -> Place:
    """Return where an object is, as its labels or its name say."""
    return Place(held.key.namespace, host_label(held.host))
