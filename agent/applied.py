"""What one cluster took, as its lane knows it, and what of that is still to be remembered."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from agent.retry import content_digest
from agent.translate import ISTIO_LABELS
from state import shared
from state.checkpoint import Applied
from state.model import AUTHOR, DIGEST, MANAGED_BY, OWNER_LABEL, PRODUCT, WORKLOAD_ENTRY, Held, Resource, ResourceKey


class AppliedRows:
    """A row for each object that a cluster acknowledged."""

    def __init__(self, rows: dict[ResourceKey, Applied], owner: str) -> None:
        self.rows = rows
        self._owner = owner
        self._found: list[Applied] = []
        self._forgotten: list[ResourceKey] = []

    def own(self, held: Held) -> Held:
        """Return an object with what we know to be ours in it, even if its labels were tampered with."""
        row = self.rows.get(held.key)
        # What an answer to a write has told can be newer than what was applied, whose turn comes later.
        held = replace(held, own_labels=_own_labels(held.key.kind, held.own_labels, row.labels if row else ()))
        if row is None:
            return held
        tampered = held.annotations.get(DIGEST) == row.digest or not held.owner  # else another owner took it over
        if held.uid == row.uid and held.owner != self._owner and held.key.kind == WORKLOAD_ENTRY and tampered:
            return replace(held, labels={**held.labels, OWNER_LABEL: self._owner}, spec_digest="")
        if held.uid == row.uid and not held.owner:  # of a ServiceEntry that names an author, that is the author
            return replace(held, annotations={**held.annotations, AUTHOR: self._owner}, spec_digest="")
        return held

    def meet(self, objects: Mapping[ResourceKey, Held]) -> None:
        """Keep the words that rows and the objects that are there have in common once."""
        rows = ((row, objects.get(row.key)) for row in self.rows.values())
        self.rows = {one.key: one for one in (row if held is None else _alike(row, held) for row, held in rows)}

    def is_of_isthmus(self, held: Held) -> bool:
        """Tell whether an object is ours, or another owner's of isthmus."""
        row = self.rows.get(held.key)
        return held.labels.get(MANAGED_BY) == PRODUCT or (row is not None and row.uid == held.uid)

    def acknowledge(self, resource: Resource, held: Held) -> Applied:
        """Note what the cluster took; return the row, which the caller remembers."""
        row = _row(resource, held)
        self.rows[row.key] = row
        return row

    def recognise(self, resource: Resource, held: Held) -> bool:
        """Note that an object is there as desired; tell whether nothing remembered writing just that."""
        known = self.rows.get(resource.key)
        if known is not None and known.digest == content_digest(resource):
            return False
        self._found.append(self.acknowledge(resource, held))
        return True

    def need(self, key: ResourceKey) -> None:
        """Note that a ServiceEntry that had lingered is needed."""
        if key in self.rows:
            self.rows[key] = replace(self.rows[key], unneeded=None)
            self._found.append(self.rows[key])

    def forget(self, keys: Iterable[ResourceKey]) -> None:
        """Note that objects are neither there nor desired any more."""
        self._forgotten.extend(key for key in keys if self.rows.pop(key, None))

    def news(self) -> tuple[list[Applied], list[ResourceKey]]:
        """Return what was found and what was forgotten since the last call."""
        news = self._found, self._forgotten
        self._found, self._forgotten = [], []
        return news


@lru_cache(shared.LATELY)
def _own_labels(kind: str, told: tuple[str, ...], applied: tuple[str, ...]) -> tuple[str, ...]:
    own = {*told, *applied}
    if kind == WORKLOAD_ENTRY:
        own.update(ISTIO_LABELS)  # also where nobody remembers writing them
    return shared.words(tuple(sorted(own)))


def _row(resource: Resource, held: Held) -> Applied:
    return Applied(
        key=held.key,
        digest=_same(content_digest(resource), held.annotations.get(DIGEST)),
        uid=held.uid,
        generation=held.generation,
        resource_version=held.resource_version,
        labels=shared.words(tuple(resource.labels)),
    )


def _alike(row: Applied, held: Held) -> Applied:
    return Applied(
        key=held.key,
        digest=_same(row.digest, held.annotations.get(DIGEST)),
        uid=_same(row.uid, held.uid),
        generation=row.generation,
        resource_version=_same(row.resource_version, held.resource_version),
        labels=row.labels,
        unneeded=row.unneeded,
    )


def _same(text: str, other: str | None) -> str:
    """Return a text, the very other one if they are equal."""
    return other if other == text else text
