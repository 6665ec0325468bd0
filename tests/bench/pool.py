"""A bare client with a pool: so many kept-alive connections, each with one write of ready bytes in flight."""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.child import Words, obey
from tests.bench.wire import Server, Wire


def write_all(server: Server, in_flight: int, method: str, writes: Sequence[tuple[str, str]]) -> Mapping[str, Any]:
    """Send every write, a path and a body, and return when that began and ended, and what failed."""
    waiting = iter([(path, body.encode()) for path, body in writes])
    lock = threading.Lock()
    errors: list[str] = []
    ready = threading.Barrier(in_flight + 1)

    def work() -> None:
        wire = Wire(server)
        wire.ask("GET", "/v1/status/leader" if server.url.startswith("http:") else "/version")
        ready.wait()
        while True:
            with lock:
                path, body = next(waiting, ("", b""))
            if not path:
                break
            try:
                wire.ask(method, path, body)
            except Exception as error:  # noqa: BLE001 - the parent is told
                errors.append(repr(error))
        wire.close()

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.monotonic()
    for thread in threads:
        thread.join()
    return {"began": began, "ended": time.monotonic(), "errors": errors[:3]}


def main() -> None:
    """Obey the bench."""

    def do(words: Words) -> Mapping[str, Any]:
        writes = [(path, body) for path, body in words["writes"]]
        return write_all(Server(**words["server"]), words["in_flight"], words["method"], writes)

    obey(do)


if __name__ == "__main__":
    main()
