"""From Eureka's JSON to values: an answer is complete or an error, one bad instance is rejected and says why.

Sources: https://github.com/Netflix/eureka/wiki/Eureka-REST-operations and, for what servers and their JSON
libraries make of it, https://github.com/Netflix/eureka/tree/master/eureka-client/src/main/java/com/netflix/discovery/converters.
Errors name the place inside the answer and its value; who asked adds the registry and the path.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from sys import intern

from hooks.eureka import registration
from hooks.eureka.pieces import Pieces
from hooks.eureka.settings import EurekaSettings
from hooks.fields import is_text, shown
from state.errors import RegistryError
from state.model import Instance, InstanceKey

UNKNOWN = "UNKNOWN"
BREATH = 20  # instances between two breaths: about a millisecond

_Object = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One instance as a server holds it.

    ``instance`` is None when its application is out of scope. ``status`` is the raw
    word, which the hash counts. ``action`` is the one of a delta, or "".
    ``updated`` is lastUpdatedTimestamp: ms of the server's clock, 0 when unknown.
    """

    app: str
    id: str
    status: str
    action: str
    updated: int
    instance: Instance | None


@dataclass(frozen=True, slots=True)
class Applications:
    """An answer of ``apps`` or ``apps/delta``: its version, its hash of the whole registry, its leases in order."""

    version: int
    hashcode: str
    leases: tuple[Lease, ...]

    @property
    def computed(self) -> str:
        """Return the hash of these leases: a full read is consistent when it equals ``hashcode``."""
        return hashcode(Counter(lease.status for lease in self.leases))


def applications(
    settings: EurekaSettings,
    body: bytes,
    breathe: Callable[[], object] = lambda: None,
    known: Callable[[InstanceKey], Instance | None] = lambda key: None,  # noqa: ARG005
) -> Applications:
    """Return what a body of ``apps`` or ``apps/delta`` says.

    ``breathe`` is called again and again, so that the caller may let other threads
    run. An instance that equals the ``known`` one is that one: it is in memory once.
    Raises RegistryError, with the place and the value.
    """
    found: Applications | None = None
    pieces = Pieces(body)
    for key in pieces.members("the answer"):
        if key == "applications":
            found = _Reading(settings, pieces, breathe, known).applications()
        else:
            pieces.value()
    pieces.end()
    if found is None:
        raise RegistryError("the answer has no applications")
    return found


def lease(settings: EurekaSettings, body: bytes) -> Lease:
    """Return what a body of ``apps/APP/ID`` says, or raise RegistryError; who asked compares ``app`` and ``id``."""
    found: Lease | None = None
    pieces = Pieces(body)
    for key in pieces.members("the answer"):
        value = pieces.value()
        if key == "instance":
            found = _lease(settings, "", value, "the instance")
    pieces.end()
    if found is None:
        raise RegistryError("the answer has no instance")
    return found


def hashcode(counts: Mapping[str, int]) -> str:
    """Return Eureka's hash of a registry that has so many instances of each status."""
    return "".join(f"{status}_{counts[status]}_" for status in sorted(counts) if counts[status])


class _Reading:
    """One body being read, instance by instance."""

    def __init__(
        self,
        settings: EurekaSettings,
        pieces: Pieces,
        breathe: Callable[[], object],
        known: Callable[[InstanceKey], Instance | None],
    ) -> None:
        self._settings = settings
        self._pieces = pieces
        self._breathe = breathe
        self._known = known
        self._leases: list[Lease] = []

    def applications(self) -> Applications:
        version, hash_ = 0, ""
        for key in self._pieces.members("applications"):
            # How a server escapes "_" is configurable there.
            if key in ("versions__delta", "versions_delta"):
                version = _number(self._pieces.value(), key)
            elif key in ("apps__hashcode", "apps_hashcode"):
                hash_ = _hash(self._pieces.value(), key)
            elif key == "application":
                self._each("application", self._application)
            else:
                self._pieces.value()
        return Applications(version, hash_, tuple(self._leases))

    def _each(self, what: str, take: Callable[[str], None]) -> None:
        """Take a list, or the single object that some servers write in its place, or nothing."""
        sign = self._pieces.sign()
        if sign == "[":
            for number in self._pieces.places():
                take(f"{what} {number}")
        elif sign == "{":
            take(f"the {what}")
        else:
            value = self._pieces.value()
            if value not in (None, ""):
                raise RegistryError(f"{what} is {shown(value)}, not a list")

    def _application(self, where: str) -> None:
        name = ""
        early: list[tuple[str, object]] = []  # instances that come before the name of their application

        def take(place: str) -> None:
            value = self._pieces.value()
            if name:
                self._instance(name, value, f"{place} of {name}")
            else:
                early.append((f"{place} of {where}", value))

        for key in self._pieces.members(where):
            if key == "name":
                name = _name(self._pieces.value(), f"the name of {where}")
            elif key == "instance":
                self._each("instance", take)
            else:
                self._pieces.value()
        for place, value in early:
            self._instance(name, value, place)

    def _instance(self, app: str, value: object, where: str) -> None:
        lease = _lease(self._settings, app, value, where)
        known = self._known(lease.instance.key) if lease.instance is not None else None
        if known is not None and known == lease.instance:
            lease = replace(lease, id=known.key.id, instance=known)
        self._leases.append(lease)
        if len(self._leases) % BREATH == 0:
            self._breathe()


def _lease(settings: EurekaSettings, app: str, value: object, where: str) -> Lease:
    if not isinstance(value, dict):
        raise RegistryError(f"{where} is {shown(value)}, not an object")
    app = app or _name(value.get("app"), f"app of {where}")
    id_ = _id(value, where)
    dropped: list[str] = []
    status, updated = _status(value.get("status"), dropped), _updated(value, dropped)
    instance = None
    if in_scope(settings.services, app):
        instance = registration.instance(settings, InstanceKey(app, "", id_), value, status, dropped)
    action = value.get("actionType")
    return Lease(
        app=app,
        id=id_,
        status=status,
        action=intern(action) if is_text(action) else "",
        updated=updated,
        instance=instance,
    )


def _id(registered: _Object, where: str) -> str:
    """Return what identifies an instance inside its application, found as the Java client does (InstanceInfo.getId)."""
    id_ = registered.get("instanceId")
    if id_ in (None, ""):
        id_ = registration.amazon(registered).get("instance-id")
    if id_ in (None, ""):
        id_ = registered.get("hostName")
    if isinstance(id_, int) and not isinstance(id_, bool):
        id_ = str(id_)
    return _name(id_, f"instanceId of {where}", shared=False)


def _status(value: object, dropped: list[str]) -> str:
    if is_text(value) and value:
        return intern(value)
    dropped.append(f"status {shown(value)} is not text")
    return UNKNOWN


def _updated(registered: _Object, dropped: list[str]) -> int:
    value = registered.get("lastUpdatedTimestamp")
    try:
        return 0 if value is None else _number(value, "lastUpdatedTimestamp")
    except RegistryError as error:
        dropped.append(str(error))
        return 0


def _number(value: object, what: str) -> int:
    """Return a number that may be written as text; "" is 0."""
    if value == "":
        return 0
    if (number := registration.long_of(value)) is not None:
        return number
    raise RegistryError(f"{what} {shown(value)} is not a number")


def _hash(value: object, what: str) -> str:
    if value is None:
        return ""
    if not is_text(value):
        raise RegistryError(f"{what} is {shown(value)}, not text")
    return value


def _name(value: object, what: str, *, shared: bool = True) -> str:
    if not is_text(value) or not value:
        raise RegistryError(f"{what} is {shown(value)}, not a name")
    return intern(value) if shared else value


@lru_cache(4096)
def in_scope(globs: tuple[str, ...], app: str) -> bool:
    """Tell whether an application's name, of which the case does not count, matches one of the globs."""
    return any(fnmatchcase(app.lower(), glob.lower()) for glob in globs)
