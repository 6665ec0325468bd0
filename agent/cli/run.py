"""``isthmus run``: what it needs is imported once signals are heeded, as that takes half a second."""

import signal
import sys
from importlib import import_module
from queue import Empty, SimpleQueue
from types import FrameType

import click

from agent.cli.options import Options, Verb


class Signals:
    """What signals have asked for; a second SIGINT ends at once, which costs repeated work only."""

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        # An Event would not do: what it locks may be locked by the very thread that a signal interrupts.
        self._come: SimpleQueue[int] = SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.reload = True
        else:
            self.stop = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._come.put(number)

    def wait(self, seconds: float) -> None:
        """Return when a signal has come, or the time is over."""
        try:
            self._come.get(timeout=seconds)
        except Empty:
            return


@click.command(cls=Verb)
@click.pass_obj
def command(options: Options) -> int:
    """Keep every cluster true until stopped.

    SIGHUP loads the configuration anew. Ends with 0 on SIGTERM or SIGINT, after the writes in flight. What happens is
    logged to standard error.
    """
    signals = Signals()
    # httpx brings a command line of its own, which would draw in what is never used: 4 MB.
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # as if it could not be imported
    code: int = import_module("agent.cli.running").run(options, signals)
    return code
