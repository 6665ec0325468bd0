"""Queries parked at a server of the test's own."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Any

from hooks.consul.parked import Parked
from hooks.consul.settings import ConsulSettings
from state.limits import Limits
from tests.testbed.processes import wait_until
from tests.unit.rawserver import Connection, RawServer

LIMITS = Limits(wait=20.0, retry=(0.02, 0.05), read_timeout=1.0, connect_timeout=1.0, stop=5.0)
NEVER = 3600.0
OURS = ip_network("127.64.0.0/11")

Serve = Callable[[Connection], object]


class Site:
    """A server, and queries that are parked there."""

    def __init__(self, server: RawServer, parked: Parked, woken: list[tuple[str, int]]) -> None:
        self.server = server
        self.parked = parked
        self.woken = woken

    def wait_for(self, *services: str) -> None:
        wait_until(lambda: self.parked.parked().keys() == set(services), f"parked are {services}", 15)


def sites() -> Iterator["MakeSite"]:
    """Make any number of sites; to be used as a fixture."""
    with ExitStack() as running:

        def make(serve: Serve, limits: Limits = LIMITS, host: str = "127.0.0.1", **settings: Any) -> Site:
            server = running.enter_context(RawServer(serve, host))
            woken: list[tuple[str, int]] = []
            found = ConsulSettings(**{"name": "dc1", "url": server.url, "parked": 10, **settings})
            parked = Parked(found, limits, lambda *told: woken.append(told))
            running.callback(parked.stop)
            parked.start()
            return Site(server, parked, woken)

        yield make


MakeSite = Callable[..., Site]


def wait(connection: Connection) -> None:
    """Let the next request wait for ever."""
    connection.ask()
    connection.wait_for_end()


def hold(connection: Connection) -> None:
    """Have nothing happen, ever."""
    while True:
        asked = connection.ask()
        if asked.index:
            connection.rest(asked.wait)
        connection.answer(7)


FAULTS: dict[str, dict[str, Any]] = {
    "403": {"index": 99, "code": 403, "body": b"ACL not found"},
    "500": {"index": 1, "code": 500, "body": b"No cluster leader"},
    "301": {"index": 99, "code": 301, "Location": "http://127.0.0.1:1/"},
    "no leader": {"index": 99, "X-Consul-Knownleader": "false"},
    "a stale answer": {"index": 99, "X-Consul-Lastcontact": "60000"},
    "a filtered answer": {"index": 99, "X-Consul-Results-Filtered-By-ACLs": "true"},
    "no index": {},
    "an empty index": {"index": ""},
    "an index in words": {"index": "seven"},
    "an index of a thousand digits": {"index": "9" * 1000},
}


def only(most: int, refuse: Serve) -> Serve:
    """Serve so many connections from one address at once, as Consul does, and no more."""
    lock, inside = threading.Lock(), Counter[str]()

    def serve(connection: Connection) -> None:
        with lock:
            welcome = inside[connection.source] < most
            inside[connection.source] += welcome
        if not welcome:
            refuse(connection)
            return
        try:
            hold(connection)
        finally:
            with lock:
                inside[connection.source] -= 1

    return serve


REFUSALS: dict[str, Serve] = {
    "429": lambda connection: connection.answer(code=429),
    "429 without a length": lambda connection: connection.send(
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nToo many"
    ),
    "accept and close": lambda _: None,
    "reset": Connection.reset,
}
