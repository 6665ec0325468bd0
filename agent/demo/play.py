"""The demo from its first line to its verdict, on any scene; the usual one needs no Consul and no cluster."""

import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Any

from agent.cli.exits import FAILED
from agent.config import load
from agent.demo.estate import NAMESPACE
from agent.demo.eureka import EmbeddedEureka
from agent.demo.folder import CONFIGURATION, prepare, write_configuration
from agent.demo.narrator import Narrator
from agent.demo.registry import EmbeddedRegistry
from agent.demo.scene import DirectoryPlace, Scene
from agent.demo.stage import LeftError, Stage, StoryError, opened
from agent.demo.story import CHAPTERS
from agent.plan import Action
from agent.words import count

CLUSTERS = ("east", "west")
INTERRUPTED = 130  # as a shell has it
SHORT = 24  # characters of a folder that is named on every line


def play(folder: Path, seconds: float) -> int:
    """Play the story on an embedded registry and two directories; return the exit code.

    Raises ConfigurationError when the folder is not the demo's, StateError when it cannot be used.
    """
    prepare(folder, CLUSTERS)
    shown = folder if len(str(folder)) <= SHORT else Path()
    with EmbeddedRegistry() as registry, EmbeddedEureka() as eureka:
        scene = Scene(
            registry=registry,
            registry_words="An embedded registry that speaks the part of Consul's HTTP protocol that isthmus uses; no "
            f"Consul is running. It answers at {registry.url}",
            eureka=eureka,
            eureka_words="An embedded registry that speaks the part of Eureka's HTTP protocol that isthmus uses; no "
            f"Eureka is running. It answers at {eureka.url}",
            clusters=[DirectoryPlace(name, folder / name, shown / name, NAMESPACE) for name in CLUSTERS],
            clusters_words=f"Two directories, {folder / 'east'} and {folder / 'west'}: they hold the objects that two "
            "Kubernetes clusters would.",
            lag_words="to the file's rename",
        )
        return perform(folder, seconds, scene)


def perform(folder: Path, seconds: float, scene: Scene) -> int:
    """Play the story on a scene, in a folder that was prepared; return the exit code."""
    narrator = Narrator()
    config = load(write_configuration(folder, scene.registry.url, scene.eureka.url, scene.clusters, seconds))
    try:
        with _interrupts() as stop, opened(scene, narrator, config, seconds=seconds, stop=stop) as stage:
            _introduce(stage, folder)
            for title, explained, happen in CHAPTERS:
                stage.chapter(title, explained)
                happen(stage)
            stage.look()
            _sum_up(stage, folder)
            return 0
    except LeftError:
        narrator.title("Interrupted. Nothing is left running.")
        return INTERRUPTED
    except StoryError as error:
        return _fail(narrator, error.lines)


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Give an event that SIGINT or SIGTERM sets; the second one ends at once."""
    stop = threading.Event()

    def note(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _introduce(stage: Stage, folder: Path) -> None:
    narrator, scene = stage.narrator, stage.scene
    narrator.title(f"isthmus demo: {len(CHAPTERS)} chapters, about {stage.seconds:g} s")
    narrator.named("registry", scene.registry_words)
    narrator.named("eureka", scene.eureka_words)
    narrator.named("clusters", scene.clusters_words)
    narrator.named(
        "agent",
        f"The very agent of `isthmus run`, with the configuration {folder / CONFIGURATION}; only its times are shorter "
        "than usual.",
    )
    if stage.can_be_asked:
        narrator.named("ask it", f"{_command()} status --config {quote(str(folder / CONFIGURATION))}  (or holds)")
    narrator.named(
        "a line",
        "When, in which cluster, what was written (+ new, ~ changed, - gone), its lag (from the registry's "
        f"acknowledgement of the change {scene.lag_words}), and where.",
    )


def _command() -> str:
    """Return how a person can start isthmus from here."""
    beside = Path(sys.executable).with_name("isthmus")
    found = shutil.which("isthmus")
    if (found and Path(found) == beside) or not beside.exists():
        return "isthmus"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


def _sum_up(stage: Stage, folder: Path) -> None:
    narrator, facts = stage.narrator, stage.estate.facts()
    narrator.title("What was written")
    columns = ["CHAPTER", "REGISTRY CHANGES", *(name.upper() for name in stage.clusters), "MEDIAN LAG", "SLOWEST LAG"]
    narrator.table(columns, [chapter.cells(stage.clusters) for chapter in stage.chapters])

    endpoints = sum(1 for fact in facts if fact.place.endpoint)
    deletions = sum(write.action is Action.DELETE for chapter in stage.chapters for write in chapter.writes)
    narrator.title("Checked")
    narrator.say(
        f"Read back from {' and '.join(stage.clusters)}: each holds {count(len(facts) - endpoints, 'host')} and "
        f"{count(endpoints, 'endpoint')}, exactly what runs in the data centre."
    )
    narrator.say(
        "No healthy endpoint was ever missing, also not while the registry was empty, or a service moved: what "
        f"{deletions} deletions removed had failed, was in maintenance or had gone."
    )
    first = (write for write in stage.chapters[0].writes if write.cluster == stage.clusters[0])
    example = stage.where(next(write for write in first if not write.fact.place.endpoint))
    narrator.say(f"To read: {folder / CONFIGURATION} is the configuration, {example} one of the hosts.")


def _fail(narrator: Narrator, lines: list[str]) -> int:
    narrator.title("This is not as it must be:")
    for line in lines:
        narrator.say(line)
    return FAILED
