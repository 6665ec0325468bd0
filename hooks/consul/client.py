"""The one adapter to Consul's HTTP API: an answer that may be believed, or a RegistryError.

Source: https://developer.hashicorp.com/consul/api-docs/features/blocking. Every read is in
default consistency mode.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Generic, Literal, TypeVar
from urllib.parse import quote, urlsplit

from hooks.consul import parse
from hooks.consul.parse import Check
from hooks.consul.proven import Targets
from hooks.consul.settings import ConsulSettings
from hooks.consul.transport import Reply, Transport
from hooks.secret import read_token
from state.errors import RegistryError
from state.limits import Limits
from state.model import Snapshot

EVERYTHING = ("*",)
HEALTH = "/v1/health/service/"
STALEST = 5000  # milliseconds; an agent with discovery_max_stale answers stale whatever it is asked
CUT = 200  # characters of a body in an error

T = TypeVar("T")
_INDEX = re.compile(r"-?[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What was read, and the index from which to wait for the next change.

    The index can be lower than the one asked with: then the registry's data began anew.
    """

    index: int
    body: T


class ConsulClient:
    """Reads one Consul datacenter. For one thread; only ``close`` may be called from another.

    Every read raises RegistryError, with the registry's name, the path and what was
    seen, unless the answer is complete: status 200, JSON of the right shape, an
    index, a leader known, and nothing in scope filtered by ACLs. With ``index``
    and ``wait`` (seconds) above zero a list is answered when it changes, or after
    ``wait`` and up to a sixteenth more.
    """

    def __init__(self, settings: ConsulSettings, limits: Limits) -> None:
        self._settings = settings
        self._transport = Transport(settings, limits)
        self._targets = Targets()
        self._token = ""
        self._password = urlsplit(settings.url).password or ""

    def services(self, index: int = 0, wait: float = 0.0) -> Answer[frozenset[str]]:
        """Return the names of the services in scope."""
        return self._list("/v1/catalog/services", partial(parse.services, self._settings), index, wait)

    def nodes(self, index: int = 0, wait: float = 0.0) -> Answer[Mapping[str, str]]:
        """Return a digest for each node: of its address, tagged addresses and metadata."""
        return self._list("/v1/catalog/nodes", parse.nodes, index, wait)

    def state(
        self, status: Literal["critical", "warning"], index: int = 0, wait: float = 0.0
    ) -> Answer[frozenset[Check]]:
        """Return all checks that have this status."""
        return self._list(f"/v1/health/state/{status}", parse.checks, index, wait)

    def service(self, name: str, patience: float | None = None) -> Snapshot:
        """Return all instances of a service, healthy or not; ``patience`` takes the place of the read timeout."""
        parsed = partial(parse.snapshot, self._settings, name, targets=self._targets)
        answer = self._read(f"{HEALTH}{name}", parsed, patience=patience)
        return Snapshot(name, answer.body.instances, answer.index)

    def probe(self) -> None:
        """Raise RegistryError unless the service that must always be readable has instances."""
        name = self._settings.probe
        self._read(f"{HEALTH}{name}", _some, role=f" (the probe {name}, without which nothing is believed)")

    def close(self) -> None:
        """End the call in flight, which then raises, and refuse any other."""
        self._transport.close()

    def _list(self, path: str, parsed: Callable[[object], T], index: int, wait: float) -> Answer[T]:
        # Without a wait Consul would wait for its default of five minutes; without an index it waits for nothing.
        blocking = (index, wait) if index > 0 and wait > 0 else None
        return self._read(path, parsed, blocking, filtered=self._settings.services != EVERYTHING)

    def _read(
        self,
        path: str,
        parsed: Callable[[object], T],
        blocking: tuple[int, float] | None = None,
        *,
        filtered: bool = False,
        role: str = "",
        patience: float | None = None,
    ) -> Answer[T]:
        try:
            reply = self._get(path, blocking, patience)
            if reply.code != HTTPStatus.OK:
                raise RegistryError(f"answered {reply.code}: {self._shown(reply.content)}")
            if _says(reply, "X-Consul-Knownleader", "false"):
                raise RegistryError("answered without a leader, X-Consul-Knownleader: false")
            stale = reply.headers.get("X-Consul-Lastcontact", "")
            if _INDEX.fullmatch(stale) and int(stale) > STALEST:
                raise RegistryError(f"answered by a server that heard from its leader {stale} ms ago")
            if not filtered and _says(reply, "X-Consul-Results-Filtered-By-ACLs", "true"):
                raise RegistryError("the token may not see all of it, X-Consul-Results-Filtered-By-ACLs: true")
            return Answer(_index(reply), self._parsed(reply, parsed))
        except RegistryError as error:
            where = quote(path, errors="backslashreplace")
            raise RegistryError(f"{self._settings.name}: {where}{role}: {self._clean(str(error))}") from error

    def _get(self, path: str, blocking: tuple[int, float] | None, patience: float | None) -> Reply:
        problem = unaskable(path.removeprefix("/"))
        if problem:
            raise RegistryError(problem)
        # The default mode, in which only the leader answers: without it an agent's discovery_max_stale rules.
        params = [("leader", "")]
        params += [("dc", self._settings.datacenter)] if self._settings.datacenter else []
        wait = 0.0
        if blocking is not None:
            index, wait = blocking
            params += [("index", str(index)), ("wait", f"{max(1, round(wait * 1000))}ms")]
        self._token = read_token(self._settings.token_file)
        headers = {"X-Consul-Token": self._token} if self._token else {}
        try:
            return self._transport.get(path, params, headers, wait, patience)
        except RegistryError as error:
            raise RegistryError(self._line(str(error))) from error

    def _parsed(self, reply: Reply, parsed: Callable[[object], T]) -> T:
        try:
            return parsed(json.loads(reply.content))
        except RecursionError:
            raise RegistryError(f"answered JSON nested too deep: {self._shown(reply.content)}") from None
        except ValueError:
            raise RegistryError(f"answered without JSON: {self._shown(reply.content)}") from None

    def _shown(self, content: bytes) -> str:
        return self._line(content[: 10 * CUT].decode("utf-8", "replace")) or "(an empty body)"

    def _line(self, text: str) -> str:
        """Return the beginning of a text that may come from anywhere: on one line, without secrets."""
        text = self._clean(text)
        return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:CUT]

    def _clean(self, text: str) -> str:
        for secret in filter(None, (self._token, self._password)):
            text = text.replace(secret, "***")
        return text


def unaskable(name: str) -> str:
    """Return why no URL can ask for a name, or nothing."""
    if not name or name.startswith("/") or "//" in name or {".", ".."}.intersection(name.split("/")):
        return "no URL can carry this name, as one of its segments is empty or only dots"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "no URL can carry this name, as it is no valid Unicode"
    return ""


def _says(reply: Reply, header: str, word: str) -> bool:
    return reply.headers.get(header, "").strip().lower() == word


def _index(reply: Reply) -> int:
    text = reply.headers.get("X-Consul-Index", "").strip()
    if not _INDEX.fullmatch(text):
        raise RegistryError(f"answered with X-Consul-Index {text[:CUT]!r}, which is no number")
    return max(1, int(text))


def _some(body: object) -> None:
    if not isinstance(body, list):
        raise RegistryError("the answer is not a list")
    if not body:
        raise RegistryError("the answer is empty")
