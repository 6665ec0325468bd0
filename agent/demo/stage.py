"""Where the story is played: the agent at work, a witness before each cluster, and the wait for what must follow."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from statistics import median

from agent.clusters import Cluster
from agent.clusters.open import open_cluster
from agent.config import Config
from agent.daemon import Agent, remembering
from agent.demo.estate import Estate, Running
from agent.demo.facts import Place, differences, facts_of
from agent.demo.folder import OWNER
from agent.demo.narrator import Narrator
from agent.demo.scene import Scene
from agent.demo.witness import Witness, Write
from agent.holds import Row, holds
from agent.plan import Action
from agent.report import status
from agent.web.control import ControlServer
from state.checkpoint import Checkpoint
from state.errors import IsthmusError

PATIENCE = 90.0  # seconds for what takes far less, on a machine that may be very busy
TURN = 0.1  # seconds until an interrupt is noticed
GLANCE = 0.25  # seconds between two looks into the clusters
FEW = 12  # lines of what differs


class StoryError(IsthmusError):
    """The story did not go as it must; ``lines`` tell what differs."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class LeftError(IsthmusError):
    """Somebody does not want to see the end."""


@dataclass(slots=True)
class Chapter:
    """One part of the story: what happened, and what was written for it.

    ``lags`` are in seconds; those of what had to wait for a grace are left out.
    """

    title: str
    moves: int = 0
    writes: list[Write] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)

    def cells(self, clusters: list[str]) -> tuple[str, ...]:
        """Return its row in the table at the end."""
        counts = [Counter(write.action for write in self.writes if write.cluster == name) for name in clusters]
        written = [" ".join(f"{action}{count[action]}" for action in Action) for count in counts]
        lags = [f"{1000 * seconds:.1f} ms" for seconds in (median(self.lags), max(self.lags))] if self.lags else "--"
        return (self.title, str(self.moves), *written, *lags)


class Stage:
    """A registry, an agent and clusters, in which something happens; used by one thread.

    ``stop`` is set when the story is to end early: every wait raises LeftError then.
    """

    def __init__(
        self,
        scene: Scene,
        narrator: Narrator,
        config: Config,
        checkpoint: Checkpoint,
        *,
        seconds: float,
        stop: threading.Event,
    ) -> None:
        self.scene = scene
        self.narrator = narrator
        self.seconds = seconds
        self.estate = Estate()
        self.chapters: list[Chapter] = []
        self.can_be_asked = False
        self._config = config
        self._stop = stop
        self._news = threading.Condition()
        self._fresh: list[Write] = []
        self._wrong: list[str] = []  # deletions of what was healthy
        self._protected: frozenset[Place] = frozenset()
        self._witnesses: dict[str, Witness] = {}
        self._places = {place.name: place for place in scene.clusters}
        self._since = 0.0  # what is written is written because of what the registry acknowledged then
        self._prompt = True
        self._due = 0.0
        self.agent = Agent(config, remembering(config, checkpoint), self._open)

    def _open(self, name: str) -> Cluster:
        cluster = open_cluster(self._config.clusters[name], self._config.limits)
        self._witnesses[name] = Witness(cluster, self._news, self._take)
        return self._witnesses[name]

    def _take(self, write: Write) -> None:
        if write.action is Action.DELETE and write.fact.place in self._protected:
            self._wrong.append(f"{write.cluster}: {' '.join(write.fact.place)} was deleted while it was healthy")
        self._fresh.append(write)

    # Time

    @property
    def clusters(self) -> list[str]:
        """Return the names of all clusters."""
        return list(self._places)

    @staticmethod
    def now() -> float:
        """Return the time, in monotonic seconds."""
        return time.monotonic()

    def begin(self) -> None:
        """Start the agent, and with it the time of the story."""
        self.narrator.began = self._since = self._due = time.monotonic()
        self.protect()
        self.agent.start()

    def chapter(self, title: str, explained: str) -> None:
        """Begin a part of the story."""
        self.chapters.append(Chapter(title))
        self.narrator.title(f"{len(self.chapters)}. {title}", explained)

    def pause(self, share: float) -> None:
        """Let a share of the story's time pass, less what the story is late."""
        self._due += share * self.seconds
        while (left := self._due - time.monotonic()) > 0:
            self._go_on()
            self._stop.wait(min(TURN, left))

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise LeftError
        self._tell()

    # What happens

    def move(self, text: str, change: Callable[[], float], *, prompt: bool = True) -> None:
        """Change something in the registry, as the estate has it already, and wait until every cluster follows.

        Where it is not ``prompt``, what follows has to wait for a grace.
        """
        self.act(text, change, prompt=prompt)
        self.settle()

    def act(self, text: str, change: Callable[[], float], *, prompt: bool = True, who: str = "registry") -> None:
        """Change something in a registry, and wait for nothing."""
        self._go_on()
        self.protect()
        self._since, self._prompt = change(), prompt
        self.chapters[-1].moves += 1
        self.narrator.note(self._since, who, text)

    def register(self, one: Running) -> float:
        """Register an instance as it runs, where it belongs."""
        if one.in_eureka:
            meta = {**one.meta, "weight": str(one.weight)}
            return self.scene.eureka.register(one.app, one.id, one.node.address, one.port, meta=meta)
        return self.scene.registry.register(
            one.service, one.id, one.node.name, one.port, meta=one.meta, weights=(one.weight, 1), status=one.status
        )

    def protect(self) -> None:
        """From now on, nothing may be deleted that the estate has now."""
        with self._news:
            self._protected = frozenset(fact.place for fact in self.estate.facts())

    # What follows

    def settle(self) -> None:
        """Wait until every cluster has taken what the estate is."""
        self.until(self.is_settled, "every cluster holds what the data centre runs")

    def is_settled(self) -> bool:
        """Tell whether every cluster has taken what the estate is."""
        wanted = self.estate.facts()
        return all(witness.facts() == wanted for witness in self._witnesses.values())

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait for something, and tell meanwhile what is written; StoryError when it does not come."""
        give_up = time.monotonic() + PATIENCE
        while not true():
            self._go_on()
            if time.monotonic() > give_up:
                why = [*self._wrong, *self._why()]
                raise StoryError([f"After {PATIENCE:g} s it is still not so that {what}.", *why])
            with self._news:
                if not self._fresh:
                    self._news.wait(TURN)
        self._tell()

    def _why(self) -> list[str]:
        wanted, report = self.estate.facts(), status(self.agent)
        lines = [
            f"{name} {line}"
            for name, witness in self._witnesses.items()
            for line in differences(wanted, witness.facts())[:FEW]
        ]
        for kind in ("registries", "clusters"):
            lines += [f"{name}: {one['error']}" for name, one in report[kind].items() if one["error"]]
        return lines

    def _tell(self) -> None:
        """Tell what was written meanwhile; of the first sync, that is too much."""
        with self._news:
            fresh, self._fresh = sorted(self._fresh), []
        chapter = self.chapters[-1]
        chapter.writes += fresh
        if len(self.chapters) == 1:
            return
        for write in fresh:
            lag = write.at - self._since
            if self._prompt:
                chapter.lags.append(max(0.0, lag))
            self.narrator.wrote(write, lag, self.where(write))

    def where(self, write: Write) -> str:
        """Tell a person where a write went."""
        return self._places[write.cluster].where(write.key, write.fact)

    def holds(self, *reasons: str) -> list[Row]:
        """Return what waits for one of these reasons, as `isthmus holds` shows it."""
        return [row for row in holds(self.agent) if row["reason"] in reasons]

    # Looking for oneself

    def look(self) -> None:
        """Read back every cluster, not through the agent; StoryError for what differs, or was ever deleted wrongly."""
        wanted, problems = self.estate.facts(), list(self._wrong)
        for place in self.scene.clusters:
            problems += [f"{place.name} {line}" for line in differences(wanted, facts_of(place.objects(), OWNER))]
        if problems:
            raise StoryError(problems)

    def look_on(self, share: float) -> int:
        """Read back every cluster again and again for a share of the story's time, and tell how often."""
        end, looks = time.monotonic() + share * self.seconds, 0
        while looks == 0 or time.monotonic() < end:
            self._go_on()
            self.look()
            looks += 1
            self._stop.wait(min(GLANCE, max(0.0, end - time.monotonic())))
        self._due = max(self._due, end)
        return looks


@contextmanager
def opened(
    scene: Scene, narrator: Narrator, config: Config, *, seconds: float, stop: threading.Event
) -> Iterator[Stage]:
    """Give a stage whose agent can be asked through its control socket, and leave nothing running at the end."""
    with closing(Checkpoint.open(config.state)) as checkpoint:
        stage = Stage(scene, narrator, config, checkpoint, seconds=seconds, stop=stop)
        control = ControlServer(lambda: stage.agent, config.control)
        stage.can_be_asked = control.start()
        try:
            yield stage
        finally:
            control.stop()
            stage.agent.stop()
