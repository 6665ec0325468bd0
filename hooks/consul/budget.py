"""How many services may be parked."""

FORGET = 10  # times the patience, until it is tried again whether as many are allowed as once were refused


class Budget:
    """Halved when the server refuses, and growing again slowly, but not to where it was refused.

    Times are monotonic seconds. ``why`` is the reason for its being less than was wished.
    """

    def __init__(self, wished: int, patience: float) -> None:
        """``patience`` is how long nothing must have been refused before it grows."""
        self._wished = wished
        self._patience = patience
        self._most = wished
        self._capped = ""
        self._refused = ""
        self._refused_at = -float("inf")
        self._grow_at = 0.0
        self._ceiling = wished  # as many were refused
        self.allowed = wished

    @property
    def why(self) -> str:
        """Return why it is less than was wished, or nothing."""
        if self.allowed == self._wished:
            return ""
        return self._refused if self.allowed < self._most else self._capped

    @property
    def ceiling(self) -> int:
        """Return the most that it may grow to now."""
        return self._most if self._ceiling >= self._most else max(1, self._ceiling * 3 // 4)

    def cap(self, most: int, why: str) -> None:
        """Never be more than this again."""
        if most < self._most:
            self._most, self._capped = most, why
            self._ceiling = min(self._ceiling, most)
            self.allowed = min(self.allowed, most)

    def refuse(self, asked: float, now: float, served: int, why: str) -> None:
        """Note that something asked for at a time was refused now, while so many others were served.

        What was asked for before the last refusal was known says nothing about the budget since.
        """
        if asked < self._refused_at:
            return
        self._refused, self._refused_at = why, now
        self._ceiling = min(self._most, served)
        self.allowed = min(self.allowed, served) // 2
        self._grow_at = now + self._patience

    def grow(self, now: float) -> bool:
        """Grow by a quarter if it is time; tells whether it has grown."""
        if self.allowed == self._most or now < self._grow_at:
            return False
        if now - self._refused_at > FORGET * self._patience:
            self._ceiling = self._most
        before, more = self.allowed, max(self.allowed + 1, self.allowed * 5 // 4)
        self.allowed = max(before, min(self.ceiling, more))
        self._grow_at = now + self._patience
        return self.allowed > before
