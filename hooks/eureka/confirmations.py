"""Asking the registry itself, past its cache, about everything that is about to leave."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from hooks.eureka import parse
from hooks.eureka.client import EurekaClient, Named
from hooks.eureka.overlay import Gone, Overlay, effective
from hooks.eureka.parse import Lease
from hooks.eureka.settings import EurekaSettings
from hooks.eureka.view import DeltaView
from hooks.listener import Listener
from state.errors import RegistryError
from state.model import InstanceKey, Snapshot

MOST = 200  # reads in one turn, eight at a time: a second or so
BELIEVED = 2  # times that an instance is not found, at different polls, when no delta said that it was deleted
# Seconds for which every poll lacks an instance of which the server tells nothing by itself (an ID that its web server,
# or a proxy, refuses): no answer is as old, since its caches keep one for 180 s and for 30 s more.
STALE = 240.0


@dataclass(slots=True)
class _Doubt:
    """What asking for one that is missing has brought so far."""

    misses: int = 0  # times that it was not found
    unanswered: float | None = None  # since when nothing was said of it; monotonic


class Confirmations:
    """Makes the uncached reads of instances, and what they say the snapshots of applications; for one thread.

    A server's deltas and full reads are up to 30 s old, so what they lack may be back
    already. What no delta said to be deleted, and a full read lacks, may only be
    unknown to the peer that answered: it is gone when it is not found a second time,
    or, where nobody can be asked, when it was lacking for longer than any cache lasts.
    """

    def __init__(
        self, settings: EurekaSettings, client: EurekaClient, listener: Listener, view: DeltaView, overlay: Overlay
    ) -> None:
        self._settings = settings
        self._client = client
        self._listener = listener
        self._view = view
        self._overlay = overlay
        self._doubts: dict[str, dict[str, _Doubt]] = {}  # of what is missing, by application and ID
        self._asked: set[Named] = set()  # in this turn
        self.made = 0
        self.pending: dict[str, str] = {}  # applications of which something must be asked again, and why

    def clear(self) -> None:
        """Forget what another server, or another life of this one, did not find."""
        self._doubts.clear()
        self.pending.clear()

    def begin(self) -> None:
        """Begin a turn, which may ask for so many."""
        self._asked.clear()
        for app, doubts in list(self._doubts.items()):  # what has left since the last turn
            self._forget_all_but(app, {id_ for id_ in doubts if self._listener.known(InstanceKey(app, "", id_))})

    def confirm(self, url: str, applications: Iterable[str]) -> None:
        """Ask about the instances that would leave these applications; RegistryError when the client was closed."""
        suspects: list[Named] = []
        for app in applications:
            removed = [key for key in self._listener.removed(self._effective(app)) if not self._stands(key)]
            suspects += [(key.service, key.id) for key in removed if (key.service, key.id) not in self._asked]
        # What was never asked for comes first: the others were missing once before.
        suspects.sort(key=lambda named: self._doubt(named).misses)
        chosen = suspects[: max(0, MOST - len(self._asked))]
        if not chosen:
            return
        self._asked.update(chosen)
        self.made += len(chosen)
        errors, now = {}, time.monotonic()
        for named, answer in self._client.instances(url, chosen).items():
            try:
                self._take(named, answer, now)
            except RegistryError as error:
                errors[named[0]] = str(error)
                doubt = self._doubts.setdefault(named[0], {}).setdefault(named[1], _Doubt())
                doubt.unanswered = now if doubt.unanswered is None else doubt.unanswered
        self.pending |= errors

    def snapshot(self, app: str) -> Snapshot:
        """Return what is known of an application; what could not be confirmed to be gone is in ``unread``.

        But for one that another life of the data shows for the first time: whatever it
        lacks is held, so that it is seen at once, and no proof counts before it is confirmed.
        """
        snapshot = self._effective(app)
        there = {instance.key for instance in snapshot.instances}
        missing = [key for key in self._listener.removed(snapshot) if key not in there]
        self._forget_all_but(app, {key.id for key in missing})
        now = time.monotonic()
        unread = frozenset(key for key in missing if not self._is_gone(key, now))
        if unread:
            self.pending.setdefault(app, f"missing, and to be asked for again: {min(unread).id} ({len(unread)} in all)")
        else:
            self.pending.pop(app, None)
        return Snapshot(app, snapshot.instances, unread=unread if self._listener.seen(app) else frozenset())

    def _forget_all_but(self, app: str, missing: set[str]) -> None:
        """Forget what asking has brought of those that are there again, or have left."""
        kept = {id_: doubt for id_, doubt in self._doubts.pop(app, {}).items() if id_ in missing}
        if kept:
            self._doubts[app] = kept

    def _doubt(self, named: Named) -> _Doubt:
        return self._doubts.get(named[0], {}).get(named[1]) or _Doubt()

    def _effective(self, app: str) -> Snapshot:
        return Snapshot(app, effective(self._view, self._overlay, app))

    def _stands(self, key: InstanceKey) -> bool:
        """Tell whether nobody needs to be asked: it is not ours to see, or no registration of Eureka's."""
        return not parse.in_scope(self._settings.services, key.service) or bool(key.node)

    def _is_gone(self, key: InstanceKey, now: float) -> bool:
        if self._stands(key) or isinstance(self._overlay.word(key.service, key.id), Gone):
            return True
        doubt, word = self._doubt((key.service, key.id)), self._view.word(key.service, key.id)
        # A delta's own word stands even when nobody could be asked; a full read's does not, but for long.
        return (
            (word is not None and word.deleted)
            or doubt.misses >= BELIEVED
            or (doubt.unanswered is not None and now - doubt.unanswered >= STALE)
        )

    def _take(self, named: Named, answer: bytes | RegistryError | None, now: float) -> None:
        """Learn from one answer to what was asked at ``now``; RegistryError when it says nothing."""
        if isinstance(answer, RegistryError):
            raise answer
        if answer is not None:
            lease = parse.lease(self._settings, answer)
            if (lease.app, lease.id) != named:
                raise RegistryError(f"asked for {'/'.join(named)}, it answered with {lease.app}/{lease.id}")
            self._doubts.get(named[0], {}).pop(named[1], None)
            self._overlay.teach(lease, now)
            return
        word = self._view.word(*named)
        deleted = word is not None and word.deleted
        misses = BELIEVED if deleted else self._doubt(named).misses + 1
        self._doubts.setdefault(named[0], {})[named[1]] = _Doubt(misses)
        if misses >= BELIEVED:
            self._overlay.teach(Gone(*named, updated=self._last(named)), now)

    def _last(self, named: Named) -> int:
        """Return the time of the last state that is known of what is gone."""
        word, known = self._view.word(*named), self._overlay.word(*named)
        times = [word.updated if word is not None else 0, known.updated if isinstance(known, Lease | Gone) else 0]
        return max(times)
