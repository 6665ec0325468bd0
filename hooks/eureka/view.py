"""What one Eureka server's deltas and full reads have taught: the delta view.

One server's ``lastUpdatedTimestamp`` orders all states of one instance: registering,
a change of status or metadata, cancelling and eviction all move it
(https://github.com/Netflix/eureka/blob/master/eureka-core/src/main/java/com/netflix/eureka/registry/AbstractInstanceRegistry.java).
So the last writer wins, whatever the order in which deltas and full reads arrive
from their caches, and a repetition changes nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from hooks.eureka.parse import Applications, Lease, hashcode
from hooks.fields import shown
from state.errors import RegistryError

# Seconds for which what was learnt overrules older news. The server's cache is up to 30 s old, so what arrives
# later than this is not older, whatever its time says: a server's clock may go back.
FRESH = 60.0
FEW = 2  # registrations; fewer tell nothing when they are new
DELETED = "DELETED"

_ACTIONS = frozenset(("ADDED", "MODIFIED", DELETED))
_NEVER = float("-inf")
_NOTHING: Mapping[str, Lease] = MappingProxyType({})
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Word:
    """The last word on one instance; ``lease`` is None when it is gone.

    ``updated`` is the server's time of that state (ms, 0 unknown): of the cancel when
    ``deleted`` (a delta said DELETED), else, when gone, of the ``last`` lease, which
    a full read did not list any more. ``learnt`` and ``taught`` are the monotonic
    seconds at which this state was first seen at all, and first seen in a delta.
    """

    lease: Lease | None
    updated: int
    learnt: float
    taught: float = _NEVER
    deleted: bool = False
    last: Lease | None = None


class DeltaView:
    """One server's instances, as its deltas and full reads have them; for one thread.

    Instances of applications out of scope count for the hash and are in nothing else.
    ``version`` is the one of the last delta that was taken, 0 before.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: another server, or another life of this one."""
        self.version = 0
        self._leases: dict[str, dict[str, Lease]] = {}
        self._words: dict[_Key, Word] = {}
        self._gone: set[_Key] = set()  # the keys of words that say so
        self._repeated: set[_Key] = set()  # those that the last delta said to be DELETED
        self._counts: Counter[str] = Counter()
        self._changed: set[str] = set()

    def take_delta(self, delta: Applications, now: float) -> set[str]:
        """Merge a delta; return the applications in scope whose instances changed.

        Raises RegistryError, and takes nothing, when an action is unknown: a full read is needed.
        """
        for lease in delta.leases:
            if lease.action not in _ACTIONS:
                raise RegistryError(f"actionType {shown(lease.action)} of {lease.app} {shown(lease.id)} is unknown")
        self._changed = set()
        news = _newest(delta.leases)
        for key, lease in news.items():
            known = self._words.get(key)
            if known is None or _beats(lease, known, now):
                self._learn(key, lease, known, now)
        self._repeated = {key for key, lease in news.items() if lease.action == DELETED}
        self._forget(now)
        self.version = delta.version
        return self._changed

    def take_full(self, full: Applications, now: float) -> set[str]:
        """Replace the view by a full read; return the applications in scope whose instances changed.

        It may be older than a delta: it undoes nothing that a delta taught in the last 60 s.
        """
        self._changed = set()
        listed = _newest(full.leases)
        for key, lease in listed.items():
            known = self._words.get(key)
            if known is None or not _withstands(known, lease, now):
                self._put(key, _seen(lease, known, now))
        for key, known in list(self._words.items()):
            if known.lease is not None and key not in listed and now - known.taught > FRESH:
                self._put(key, Word(None, known.updated, now, last=known.lease))
        self._forget(now)
        return self._changed

    @property
    def hashcode(self) -> str:
        """Return the hash of the view, to be compared with the one of the delta or full read just taken."""
        return hashcode(self._counts)

    def applications(self) -> set[str]:
        """Return the applications in scope that have an instance."""
        return {app for app, leases in self._leases.items() if next(iter(leases.values())).instance is not None}

    def leases(self, application: str) -> Mapping[str, Lease]:
        """Return an application's leases by instance id, in no order; nobody may change them."""
        return self._leases.get(application, _NOTHING)

    def word(self, application: str, id_: str) -> Word | None:
        """Return the last word on one instance; None when nothing was said, or long ago that it is gone."""
        return self._words.get((application, id_))

    def survives(self, full: Applications) -> bool:
        """Tell whether a registration that is known is still the same in a full read, or nothing tells.

        A server that began anew has taken all registrations since.
        """
        known = set(_registrations(lease for leases in self._leases.values() for lease in leases.values()))
        listed = set(_registrations(full.leases))
        return len(known) < FEW or not listed or not known.isdisjoint(listed)

    def _learn(self, key: _Key, lease: Lease, known: Word | None, now: float) -> None:
        """Take a lease of a delta, which is the newest word."""
        if lease.action == DELETED:
            if known is None or not known.deleted or known.updated != lease.updated:
                last = (known.lease or known.last) if known else None
                self._put(key, Word(None, lease.updated, now, now, deleted=True, last=last))
            return
        seen = _seen(lease, known, now)
        if seen.taught == _NEVER:
            seen = replace(seen, taught=now)
        if seen is not known:
            self._put(key, seen)

    def _put(self, key: _Key, word: Word) -> None:
        """Make this the word on an instance, and its application a changed one if that is seen from outside."""
        before = self._words.get(key)
        old = before.lease if before is not None else None
        self._words[key] = word
        app, id_ = key
        if old is not None:
            self._counts[old.status] -= 1
            del self._leases[app][id_]
        if word.lease is None:
            self._gone.add(key)
        else:
            self._gone.discard(key)
            self._counts[word.lease.status] += 1
            self._leases.setdefault(app, {})[id_] = word.lease
        if not self._leases.get(app, True):
            del self._leases[app]
        if (old and old.instance) != (word.lease and word.lease.instance):
            self._changed.add(app)

    def _forget(self, now: float) -> None:
        """Drop what is gone for so long that no cache shows it any more, but not what deltas still repeat."""
        for key in [key for key in self._gone if now - self._words[key].learnt > FRESH and key not in self._repeated]:
            del self._words[key]
            self._gone.discard(key)


def _registrations(leases: Iterable[Lease]) -> Iterator[tuple[str, str, int]]:
    for lease in leases:
        if lease.instance is not None and lease.instance.registered:
            yield lease.app, lease.id, lease.instance.registered


def _newest(leases: Iterable[Lease]) -> dict[_Key, Lease]:
    """Return the newest lease of each instance, whatever the order; of equal or unknown times the last one."""
    newest: dict[_Key, Lease] = {}
    for lease in leases:
        key = (lease.app, lease.id)
        other = newest.get(key)
        if other is None or lease.updated >= other.updated or not lease.updated:
            newest[key] = lease
    return newest


def _beats(lease: Lease, known: Word, now: float) -> bool:
    """Tell whether a lease of a delta says something newer than what is known, or the same."""
    if not lease.updated or not known.updated or now - known.learnt > FRESH:
        return True
    if lease.updated == known.updated and known.lease is None and not known.deleted:
        return lease.action == DELETED  # the very lease that a full read did not list any more
    return lease.updated >= known.updated


def _withstands(known: Word, lease: Lease, now: float) -> bool:
    """Tell whether a full read's lease may be older than what is known: only a delta may have taught that.

    Full reads come from one cache, each newer than the one before.
    """
    if now - known.taught > FRESH:
        return False
    return lease.updated <= known.updated or not lease.updated or not known.updated


def _seen(lease: Lease, known: Word | None, now: float) -> Word:
    """Return the word that a lease makes: the known one itself when it says the same."""
    if known is None or known.lease is None or known.updated != lease.updated:
        return Word(lease, lease.updated, now)
    if known.lease.instance == lease.instance and known.lease.status == lease.status:
        return known
    return replace(known, lease=lease)
