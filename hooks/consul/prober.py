"""Asks the services that could not be read whether they answer again, so that no other has to wait for them."""

import logging
import threading
import time

from hooks.consul.client import ConsulClient
from hooks.consul.dirty import Dirty
from hooks.consul.transport import longest_call
from hooks.consul.watcher import Surroundings
from hooks.pulse import Pulse
from state.errors import RegistryError

logger = logging.getLogger(__name__)


class Prober:
    """Concludes nothing from an answer but that there is one: the reader then reads the service itself."""

    def __init__(self, around: Surroundings, dirty: Dirty) -> None:
        self._around = around
        self._dirty = dirty
        self._client = ConsulClient(around.settings, around.limits)
        name = f"{around.settings.name} prober"
        self.pulse = Pulse(name, around.limits.deadline + longest_call(around.limits))
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start asking whatever fails."""
        self._thread.start()

    def stop(self) -> None:
        """End the call that is under way, and the thread."""
        with self._dirty.doubt:
            self._dirty.doubt.notify_all()
        self._client.close()
        if self._thread.is_alive():
            self._thread.join(self._around.limits.stop)

    def is_alive(self) -> bool:
        """Tell whether suspects are asked."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while service := self._next():
            self.pulse.step()
            try:
                self._client.service(service)
            except RegistryError as error:
                self._dirty.still_failed(service, time.monotonic(), str(error))
            except Exception as error:  # the prober's one net
                logger.exception("registry %s: asking for %s failed", self._around.settings.name, service)
                self._dirty.still_failed(service, time.monotonic(), str(error))
            else:
                self._dirty.answered(service)
            self.pulse.rest()

    def _next(self) -> str:
        """Wait for the next suspect that may be asked; no name at the end."""
        with self._dirty.doubt:
            while not self._around.stopping.is_set():
                service, when = self._dirty.next_suspect()
                wait = when - time.monotonic()
                if wait <= 0:
                    return service
                self._dirty.doubt.wait(min(wait, self._around.limits.deadline))
        return ""
