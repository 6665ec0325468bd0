"""A relay that counts: it stands before a registry where bytes, or the moments of answers, are wanted."""

import asyncio
import contextlib
import json
import sys
import threading
import time
from dataclasses import dataclass

from tests.bench.child import answer

SOURCE = "127.0.0.9"  # Consul limits connections per client address: these are not to be counted as the bench's
CHUNK = 1 << 16
LARGE = 4_000  # bytes: an answer that is larger is told with its moment


@dataclass(slots=True)
class Answer:
    """How much of an answer has come on one connection."""

    size: int = 0


class Proxy:
    """Counts what one server answers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answered = 0
        self.asked = 0
        self.first: float | None = None
        self.large: list[float] = []  # when answers were found to be large

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(SOURCE, 0))
        except OSError:
            writer.close()
            return
        now = Answer()
        await asyncio.gather(self._pass(reader, back, now, down=False), self._pass(there, writer, now, down=True))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, now: Answer, *, down: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if down:
                    self.first = self.first or time.monotonic()
                    self.answered += len(chunk)
                    if now.size <= LARGE < now.size + len(chunk):
                        self.large.append(time.monotonic())
                    now.size += len(chunk)
                else:
                    self.asked += len(chunk)
                    now.size = 0
                writer.write(chunk)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()


async def serve() -> None:
    """Relay until the parent says no more; each of its lines is answered with the counts, and `reset` clears them."""
    proxy = Proxy(int(json.loads(sys.stdin.readline())["port"]))
    server = await asyncio.start_server(proxy.relay, "127.0.0.1", 0)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    answer(port=server.sockets[0].getsockname()[1])

    def listen() -> None:
        for line in sys.stdin:
            answer(answered=proxy.answered, asked=proxy.asked, first=proxy.first, large=proxy.large)
            if json.loads(line).get("reset"):
                proxy.answered, proxy.asked, proxy.first, proxy.large = 0, 0, None, []
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=listen, daemon=True).start()
    await over.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
