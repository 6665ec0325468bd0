"""Asking the registry itself, past its cache, about everything that is about to leave."""

import time
from collections.abc import Collection, Iterable

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
        self._misses: dict[str, dict[str, int]] = {}  # how often each that is missing was not found, by application
        self._unanswered: dict[InstanceKey, float] = {}  # since when each that is missing was asked for in vain
        self._asked: set[Named] = set()  # in this turn
        self.made = 0
        self.pending: dict[str, str] = {}  # applications of which something must be asked again, and why

    def clear(self) -> None:
        """Forget what another server, or another life of this one, did not find."""
        self._misses.clear()
        self._unanswered.clear()
        self.pending.clear()

    def begin(self) -> None:
        """Begin a turn, which may ask for so many."""
        self._asked.clear()
        if self._misses:
            for app in self._misses.keys() - set(self._listener.services()):
                del self._misses[app]  # all of it has left
        for key in [key for key in self._unanswered if self._listener.known(key) is None]:
            del self._unanswered[key]

    def confirm(self, url: str, applications: Iterable[str]) -> None:
        """Ask about the instances that would leave these applications; RegistryError when the client was closed."""
        suspects: list[Named] = []
        for app in applications:
            removed = [key for key in self._listener.removed(self._effective(app)) if not self._stands(key)]
            suspects += [(key.service, key.id) for key in removed if (key.service, key.id) not in self._asked]
        # What was never asked for comes first: the others were missing once before.
        suspects.sort(key=self._missed)
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
                self._unanswered.setdefault(_key(named), now)
            else:
                self._unanswered.pop(_key(named), None)
        self.pending |= errors

    def snapshot(self, app: str) -> Snapshot:
        """Return what is known of an application; what could not be confirmed to be gone is in ``unread``.

        But for one that another life of the data shows for the first time: whatever it
        lacks is held, so that it is seen at once, and no proof counts before it is confirmed.
        """
        snapshot = self._effective(app)
        there = {instance.key for instance in snapshot.instances}
        missing = [key for key in self._listener.removed(snapshot) if key not in there]
        self._forget_all_but(app, missing)
        now = time.monotonic()
        unread = frozenset(key for key in missing if not self._is_gone(key, now))
        if unread:
            self.pending.setdefault(app, f"missing, and to be asked for again: {min(unread).id} ({len(unread)} in all)")
        else:
            self.pending.pop(app, None)
        return Snapshot(app, snapshot.instances, unread=unread if self._listener.seen(app) else frozenset())

    def _forget_all_but(self, app: str, missing: Collection[InstanceKey]) -> None:
        """Forget how often was not found what is there again, or has left."""
        misses = self._misses.pop(app, {})
        kept = {key.id: misses[key.id] for key in missing if key.id in misses}
        if kept:
            self._misses[app] = kept
        for key in [key for key in self._unanswered if key.service == app and key not in missing]:
            del self._unanswered[key]

    def _missed(self, named: Named) -> int:
        return self._misses.get(named[0], {}).get(named[1], 0)

    def _effective(self, app: str) -> Snapshot:
        return Snapshot(app, effective(self._view, self._overlay, app))

    def _stands(self, key: InstanceKey) -> bool:
        """Tell whether nobody needs to be asked: it is not ours to see, or no registration of Eureka's."""
        return not parse.in_scope(self._settings.services, key.service) or bool(key.node)

    def _is_gone(self, key: InstanceKey, now: float) -> bool:
        if self._stands(key) or isinstance(self._overlay.word(key.service, key.id), Gone):
            return True
        named, word = (key.service, key.id), self._view.word(key.service, key.id)
        # A delta's own word stands even when nobody could be asked; a full read's does not, but for long.
        return (
            (word is not None and word.deleted)
            or self._missed(named) >= BELIEVED
            or now - self._unanswered.get(key, now) >= STALE
        )

    def _take(self, named: Named, answer: bytes | RegistryError | None, now: float) -> None:
        """Learn from one answer to what was asked at ``now``; RegistryError when it says nothing."""
        if isinstance(answer, RegistryError):
            raise answer
        if answer is not None:
            lease = parse.lease(self._settings, answer)
            if (lease.app, lease.id) != named:
                raise RegistryError(f"asked for {'/'.join(named)}, it answered with {lease.app}/{lease.id}")
            self._misses.get(named[0], {}).pop(named[1], None)
            self._overlay.teach(lease, now)
            return
        word = self._view.word(*named)
        deleted = word is not None and word.deleted
        missed = BELIEVED if deleted else self._missed(named) + 1
        self._misses.setdefault(named[0], {})[named[1]] = missed
        if missed >= BELIEVED:
            self._overlay.teach(Gone(*named, updated=self._last(named)), now)

    def _last(self, named: Named) -> int:
        """Return the time of the last state that is known of what is gone."""
        word, known = self._view.word(*named), self._overlay.word(*named)
        times = [word.updated if word is not None else 0, known.updated if isinstance(known, Lease | Gone) else 0]
        return max(times)


def _key(named: Named) -> InstanceKey:
    return InstanceKey(named[0], "", named[1])
