"""Whether a thread moves: how long it has been at one step."""

import time


class Pulse:
    """Set by one thread, looked at by another."""

    def __init__(self, name: str, longest: float) -> None:
        """``longest`` is how many seconds one step can take while all is well."""
        self._name = name
        self._longest = longest
        self._since: float | None = None

    def step(self) -> None:
        """Note that a step begins."""
        self._since = time.monotonic()

    def rest(self) -> None:
        """Note that there is nothing to do."""
        self._since = None

    def stuck(self, now: float) -> str:
        """Return what has been at one step for too long, or nothing."""
        since = self._since
        if since is None or now - since <= self._longest:
            return ""
        return f"{self._name} has been at one step for {now - since:.0f} s"
