"""``isthmus run``."""

import logging
import signal
from threading import Event
from types import FrameType

import click

from agent.cli.logs import set_up_logging
from agent.cli.opening import working
from agent.cli.options import Options, Verb
from agent.cli.progress import FirstSync
from agent.config import load
from agent.daemon import VERSION
from agent.web.control import ControlServer

logger = logging.getLogger(__name__)


@click.command(cls=Verb)
@click.pass_obj
def command(options: Options) -> int:
    """Keep every cluster true until stopped.

    Ends with 0 on SIGTERM or SIGINT, after the writes in flight. What happens is logged to standard error.
    """
    stop = _stop_on_signals()
    lines = set_up_logging(options, "info")
    config = load(options.config)
    with working(config) as agent:
        control = ControlServer(agent)
        control.start()
        try:
            agent.start()
            logger.info("isthmus %s serves as %s, state file %s", VERSION, config.owner, config.state)
            FirstSync(agent, lines).follow(stop)
            stop.wait()
            logger.info("stopping")
        finally:
            control.stop()
    return 0


def _stop_on_signals() -> Event:
    """Return an event that the first signal sets; a second SIGINT ends at once, which costs repeated work only."""
    stop = Event()

    def note(number: int, _: FrameType | None) -> None:
        stop.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    return stop
