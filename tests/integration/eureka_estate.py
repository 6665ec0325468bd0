"""Clients of Eureka that renew their leases as real ones do, and an estate of numbered instances that moves.

The instances with numbers are those of `tests.integration.estate`: the same services, addresses and ports, so that
`endpoints` there says where they must be found, whichever registry lists them.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import httpx

from tests.integration import estate
from tests.testbed.consul_api import ConsulApi
from tests.testbed.eureka_api import EurekaApi

EVERY = 30.0  # seconds between two renewals of a lease, by default of Eureka's clients
GOLDEN = 0.618  # multiples of it, less their whole part, spread evenly

Key = tuple[str, str]  # application, instance ID


@dataclass(frozen=True, slots=True)
class Client:
    """One client: what it says of itself, the server that it uses, and when it renews next, in monotonic seconds."""

    told: Mapping[str, Any]
    server: int
    due: float


class Renewing:
    """Clients that renew their leases inside `with`, in one thread, with one server or several that are peers.

    Each client renews on its own beat, registers again when its server does not know it, and turns to the next server
    when its own does not answer. After `with` the registrations stay, and nobody renews them.
    """

    def __init__(self, *servers: EurekaApi, every: float = EVERY) -> None:
        self.servers = servers
        self.every = every
        self.clients: dict[Key, Client] = {}
        self.registered_again = 0
        self._first = 0
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renewing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    # What tests do

    def register(self, app: str, id: str, ip: str, port: int = 8080, **told: Any) -> None:
        """Start a client; the rest is what `EurekaApi.register` takes."""
        with self._lock:
            number = len(self.clients)
            due = time.monotonic() + self.every * (1 - number * GOLDEN % 1)
            client = Client({"app": app, "id": id, "ip": ip, "port": port, **told}, self._first, due)
            self.clients[app.upper(), id] = self._tell(client)

    def cancel(self, app: str, id: str) -> None:
        """Stop a client as its operator would: it cancels its lease."""
        with self._lock:
            client = self.clients.pop((app.upper(), id))
            self._ask(client, lambda server: server.cancel(app, id))

    def stop_renewing(self, app: str, id: str) -> None:
        """Let a client die without a word."""
        with self._lock:
            del self.clients[app.upper(), id]

    def set_status(self, app: str, id: str, status: str) -> None:
        """Override a status, as an operator; UP takes the override back."""
        with self._lock:
            client = self.clients[app.upper(), id]
            if status == "UP":
                self._ask(client, lambda server: server.clear_status(app, id))
            else:
                self._ask(client, lambda server: server.set_status(app, id, status))

    def change(self, app: str, id: str, **told: Any) -> None:
        """Let a client say something else of itself, such as another status or other metadata."""
        with self._lock:
            client = self.clients[app.upper(), id]
            self.clients[app.upper(), id] = self._tell(replace(client, told={**client.told, **told}))

    # What clients do

    def _tell(self, client: Client) -> Client:
        return self._ask(client, lambda server: server.register(**client.told))

    def _ask(self, client: Client, ask: Callable[[EurekaApi], object]) -> Client:
        """Have one of the servers do it, the client's own first; return the client with the one that did."""
        unanswered: httpx.HTTPError | None = None
        for step in range(len(self.servers)):
            number = (client.server + step) % len(self.servers)
            try:
                ask(self.servers[number])
            except httpx.HTTPError as error:
                unanswered = error
            else:
                self._first = number
                return replace(client, server=number)
        assert unanswered is not None, "there is no server"
        raise unanswered

    def _run(self) -> None:
        while not self._stopping.wait(min(0.1, self.every / 4)):
            for key in tuple(self.clients):
                with self._lock:
                    client = self.clients.get(key)
                    if client is not None and client.due <= time.monotonic() and not self._stopping.is_set():
                        self.clients[key] = self._renew(key, client)

    def _renew(self, key: Key, client: Client) -> Client:
        client = replace(client, due=client.due + self.every)
        try:
            return self._ask(client, lambda server: self._renew_with(server, key, client))
        except httpx.HTTPError:
            return client  # no server does it: again on the next beat

    def _renew_with(self, server: EurekaApi, key: Key, client: Client) -> None:
        if not server.renew(*key):
            self.registered_again += 1
            server.register(**client.told)


def told_of(number: int, services: int = 20) -> dict[str, Any]:
    """Return what a numbered instance says of itself."""
    return {"app": f"SVC-{number % services}", "id": f"i-{number}", "ip": f"10.0.0.{number + 1}", "port": 8080}


def fill(eureka: EurekaApi | Renewing, numbers: Iterable[int], *, services: int = 20, **told: Any) -> None:
    """Register instances, one after another."""
    for number in numbers:
        eureka.register(**{**told_of(number, services), **told})


def take(eureka: EurekaApi | Renewing, numbers: Iterable[int], *, services: int = 20) -> None:
    """Cancel instances, one after another."""
    for number in numbers:
        eureka.cancel(f"SVC-{number % services}", f"i-{number}")


def move_to_consul(
    eureka: EurekaApi | Renewing, consul: ConsulApi, numbers: Iterable[int], *, services: int = 20
) -> None:
    """Move instances, one after another, so that each is in a registry at any time."""
    for number in numbers:
        estate.fill(consul, (number,), services=services)
        take(eureka, (number,), services=services)


def move_to_eureka(
    eureka: EurekaApi | Renewing, consul: ConsulApi, numbers: Iterable[int], *, services: int = 20
) -> None:
    """Move instances, one after another, so that each is in a registry at any time."""
    for number in numbers:
        fill(eureka, (number,), services=services)
        estate.take(consul, (number,))
