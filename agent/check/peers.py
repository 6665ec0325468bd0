"""What the servers of one Eureka cluster say of one another. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import unescape
from itertools import pairwise

from agent.check.finding import Finding, note, registry, warning
from agent.words import count
from hooks.eureka.parse import Applications
from hooks.eureka.settings import EurekaSettings

FEW, SHARE = 3, 0.05  # instances by which two servers differ while they copy from one another

MOST = 2**16  # bytes of a server's word on itself that are looked at


@dataclass(frozen=True, slots=True)
class Status:
    """What a server says of itself: its name, and the URLs of its peers.

    It also says which of these are unavailable, and means those that are not registered
    as instances: a peer that has eureka.client.register-with-eureka=false is always one.
    """

    name: str = ""
    peers: tuple[str, ...] = ()


def status(body: bytes) -> Status:
    """Return what an answer at ``/status`` says; it has to be XML, as Spring's servers fail to write it as JSON."""
    return Status(_text(body, "instanceId") or _text(body, "hostName"), _urls(body, "registered-replicas"))


def unnamed(settings: EurekaSettings, url: str, told: Status) -> Iterable[Finding]:
    """Yield the peers of which a server tells, and the configuration does not."""
    named = {one.rstrip("/") for one in settings.urls}
    missing = [peer for peer in told.peers if peer.rstrip("/") not in named]
    if missing:
        seen = f"{url} has {count(len(missing), 'peer')} that the configuration does not name: {', '.join(missing)}"
        remedy = f"name them in registries.{settings.name}.urls: isthmus asks them when this fails"
        yield note(registry(settings.name), seen, remedy)


def differences(place: str, servers: Sequence[tuple[str, Applications]]) -> Iterable[Finding]:
    """Yield where the servers of one cluster, each with its URL, disagree on what is registered."""
    for (first, one), (second, other) in pairwise(servers):
        here, there = _keys(one), _keys(other)
        apart = len(here ^ there)
        if here and there and not here & there:
            told = f"{first} and {second} have no instance in common: they seem to be two clusters"
            yield warning(place, told, "name a registry for each cluster: the servers of one must hold the same")
        elif apart > max(FEW, SHARE * max(len(here), len(there))):
            both = f"{len(here & there)} of them the same"
            told = f"{first} has {count(len(here), 'instance')} and {second} has {len(there)}, {both}"
            remedy = "see whether they reach one another: eureka.client.service-url"
            yield warning(place, told, remedy)


def _keys(full: Applications) -> frozenset[tuple[str, str]]:
    return frozenset((one.app, one.id) for one in full.leases)


def _text(body: bytes, tag: str) -> str:
    """Return the text of the first element of a name, "" where there is none."""
    start, end = f"<{tag}>".encode(), f"</{tag}>".encode()
    _, _, rest = body[:MOST].partition(start)
    text, closed, _ = rest.partition(end)
    return unescape(text.decode("utf-8", "replace")).strip() if closed else ""


def _urls(body: bytes, tag: str) -> tuple[str, ...]:
    return tuple(url for url in (part.strip() for part in _text(body, tag).split(",")) if "://" in url)
