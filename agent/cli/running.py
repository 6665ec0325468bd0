"""What ``isthmus run`` does until it is stopped: the service, its servers, and what the main thread watches."""

import gc
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol

from agent.cli.logs import set_up_logging
from agent.cli.opening import clusters_of
from agent.cli.options import Options
from agent.cli.progress import FirstSync
from agent.cli.run import Signals
from agent.config import Config, load
from agent.daemon import VERSION, Agent, remembering
from agent.metrics import Metrics
from agent.notify import Notifier
from agent.service import Service
from agent.web.control import ControlServer
from agent.web.status import StatusServer
from hooks.passed import take_passed
from hooks.receiver import Receiver
from hooks.settings import ReceiverSettings
from state.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

TURN = 0.25  # seconds between two looks of the main thread
CALM = 1.0  # once every cluster has caught up


def run(options: Options, signals: Signals) -> int:
    """Serve until a signal asks for the end, and return the exit code."""
    lines = set_up_logging(options, "info")
    passed = take_passed()  # before anything could start a child
    config = load(options.config)
    notifier = Notifier()
    with _serving(config, passed) as service:
        logger.info("isthmus %s serves as %s, state file %s", VERSION, config.owner, config.state)
        first = FirstSync(service.current, lines)
        life = Life(service, notifier, first)
        while not signals.stop:
            if signals.reload:
                signals.reload = False
                life.reload(options.config)
            signals.wait(life.look())
        first.stop()
        logger.info("stopping")
        notifier.stopping()
    return 0


class _Server(Protocol):
    def start(self) -> bool: ...

    def stop(self) -> None: ...


@contextmanager
def _serving(config: Config, passed: list[socket.socket]) -> Iterator[Service]:
    """Give a service that has started, with its servers, and stop it at the end.

    Raises StateError while another isthmus has the file, ConfigurationError when it is another owner's.
    """
    with ExitStack() as stack:
        checkpoint = remembering(config, stack.enter_context(closing(Checkpoint.open(config.state))))
        metrics = Metrics()
        service = Service(config, lambda new: Agent(new, checkpoint, clusters_of(new), metrics.tell))
        listens = config.receiver is not None or bool(passed)
        receiver = Receiver(config.receiver or ReceiverSettings(), service.hint, passed) if listens else None
        told = receiver.report if receiver is not None else _nothing
        servers: list[_Server] = [ControlServer(service.current, config.control, told)]
        if receiver is not None:
            servers.append(receiver)
        if config.status is not None:
            servers.append(StatusServer(service.current, config.status, metrics, told))
        stack.callback(service.stop)
        for server in servers:
            server.start()
            stack.callback(server.stop)
        service.start()
        yield service


def _nothing() -> None:
    """Tell what was received without a receiver."""


class Life:
    """What the main thread does: it follows the first sync, and tells systemd how the service is."""

    def __init__(self, service: Service, notifier: Notifier, first: FirstSync) -> None:
        self._service = service
        self._notifier = notifier
        self._first = first
        self._ready = False
        self._calm = False
        self._stuck = ""

    def look(self) -> float:
        """Look once; return for how many seconds there is nothing to look at."""
        agent = self._service.current()
        if not self._moves(agent):
            return CALM  # nothing more is asked of it: the answer might never come
        self._notifier.beat()
        if not self._ready and agent.is_ready():
            self._ready = True
            self._notifier.ready()
        self._notifier.status(sentence(agent))
        calm = self._first.look() and self._ready
        if calm and not self._calm:
            # What is known by now stays: to look through all of it for garbage stops every thread for 0.1 s.
            gc.collect()
            gc.freeze()
        self._calm = calm
        return min(CALM if calm else TURN, self._notifier.interval or CALM)

    def _moves(self, agent: Agent) -> bool:
        """Tell whether everything moves; what does not is logged once."""
        stuck = agent.stuck(time.monotonic())
        what = stuck.partition(" for ")[0]
        if stuck and what != self._stuck:
            logger.critical("stuck: %s; systemd will not be told that this lives until it moves", stuck)
        self._stuck = what
        return not stuck

    def reload(self, path: Path) -> None:
        """Load the configuration anew; systemd waits for the end of it, unless it still waits for the start."""
        if self._ready:
            self._notifier.reloading()
        gc.unfreeze()
        self._calm = False
        self._service.reload(path)
        if self._ready:
            self._notifier.ready()


def sentence(agent: Agent) -> str:
    """Return how an agent is doing, on one line."""
    lanes = [lane.report() for lane in agent.lanes.values()]
    loops = [loop.report() for loop in agent.loops.values()]
    registries = sum(loop.passes > 0 and not loop.error for loop in loops)
    clusters = sum(lane.read and not lane.error for lane in lanes)
    held = agent.held() + sum(len(lane.withheld) for lane in lanes)
    return (
        f"{registries} of {len(loops)} registries and {clusters} of {len(lanes)} clusters work; "
        f"{sum(lane.pending for lane in lanes)} changes pending, {held} removals held"
    )
