"""A proxy between an agent and its Consul, which spoils answers while it is told to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self

import httpx

LONGEST = 90.0  # seconds, for a blocking query


@dataclass(frozen=True, slots=True)
class Answer:
    """What Consul has answered, or what the agent gets instead."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def having(self, name: str, value: str | None) -> "Answer":
        """Return it with another value of a header, or without the header."""
        others = {key: old for key, old in self.headers.items() if key.lower() != name.lower()}
        return Answer(self.status, self.body, others if value is None else {**others, name: value})


Fault = Callable[[str, Answer], Answer]  # path, what Consul has answered


def honest(path: str, answer: Answer) -> Answer:  # noqa: ARG001 - as faults are
    """Spoil nothing."""
    return answer


class Proxy:
    """Hands over each answer as its `fault` leaves it."""

    def __init__(self, url: str) -> None:
        self.fault: Fault = honest
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self) -> None:
                answer = proxy._answer(self.path)
                self.send_response(answer.status)
                for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # an agent that went away, or a Consul

        self._client = httpx.Client(base_url=url, timeout=LONGEST, trust_env=False)
        self._listener = Listener(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"

    def _answer(self, path: str) -> Answer:
        response = self._client.get(path)
        headers = {name: value for name, value in response.headers.items() if name.startswith("x-consul-")}
        return self.fault(path.partition("?")[0], Answer(response.status_code, response.content, headers))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()
        self._client.close()
