"""One server of a Eureka cluster: whether it can be read as the agent reads it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import NoReturn
from urllib.parse import quote, urlsplit

from agent.check.asking import JSON, Asking
from agent.check.finding import Finding, error, ok, registry, warning
from agent.check.freshness import Leases, Told
from agent.check.network import Server, advice
from agent.check.peers import Status, status
from agent.check.refusals import Refusal, refusal, shown
from agent.words import count
from hooks.eureka.bounded import Reply
from hooks.eureka.parse import Applications, applications, hashcode
from hooks.eureka.settings import EurekaSettings
from state.errors import RegistryError

DELETED = "DELETED"
PATHS = ("/eureka", "/eureka/v2", "/v2", "")  # under which Eureka may answer, of an address that lacks it
Key = tuple[str, str]


class StopError(Exception):
    """Nothing more can be seen of this server."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What one instance's lease is like, by the server's clock, in seconds."""

    renewed: float
    duration: float


@dataclass(frozen=True, slots=True)
class Delta:
    """What a server says has changed lately."""

    at: float
    version: int
    changed: Leases
    gone: frozenset[Key]


class ServerLook:
    """One look at one server; what could not be seen is None."""

    def __init__(self, settings: EurekaSettings, number: int, asking: Asking) -> None:
        self.findings: list[Finding] = []
        self.url = settings.urls[number]
        self.full: Applications | None = None
        self.told: Told | None = None
        self.leases: Mapping[Key, Lease] = {}
        self._settings = settings
        self._asking = asking
        self._place = registry(settings.name)
        self._key = f"registries.{settings.name}.urls[{number}]"
        name = f"registries.{settings.name}"
        self._server = Server(
            what="Eureka",
            url=self.url,
            address=self._key,
            ca=str(settings.ca_file or f"{name}.ca_file"),
            name=f"{name}.tls_server_name",
        )

    def read_all(self) -> None:
        """Read every application, as the agent does first."""
        answer = self.get("/apps")
        if (problem := refusal(self._settings, self.url, self._key, answer)) is not None:
            self._stop(*self._mended(answer, problem))
        try:
            self.full = applications(self._settings, answer.content)
        except RegistryError as failure:
            seen = f"{self.url}: {str(failure).removeprefix(f'{self._settings.name}: ')}"
            self._stop(seen, "see what stands there: this is not what Eureka answers")
        self.leases = dict(_leases(answer.content))
        self.told = Told(_clock(answer), {(one.app, one.id): one.updated for one in self.full.leases})
        statuses = Counter(one.status for one in self.full.leases)
        each = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
        apps = count(len({one.app for one in self.full.leases}), "application")
        self.ok(f"Eureka answers at {self.url}: {apps}, {count(sum(statuses.values()), 'instance')}: {each or 'none'}")
        own = hashcode(statuses)
        if self.full.hashcode and self.full.hashcode != own:
            seen = f"{self.url} contradicts itself: by its hash it has {self.full.hashcode}, and it lists {own}"
            remedy = "see what stands between here and there: isthmus accepts such a list only after it was repeated"
            self.findings.append(warning(self._place, seen, remedy))

    def read_delta(self) -> Delta | None:
        """Read what has changed lately; None, and a finding, when the server does not tell."""
        answer = self.get("/apps/delta")
        if answer.code in (403, 404):
            seen = f"{self.url} tells no deltas: it answers {answer.code}, {self.shown(answer)}"
            remedy = "let it: eureka.server.disable-delta=false; until then every poll reads all of the registry"
            self.findings.append(warning(self._place, seen, remedy))
            return None
        if (problem := refusal(self._settings, self.url, self._key, answer)) is not None:
            self.findings.append(warning(self._place, f"of the delta: {problem.seen}", problem.remedy))
            return None
        try:
            found = applications(self._settings, answer.content)
        except RegistryError as failure:
            seen = f"the delta of {self.url} cannot be read: {str(failure).removeprefix(f'{self._settings.name}: ')}"
            self.findings.append(
                warning(self._place, seen, "until that is mended every poll reads all of the registry")
            )
            return None
        latest: dict[Key, tuple[int, bool]] = {}
        for one in found.leases:
            key = (one.app, one.id)
            if one.updated >= latest.get(key, (0, False))[0]:
                latest[key] = (one.updated, one.action == DELETED)
        changed = {key: updated for key, (updated, gone) in latest.items() if not gone}
        return Delta(_clock(answer), found.version, changed, frozenset(latest.keys() - changed.keys()))

    def read_one(self, key: Key) -> tuple[int | None, Lease | None]:
        """Return when one instance was changed last and its lease, by the server's registry itself; None: it is gone.

        Raises RegistryError when the server does not tell.
        """
        answer = self.get(f"/apps/{quote(key[0], safe='')}/{quote(key[1], safe='')}")
        if answer.code == 404:
            return None, None
        if answer.code != 200:
            raise RegistryError(f"{self.url} answers {answer.code}")
        record = _object(_json(answer.content)).get("instance")
        return _whole(_object(record).get("lastUpdatedTimestamp")), _lease(_object(record))

    def read_status(self) -> Status:
        """Return what a server says of itself and of its peers; nothing where it does not."""
        answer = self.get("/status", accept="application/xml")
        return status(answer.content) if answer.code == 200 else Status()

    # Asking

    def get(self, path: str, accept: str = JSON) -> Reply:
        """Return an answer, whatever it is; stops when there is none."""
        try:
            return self._asking.get(self.url + path, accept)
        except RegistryError as problem:
            self._stop(f"{self.url} cannot be reached: {problem}", advice(problem, self._server))

    def shown(self, answer: Reply) -> str:
        """Return the beginning of an answer, without secrets."""
        return self._asking.without_secrets(shown(answer))

    def ok(self, seen: str) -> None:
        """Note that something is as it must be."""
        self.findings.append(ok(self._place, seen))

    def _mended(self, answer: Reply, problem: Refusal) -> Refusal:
        """Return a refusal with the address that was meant, when Eureka answers under another path."""
        if answer.code == 404 or b"<html" in answer.content.lower():
            parts = urlsplit(self.url)
            for path in PATHS:
                other = f"{parts.scheme}://{parts.netloc}{path}"
                with suppress(RegistryError):
                    if other != self.url and b'"applications"' in self._asking.get(f"{other}/apps").content[:CUT_JSON]:
                        return Refusal(problem.seen, f"write {other} in {self._key}: there Eureka answers")
        return Refusal(self._asking.without_secrets(problem.seen), problem.remedy)

    def _stop(self, seen: str, remedy: str) -> NoReturn:
        self.findings.append(error(self._place, seen, remedy))
        raise StopError


CUT_JSON = 100  # bytes, in which a list of applications has said that it is one


def _clock(answer: Reply) -> float:
    """Return when a server answered, in whole seconds by its own clock; 0 when it does not say."""
    with suppress(ValueError, TypeError, OverflowError):
        return parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    return 0.0


def _leases(content: bytes) -> Iterator[tuple[Key, Lease]]:
    """Yield the leases of a list of applications."""
    for app in _list(_object(_object(_json(content)).get("applications")).get("application")):
        for record in _list(_object(app).get("instance")):
            key = (str(_object(record).get("app", "")), str(_object(record).get("instanceId", "")))
            if (lease := _lease(_object(record))) is not None:
                yield key, lease


def _lease(record: Mapping[str, object]) -> Lease | None:
    lease = _object(record.get("leaseInfo"))
    renewed, duration = _whole(lease.get("lastRenewalTimestamp")), _whole(lease.get("durationInSecs"))
    return Lease(renewed / 1000, float(duration)) if renewed and duration else None


def _whole(value: object) -> int:
    """Return a number that may come as text; 0 where there is none."""
    with suppress(ValueError, TypeError, OverflowError):
        return int(value) if isinstance(value, int | float | str) else 0
    return 0


def _list(value: object) -> Sequence[object]:
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
