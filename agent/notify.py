"""What systemd is told: that the service is ready, reloads, lives, stops.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

import logging
import os
import socket
import time

logger = logging.getLogger(__name__)

BEATS = 3  # in the time that the watchdog allows


class Notifier:
    """Sends to the socket that the environment names; without one, to nobody."""

    def __init__(self) -> None:
        name = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        self._beaten = -float("inf")
        self._status = ""
        self.interval = _interval()

    def ready(self) -> None:
        """Tell that the service has started, or has reloaded."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Tell that a reload has begun; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Tell that the service ends."""
        self._send("STOPPING=1")

    def status(self, sentence: str) -> None:
        """Tell how the service is, if that is news."""
        if sentence != self._status:
            self._status = sentence
            self._send(f"STATUS={sentence}")

    def beat(self) -> None:
        """Tell that the service lives, a few times as often as the watchdog wants to hear it."""
        now = time.monotonic()
        if self.interval and now - self._beaten >= self.interval:
            self._beaten = now
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.settimeout(1.0)
                notify.connect(self._address)
                notify.sendall(message.encode())
        except OSError as error:
            logger.warning("systemd cannot be told %s: %s", message.partition("=")[0], error.strerror or error)


def _interval() -> float:
    """Return the seconds between two beats, 0 where no watchdog is for this process."""
    allowed, whose = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not allowed.isdecimal() or (whose and whose != str(os.getpid())):
        return 0.0
    return int(allowed) / 1e6 / BEATS
