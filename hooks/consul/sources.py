"""The loopback addresses that connections come from."""

import heapq
import itertools
import os
import time
import zlib
from ipaddress import ip_address
from urllib.parse import urlsplit

from hooks.consul.settings import ConsulSettings, is_loopback

A_SOURCE = 150  # connections from one address; Consul allows 200
FIRST, SPAN = int(ip_address("127.64.0.0")), 2**21  # where ours lie: 127.64.0.0 to 127.95.255.255

_numbers = itertools.count()


class Sources:
    """Addresses of our own, so that nobody else's share of a Consul's connections is touched; "" is everybody's.

    A query that is abandoned *lingers*: Consul, which does not look whether anybody
    still listens, counts its connection until the wait is over (seen on 1.19.2). So
    no two lives, of this process or of another, begin with the same address.

    Only IPv4 has more than one loopback address. https://www.rfc-editor.org/rfc/rfc1122#section-3.2.1.3
    """

    def __init__(self, settings: ConsulSettings) -> None:
        self._seed = zlib.crc32(f"{os.getpid()} {settings.name} {next(_numbers)}".encode())
        self._counts: dict[str, int] = {}  # connections, also those that linger
        self._lingering: list[tuple[float, str]] = []  # until when, in monotonic seconds
        on_ipv4 = is_loopback(settings.url) and ":" not in (urlsplit(settings.url).hostname or "")
        self.peeking = self._address(0) if on_ipv4 else ""
        self.share = A_SOURCE  # of connections for one address
        self.given_up = ""  # why

    @property
    def own(self) -> bool:
        """Tell whether there are addresses of our own."""
        return bool(self.peeking)

    @property
    def lingering(self) -> int:
        """Return how many abandoned queries Consul still counts."""
        self._expire()
        return len(self._lingering)

    def take(self) -> str:
        """Return the address for another connection."""
        source = ""
        self._expire()
        if self.own:
            free = (one for one, count in self._counts.items() if one and count < self.share)
            source = next(free, "") or self._address(len(self._counts) + 1)
        self._counts[source] = self._counts.get(source, 0) + 1
        return source

    def give_back(self, source: str, until: float) -> None:
        """Note that a connection has ended, or lingers until then."""
        if until > time.monotonic():
            heapq.heappush(self._lingering, (until, source))
        else:
            self._counts[source] -= 1

    def give_up(self, why: str) -> None:
        """Come from everybody's address from now on."""
        self.peeking, self.given_up = "", why

    def _expire(self) -> None:
        while self._lingering and self._lingering[0][0] <= time.monotonic():
            _, source = heapq.heappop(self._lingering)
            self._counts[source] -= 1

    def _address(self, number: int) -> str:
        return str(ip_address(FIRST + (self._seed + number) % SPAN))
