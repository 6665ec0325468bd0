"""One blocking query, asked again and again: it tells that something changed."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from hooks.consul.client import Answer, ConsulClient
from hooks.consul.epoch import Epochs
from hooks.consul.settings import ConsulSettings
from hooks.consul.transport import longest_call
from hooks.found import Source
from hooks.pulse import Pulse
from hooks.trouble import Trouble
from state.errors import RegistryError
from state.limits import Limits

logger = logging.getLogger(__name__)

Ask = Callable[[ConsulClient, int, float], Answer[Any]]
Hear = Callable[[Any, Any, Source], None]  # what it was, what it is, who found that


class Surroundings(Protocol):
    """What the watchers of one registry share."""

    settings: ConsulSettings
    limits: Limits
    epochs: Epochs
    trouble: Trouble
    stopping: threading.Event


class Watcher:
    """Waits for one registry-wide list to change and hands over what it was and is."""

    def __init__(
        self, name: str, ask: Ask, hear: Hear, around: Surroundings, *, source: Source, spacing: float = 0.0
    ) -> None:
        """``spacing`` is the shortest time, in seconds, between two wake-ups while it is busy."""
        self.name = name
        self.spacing = spacing
        self.body: Any = None  # as it was last heard, None before the first time
        self._ask = ask
        self._hear = hear
        self._around = around
        self._source = source
        self._client = ConsulClient(around.settings, around.limits)
        self._footing = threading.Event()
        self._index = 0
        self._generation = around.epochs.generation
        limits, title = around.limits, f"{around.settings.name} {name}"
        self._pulse = Pulse(title, limits.deadline + longest_call(limits, limits.wait))
        self._thread = threading.Thread(target=self._run, name=title, daemon=True)

    def start(self) -> None:
        """Start asking."""
        self._thread.start()

    def stop(self) -> None:
        """End the query that is under way, and the thread."""
        self._footing.set()
        self._client.close()
        if self._thread.is_alive():
            self._thread.join(self._around.limits.stop)

    def wait_for_footing(self) -> None:
        """Wait until it has been answered once, or is stopped: what changes later is heard."""
        self._footing.wait()

    def look(self) -> None:
        """Ask once, without waiting for a change; RegistryError when it fails."""
        self._take(self._ask(self._client, 0, 0.0), self._around.epochs.generation)

    def look_beside(self, client: ConsulClient) -> None:
        """Ask at once by another's client, because of a hint; RegistryError when that fails.

        What differs is handed over, and nothing noted: the query that waits will tell it as well.
        """
        epochs = self._around.epochs
        generation, known, before = epochs.generation, epochs.known(self.name), self.body
        answer = self._ask(client, 0, 0.0)
        epochs.compare(self.name, answer.index, known, generation)
        if before is not None and (answer.index > known or answer.body != before):
            self._hear(before, answer.body, Source.HINT)

    def stuck(self, now: float) -> str:
        """Return what has been at one step for too long, or nothing."""
        return self._pulse.stuck(now)

    def _run(self) -> None:
        failures = 0
        around, retry = self._around, self._around.limits.retry
        while not around.stopping.is_set():
            asked, spacing = time.monotonic(), self.spacing if self._index else 0.0
            self._pulse.step()
            try:
                self._wait_once()
            except RegistryError as error:
                if around.stopping.is_set():
                    return
                around.trouble.failed(self.name, error)
            except Exception:  # the watcher's one net: the list is asked for anew
                logger.exception("registry %s: watching %s failed", around.settings.name, self.name)
            else:
                failures = 0
                around.stopping.wait(max(0.0, asked + spacing - time.monotonic()))
                continue
            # Ask without an index next: the answer comes at once and shows what was missed.
            self._index = 0
            around.stopping.wait(retry[min(failures, len(retry) - 1)])
            failures += 1

    def _wait_once(self) -> None:
        generation = self._around.epochs.generation
        if generation != self._generation:
            self._index, self._generation = 0, generation
        wait = self._around.limits.wait if self._index else 0.0
        asked, before = time.monotonic(), self._index
        self._take(self._ask(self._client, self._index, wait), generation)
        if self._index == before and time.monotonic() - asked < wait / 2:
            # Consul does so when a snapshot was restored, and would now wait until the old index comes again.
            self._index = 0
            self._around.stopping.wait(self._around.limits.retry[0])  # what always does so is not asked without end

    def _take(self, answer: Answer[Any], generation: int) -> None:
        around = self._around
        if not around.epochs.moved(self.name, answer.index, generation):
            return
        before, moved = self.body, answer.index != self._index
        self._index, self.body, self._generation = answer.index, answer.body, around.epochs.generation
        around.trouble.succeeded(self.name)
        if before is not None and (moved or before != answer.body):
            self._hear(before, answer.body, self._source)
        self._footing.set()
