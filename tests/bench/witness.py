"""One witness for the floor and for isthmus: a watch on the API server, which dates what became of each object."""

import http.client
import json
import threading
import time
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.bench.measure import first_in_line
from tests.bench.wire import Server, Wire
from tests.testbed.apiserver import ISTIO, PLURALS

PATIENCE = 60.0


class Seen(NamedTuple):
    """One event as it came, and when, in monotonic seconds."""

    at: float
    line: bytes


class Witness:
    """Watches both kinds in every namespace, and only keeps what it sees: others look at it later."""

    def __init__(self, server: Server) -> None:
        self._news = threading.Condition()
        self._seen: list[Seen] = []
        self._closing = False
        self._error: Exception | None = None
        self._wires = [Wire(server, timeout=3600) for _ in PLURALS]
        self._answers = [self._open(wire, plural) for wire, plural in zip(self._wires, PLURALS.values(), strict=True)]
        self._threads = [threading.Thread(target=self._watch, args=(one,), daemon=True) for one in self._answers]
        for thread in self._threads:
            thread.start()

    def _open(self, wire: Wire, plural: str) -> http.client.HTTPResponse:
        path = f"/apis/{ISTIO}/v1/{plural}"
        version = wire.json("GET", f"{path}?limit=1")["metadata"]["resourceVersion"]
        return wire.open("GET", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds=3600")

    def _watch(self, answer: http.client.HTTPResponse) -> None:
        first_in_line()
        try:
            while line := answer.readline():
                seen = Seen(time.monotonic(), line)
                with self._news:
                    self._seen.append(seen)
                    self._news.notify_all()
            raise ConnectionError("the watch ended")
        except Exception as error:  # noqa: BLE001 - whoever waits for events is told
            if not self._closing:
                with self._news:
                    self._error = error
                    self._news.notify_all()

    def mark(self) -> int:
        """Return a place in time, from which on events are to be looked for."""
        with self._news:
            return len(self._seen)

    def wait_for(self, type_: str, namespace: str, address: str, mark: int, patience: float = PATIENCE) -> float:
        """Return when the WorkloadEntry with this address was ADDED or DELETED; TimeoutError if it was not."""
        begin, part = f'{{"type":"{type_}"'.encode(), f'"address":"{address}"'.encode()
        where = f'"namespace":"{namespace}"'.encode()
        give_up = time.monotonic() + patience
        with self._news:
            while True:
                for seen in self._seen[mark:]:
                    if seen.line.startswith(begin) and where in seen.line and part in seen.line:
                        return seen.at
                mark = len(self._seen)
                if self._error:
                    raise ConnectionError("the witness is blind") from self._error
                if not self._news.wait(give_up - time.monotonic()):
                    raise TimeoutError(f"after {patience:g} s no WorkloadEntry of {address} was {type_}")

    def wait_until_quiet(self, number: int, namespace: str, mark: int, patience: float = PATIENCE) -> list[float]:
        """Return when each of so many objects of a namespace came to be, oldest first; TimeoutError if fewer came."""
        part = f'"namespace":"{namespace}"'.encode()
        give_up = time.monotonic() + patience
        while True:
            with self._news:
                lines = self._seen[mark:]
            made = [seen.at for seen in lines if seen.line.startswith(b'{"type":"ADDED"') and part in seen.line]
            if len(made) >= number:
                return sorted(made)
            if time.monotonic() > give_up:
                raise TimeoutError(f"after {patience:g} s {len(made)} of {number} objects came to be in {namespace}")
            time.sleep(0.2)  # not woken by each of thousands: what is measured shall have the processor

    def specimen(self, namespace: str) -> dict[str, Any]:
        """Return the last WorkloadEntry that came to be in a namespace, without what the server adds to it."""
        part = f'"namespace":"{namespace}"'.encode()
        with self._news:
            lines = [seen.line for seen in self._seen if part in seen.line and b'"kind":"WorkloadEntry"' in seen.line]
        made: dict[str, Any] = json.loads(lines[-1])["object"]
        return made

    def close(self) -> None:
        """Stop watching."""
        self._closing = True
        for wire in self._wires:
            wire.end()
        for thread in self._threads:
            thread.join()
        for wire in self._wires:
            wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
