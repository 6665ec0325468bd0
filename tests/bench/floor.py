"""The floor: one kept-alive blocking query, then one bare write. Nobody who asks Consul can be faster.

It neither parses what Consul says nor decides anything: what to write stands ready as bytes.
https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

import time
from collections.abc import Mapping
from typing import Any

from tests.bench.child import Words, answer, obey
from tests.bench.wire import Server, Wire

WAIT = "55s"
HEADER = "X-Consul-Index"


class Floor:
    """One connection to Consul and one to the API server, both open before anything is measured."""

    def __init__(self, consul: Server, api_server: Server) -> None:
        self._consul = Wire(consul)
        self._api_server = Wire(api_server)
        self._api_server.ask("GET", "/version")

    def wait_and_write(self, service: str, method: str, path: str, body: bytes | None) -> Mapping[str, Any]:
        """Say when the query is on its way, wait for the service to change, write, and return both moments."""
        # With near=_agent the server itself answers, a tenth of a millisecond sooner than the streaming backend.
        query = f"/v1/health/service/{service}?near=_agent"
        index = self._consul.ask("GET", query)[0].headers[HEADER]
        self._consul.send("GET", f"{query}&index={index}&wait={WAIT}")
        answer(waiting=index)
        reply, _ = self._consul.receive()
        woke = time.monotonic()
        if reply.headers[HEADER] == index:
            raise TimeoutError(f"{service} did not change")
        self._api_server.ask(method, path, body)
        return {"woke": woke, "acknowledged": time.monotonic()}


def main() -> None:
    """Obey the bench."""
    floor: Floor | None = None

    def do(words: Words) -> Mapping[str, Any]:
        nonlocal floor
        if floor is None:
            floor = Floor(Server(**words["consul"]), Server(**words["api_server"]))
            return {}
        body = words["body"]
        return floor.wait_and_write(words["service"], words["method"], words["path"], body and body.encode())

    obey(do)


if __name__ == "__main__":
    main()
