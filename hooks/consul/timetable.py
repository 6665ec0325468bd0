"""When the next pass and the next re-read of one registry are due; times are monotonic seconds."""

from state.limits import Limits

REST = 10  # a pass, and a re-read, rests ten times its own duration


class Timetable:
    """Remembers what was asked for, when it was done and how long it took."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pass_wanted: float | None = None
        self._reread_wanted: float | None = None
        self._reread_rested = float("inf")  # until a pass has shown what there is to compare with
        self.last_pass = -float("inf")  # when it ended
        self.pass_seconds = 0.0

    def want_pass(self, now: float) -> None:
        """Note that a pass is wanted, and since when."""
        if self._pass_wanted is None:
            self._pass_wanted = now

    def want_reread(self, now: float) -> None:
        """Note that a re-read is wanted, and since when."""
        if self._reread_wanted is None:
            self._reread_wanted = now

    def rested(self) -> float:
        """Return until when the last pass rests."""
        return self.last_pass + max(self._limits.pass_spacing, REST * self.pass_seconds)

    def pass_due(self, asked: float | None) -> float:
        """Return when a pass is due; ``asked`` is when removals need one."""
        due = [self.last_pass + self._limits.sweep, self._pass_wanted, asked]
        return max(self.rested(), min(at for at in due if at is not None))

    def reread_due(self) -> float:
        """Return when a re-read is due, infinity while none is wanted.

        It rests on its own duration: after a pass, which takes much longer, only the
        spacing is kept, or nothing would be heard of unparked services for ten passes.
        """
        if self._reread_wanted is None:
            return float("inf")
        return max(self._reread_wanted, self._reread_rested, self.last_pass + self._limits.pass_spacing)

    def begin_pass(self) -> float | None:
        """Note that a pass begins, which is a re-read as well; return since when one was wanted, None for a sweep."""
        wanted = [at for at in (self._pass_wanted, self._reread_wanted) if at is not None]
        self._pass_wanted = self._reread_wanted = None
        return min(wanted, default=None)

    def end_pass(self, begun: float, now: float, *, complete: bool) -> None:
        """Note that a pass has ended."""
        self.last_pass, self.pass_seconds = now, now - begun
        if complete:
            self._reread_rested = min(self._reread_rested, now)

    def begin_reread(self) -> float:
        """Note that a re-read begins; return since when it was wanted."""
        wanted, self._reread_wanted = self._reread_wanted, None
        return float("inf") if wanted is None else wanted

    def end_reread(self, now: float, seconds: float) -> None:
        """Note that a re-read has ended, which took so long by itself."""
        self._reread_rested = now + max(self._limits.pass_spacing, REST * seconds)
