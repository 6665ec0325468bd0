"""An isthmus that runs for good: one agent at a time, a new one after each reload.

The state file, the sockets and the metrics outlive a reload; everything else is made
anew, as at a start. So a reload is judged as a start is: nothing is removed before
every registry had its pass, and deletions of what a registry still lists are withheld
if there are many of them.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agent.config import Config, load
from agent.daemon import Agent
from state.errors import ConfigurationError, IsthmusError, ReloadingError

logger = logging.getLogger(__name__)

FIXED = ("owner", "state", "control", "receiver", "status")
PATIENCE = 5.0  # seconds that a question waits for a reload to end


class Service:
    """Holds the agent that serves now."""

    def __init__(self, config: Config, make: Callable[[Config], Agent]) -> None:
        """``make`` makes the agent of a configuration, always on the same state file."""
        self._make = make
        self._changing = threading.Condition()
        self._agent: Agent | None = make(config)

    def start(self) -> None:
        """Start the agent."""
        self.current().start()

    def stop(self) -> None:
        """Stop the agent."""
        with self._changing:
            agent = self._agent
        if agent is not None:
            agent.stop()

    def current(self) -> Agent:
        """Return the agent that serves; ReloadingError when a reload takes long."""
        with self._changing:
            if not self._changing.wait_for(lambda: self._agent is not None, PATIENCE) or self._agent is None:
                raise ReloadingError("isthmus is reloading its configuration: try again in a few seconds")
            return self._agent

    def hint(self, registry: str, kind: str, service: str) -> bool:
        """Look at what a watch handler's call speaks of; during a reload everything is looked at anyway."""
        with self._changing:
            agent = self._agent
        return True if agent is None else agent.hint(registry, kind, service)

    def reload(self, path: Path) -> bool:
        """Serve by the configuration in a file, or refuse all of it and log why; tell whether it is served."""
        agent = self.current()
        try:
            config = load(path)
        except ConfigurationError as error:
            return _refuse(error.problems)
        changed = [key for key in FIXED if getattr(config, key) != getattr(agent.config, key)]
        if changed:
            return _refuse([f"{path}: {', '.join(changed)}: a change of it needs a restart"])
        if agent.view.unsaved:
            return _refuse([f"what is believed could not be saved, and would be lost: {agent.view.unsaved}"])
        return self._replace(agent, config)

    def _replace(self, agent: Agent, config: Config) -> bool:
        """Serve by another configuration, or by the old one if that fails; tell which."""
        begun = time.monotonic()
        with self._changing:
            self._agent = None
        agent.stop()
        try:
            made, done = self._started(config), True
        except Exception as error:  # whatever it is, the old configuration was served before
            why = error if isinstance(error, IsthmusError) else repr(error)
            logger.error("reload: %s", why, exc_info=not isinstance(error, IsthmusError))
            logger.error("reload: the new configuration cannot be served; going on with the old one")
            made, done = self._started(agent.config), False
        else:
            logger.info("reload: the new configuration is in force, after %.1f s", time.monotonic() - begun)
        with self._changing:
            self._agent = made
            self._changing.notify_all()
        return done

    def _started(self, config: Config) -> Agent:
        made = self._make(config)
        try:
            made.start()
        except BaseException:
            made.stop()  # half an agent must not write beside the one that takes its place
            raise
        return made


def _refuse(problems: list[str]) -> bool:
    for problem in problems:
        logger.error("reload refused: %s", problem)
    logger.error("reload refused: the configuration that was loaded before stays in force")
    return False
