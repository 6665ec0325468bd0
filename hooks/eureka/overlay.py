"""What uncached reads of single instances know better than the server's cache."""

from dataclasses import dataclass

from hooks.eureka.parse import Lease
from hooks.eureka.view import FRESH, DeltaView, Word
from state.model import Instance

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Gone:
    """An instance that an uncached read did not find.

    ``updated`` is the server's time (ms) of the last state that is known to be over:
    a DELETED's own, else that of the last lease.
    """

    app: str
    id: str
    updated: int = 0


@dataclass(frozen=True, slots=True)
class _Taught:
    """An uncached word and when it was taught, in monotonic seconds."""

    word: Lease | Gone
    at: float


class Overlay:
    """Uncached words on single instances, each until the delta view has caught up with it; for one thread."""

    def __init__(self) -> None:
        self._taught: dict[str, dict[str, _Taught]] = {}

    def __len__(self) -> int:
        """Return how many instances are overruled."""
        return sum(map(len, self._taught.values()))

    def clear(self) -> None:
        """Forget everything: another server, or another life of this one."""
        self._taught.clear()

    def teach(self, word: Lease | Gone, now: float) -> None:
        """Remember what an uncached read showed; ``now`` is when it was begun, in monotonic seconds.

        A lease older than what the last 60 s taught is ignored. What is not found is
        gone in every state that was taught before.
        """
        known = self._taught.setdefault(word.app, {})
        before = known.get(word.id)
        if before is not None:
            if isinstance(word, Gone):
                word = Gone(word.app, word.id, max(word.updated, before.word.updated))
            elif now - before.at <= FRESH and word.updated and word.updated < before.word.updated:
                return
        known[word.id] = _Taught(word, now)

    def settle(self, view: DeltaView, now: float) -> set[str]:
        """After a delta, or a full read where there are none, drop what the view caught up with or what is 60 s old.

        Not after a full read alone: the delta that follows may be older, and tell again
        of what only the overlay knew. Returns the applications of what was dropped: their
        effective instances may have changed.
        """
        settled = set()
        for app, known in list(self._taught.items()):
            for id_, taught in list(known.items()):
                if now - taught.at >= FRESH or _caught_up(view.word(app, id_), taught):
                    del known[id_]
                    settled.add(app)
            if not known:
                del self._taught[app]
        return settled

    def word(self, app: str, id_: str) -> Lease | Gone | None:
        """Return what was taught on one instance, if anything was."""
        taught = self._taught.get(app, {}).get(id_)
        return taught.word if taught else None

    def taught(self, app: str) -> dict[str, _Taught]:
        """Return what was taught on an application's instances, by id."""
        return self._taught.get(app, {})


def effective(view: DeltaView, overlay: Overlay, app: str) -> tuple[Instance, ...]:
    """Return an application's instances, ordered by key: the view's, overruled by the overlay's newer words."""
    leases = dict(view.leases(app))
    for id_, taught in overlay.taught(app).items():
        if _newer(view.word(app, id_), taught):
            continue
        if isinstance(taught.word, Lease):
            leases[id_] = taught.word
        else:
            leases.pop(id_, None)
    found = [lease.instance for lease in leases.values() if lease.instance is not None]
    return tuple(sorted(found, key=lambda instance: instance.key))


def _newer(word: Word | None, taught: _Taught) -> bool:
    """Tell whether the view learnt, after an uncached read, of a later state: what it knew before the read is over."""
    if word is None or word.learnt < taught.at:
        return False
    return word.updated > taught.word.updated or not word.updated or not taught.word.updated


def _caught_up(word: Word | None, taught: _Taught) -> bool:
    """Tell whether the view says by itself what an uncached read showed, or something later."""
    if word is None:
        return False  # a cache may still list what is gone
    if _newer(word, taught):
        return True
    if isinstance(taught.word, Gone):
        return word.lease is None and word.updated >= taught.word.updated
    same = word.updated == taught.word.updated
    return same and word.lease is not None and word.lease.instance == taught.word.instance
