"""One Eureka cluster: whether it can be read as the agent reads it, how fresh, and what its servers tell together."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from urllib.parse import urlsplit

from agent.check import peers
from agent.check.asking import Asking
from agent.check.eureka_server import Delta, Key, Lease, ServerLook, StopError
from agent.check.finding import Finding, Level, error, note, ok, registry, warning
from agent.check.freshness import SURE, Freshness, Measured, Told, measure, merged, overdue
from agent.check.seen import Seen
from agent.words import count, span
from hooks.eureka.settings import EurekaSettings
from state.errors import RegistryError
from state.limits import Limits
from state.model import Instance

ALONE = 16  # instances that are asked for one by one
DELTAS = 4  # that are asked for, each over a connection of its own
SKEW = 30.0  # seconds
SHOWN = 3  # of many
CACHE_OFF = "eureka.server.use-read-only-response-cache=false"

Sleep = Callable[[float], None]


def check_registry(settings: EurekaSettings, limits: Limits, sleep: Sleep = time.sleep) -> Seen:
    """Return how it is with a registry, which is only read."""
    place = registry(settings.name)
    try:
        with Asking(settings, limits) as asking:
            return _checked(settings, [ServerLook(settings, n, asking) for n in range(len(settings.urls))], sleep)
    except RegistryError as problem:
        return Seen((error(place, str(problem), f"mend the files that registries.{settings.name} names"),))


def _checked(settings: EurekaSettings, servers: Sequence[ServerLook], sleep: Sleep) -> Seen:
    place = registry(settings.name)
    for server in servers:
        with suppress(StopError):
            server.read_all()
    good = [server for server in servers if server.full is not None]
    found = [finding for server in servers for finding in server.findings]
    if not good:
        return Seen(tuple(found))
    # The agent does without a server as long as another answers.
    found = [replace(one, level=Level.WARNING) if one.level is Level.ERROR else one for one in found]
    first = good[0]
    assert first.full is not None
    told = len(first.findings)
    cluster = _Cluster(settings, first)
    with suppress(StopError):
        cluster.look(sleep)
    mine = {(one.app, one.id): one.instance for one in first.full.leases if one.instance is not None}
    found += [
        *first.findings[told:],
        *cluster.findings,
        *_cleartext(settings),
        *peers.differences(place, [(one.url, one.full) for one in good if one.full is not None]),
        *_instances(place, mine),
        *_services(settings, mine),
    ]
    found = list(dict.fromkeys(found))  # what each of several deltas told
    return Seen(tuple(found), services=frozenset(app for app, _ in mine))


class _Cluster:
    """A longer look at the server that the agent would ask."""

    def __init__(self, settings: EurekaSettings, server: ServerLook) -> None:
        self.findings: list[Finding] = []
        self._settings = settings
        self._place = registry(settings.name)
        self._server = server
        self._deltas: list[Delta] = []
        self._alone: dict[Key, int | None] = {}
        self._leases: dict[Key, Lease] = {}

    def look(self, sleep: Sleep) -> None:
        """See how fresh its answers are, and what else depends on the server."""
        statuses = [self._server.read_status()]
        self._ask_delta()
        if self._deltas:
            self._ask_alone()
            sleep(SURE)
            for _ in range(DELTAS - 1):
                self._ask_delta()
            self._tell_freshness()
        statuses.append(self._server.read_status())
        self.findings += peers.unnamed(self._settings, self._server.url, statuses[0])
        self._tell_shared(statuses)
        self._tell_clock()
        self._tell_overdue()

    def _ask_delta(self) -> None:
        delta = self._server.read_delta()
        if delta is not None:
            self._deltas.append(delta)

    def _ask_alone(self) -> None:
        """Ask for the instances that changed last, and for those whose leases are the oldest."""
        told = self._told(1)
        latest = sorted(told.leases, key=lambda key: -told.leases[key])[:ALONE]
        oldest = sorted(self._server.leases, key=lambda key: self._server.leases[key].renewed)[:ALONE]
        for key in dict.fromkeys((*latest, *oldest)):
            with suppress(RegistryError):
                self._alone[key], lease = self._server.read_one(key)
                if lease is not None:
                    self._leases[key] = lease

    def _told(self, deltas: int) -> Told:
        """Return what the list and that many deltas told together."""
        assert self._server.told is not None
        first = self._server.told
        taken = self._deltas[:deltas]
        return Told(taken[-1].at, merged(first.leases, [(one.changed, one.gone) for one in taken]))

    # What was seen

    def _tell_freshness(self) -> None:
        measured = measure(self._told(1), self._alone, self._told(len(self._deltas)))
        self.findings.append(_freshness(self._place, self._settings, measured))

    def _tell_shared(self, statuses: Iterable[peers.Status]) -> None:
        names = {status.name for status in statuses if status.name}
        versions = [delta.version for delta in self._deltas]
        back = any(later < earlier for earlier, later in pairwise(versions))
        if len(names) > 1 or back:
            who = f": {' and '.join(sorted(names))}" if len(names) > 1 else ", as the versions of its deltas go back"
            seen = f"several servers answer at {self._server.url}{who}"
            remedy = (
                f"name each of them in registries.{self._settings.name}.urls: isthmus sticks to one. Behind one "
                "address their answers differ, every difference costs a full read, and a restart is not seen"
            )
            self.findings.append(warning(self._place, seen, remedy))

    def _tell_clock(self) -> None:
        at = self._server.told.at if self._server.told is not None else 0.0
        skew = at - time.time()
        if at and abs(skew) > SKEW:
            seen = f"the clock of {self._server.url} is {span(abs(skew))} {'ahead' if skew > 0 else 'behind'} of ours"
            remedy = "set the clocks by NTP: isthmus compares Eureka's times only with one another, but people do not"
            self.findings.append(note(self._place, seen, remedy))

    def _tell_overdue(self) -> None:
        now = self._deltas[-1].at if self._deltas else 0.0
        late = {key: overdue(one.renewed, one.duration, now) for key, one in self._leases.items()} if now else {}
        kept = sorted((key for key, seconds in late.items() if seconds), key=lambda key: -late[key])
        if kept:
            more = f" and {len(kept) - SHOWN} more" if len(kept) > SHOWN else ""
            seen = (
                f"{self._server.url} keeps instances that do not renew their leases, "
                f"{', '.join('/'.join(key) for key in kept[:SHOWN])}{more}, which should have gone up to "
                f"{span(late[kept[0]])} ago: this is Eureka's self-preservation, which isthmus believes"
            )
            remedy = (
                "start them again, or cancel them: DELETE /eureka/apps/APP/ID; Eureka evicts nothing while fewer than "
                "85 % of the renewals come that it expects (eureka.server.renewal-percent-threshold)"
            )
            self.findings.append(warning(self._place, seen, remedy))


def _freshness(place: str, settings: EurekaSettings, measured: Measured) -> Finding:
    name = "/".join(measured.key)
    if measured.freshness is Freshness.CACHED:
        seen = f"changes are shown late, as the server answers from its cache: {name} was, by {span(measured.seconds)}"
        return note(place, f"{seen} or more", f"let it answer at once, by {CACHE_OFF}: else it takes up to 30 s")
    if measured.freshness is Freshness.DIRECT:
        poll = span(settings.poll)
        return ok(
            place, f"changes are shown at once: {name} was, within {span(measured.seconds)}; the poll adds {poll}"
        )
    seen = "nothing changed while we looked, so it cannot be told whether the server answers from its cache of 30 s"
    return note(place, seen, f"see that it has {CACHE_OFF}: then the time between two polls is the lag")


def _cleartext(settings: EurekaSettings) -> Iterable[Finding]:
    if not settings.username:
        return
    for url in settings.urls:
        parts = urlsplit(url)
        here = parts.hostname == "localhost" or (parts.hostname or "").startswith("127.") or parts.hostname == "::1"
        if parts.scheme == "http" and not here:
            seen = f"the password goes to {url} as it is: whoever is on the way can read it"
            yield warning(registry(settings.name), seen, "let that server speak https")


def _instances(place: str, mine: Mapping[Key, Instance]) -> Iterable[Finding]:
    """Yield what is wrong with instances in scope."""
    rejected = [f"{'/'.join(key)}: {one.rejected}" for key, one in mine.items() if one.rejected]
    dropped = [f"{'/'.join(key)}: {why}" for key, one in mine.items() for why in one.dropped]
    if rejected:
        seen = f"{count(len(rejected), 'instance')} of {len(mine)} cannot be published: {_some(rejected)}"
        remedy = (
            "let them register an IP address that clients can reach (eureka.instance.prefer-ip-address, "
            "eureka.instance.ip-address) and a port; `isthmus status` lists them all"
        )
        yield warning(place, seen, remedy)
    if dropped:
        seen = f"ignored, as it cannot be used, {count(len(dropped), 'value')} of metadata: {_some(dropped)}"
        yield note(place, seen, "mend them where they are registered")


def _some(rows: Sequence[str]) -> str:
    more = f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return "; ".join(rows[:SHOWN]) + more


def _services(settings: EurekaSettings, mine: Mapping[Key, Instance]) -> Iterable[Finding]:
    place = registry(settings.name)
    if not mine:
        seen = f"no application in scope is registered ({', '.join(settings.services)}): nothing will be published"
        yield warning(place, seen, f"register one, or mend registries.{settings.name}.services")
    else:
        up = sum(1 for one in mine.values() if not one.absent_because and not one.rejected)
        apps = len({app for app, _ in mine})
        seen = f"{count(apps, 'application')} in scope, {up} of {count(len(mine), 'instance')} can have traffic"
        yield ok(place, f"can be read as the agent reads it: {seen}")
