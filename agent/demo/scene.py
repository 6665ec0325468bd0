"""What the story is played with: any registry that can be changed, any clusters that can be looked at."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from agent.demo.facts import Fact
from state.model import ResourceKey

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML was built without libyaml, which is some ten times faster
    from yaml import SafeLoader  # type: ignore[assignment]


class Registry(Protocol):
    """A registry and everybody who registers there.

    Each move returns when the registry had acknowledged it, in monotonic seconds.
    """

    @property
    def url(self) -> str:
        """Return where it answers."""

    def set_node(self, name: str, address: str) -> float:
        """Add a node."""

    def register(
        self,
        service: str,
        id_: str,
        node: str,
        port: int,
        *,
        meta: Mapping[str, str] | None = None,
        weights: tuple[int, int] = (1, 1),
        status: str | None = "",
    ) -> float:
        """Add an instance at its node's address, with a check of this status, or change it."""

    def deregister(self, node: str, id_: str) -> float:
        """Remove an instance."""

    def set_status(self, node: str, id_: str, status: str) -> float:
        """Change the status of an instance's check."""

    def maintenance(self, node: str, *, on: bool) -> float:
        """Begin or end the maintenance of a whole node."""

    def wipe(self) -> float:
        """Lose everything, and go on empty."""


class Eureka(Protocol):
    """A Eureka server and everybody who registers there; moves return as in a Registry."""

    @property
    def url(self) -> str:
        """Return where it answers, with its path."""

    def register(self, app: str, id_: str, address: str, port: int, *, meta: Mapping[str, str] | None = None) -> float:
        """Add an instance that is UP, or change it."""

    def cancel(self, app: str, id_: str) -> float:
        """Remove an instance."""


class ClusterPlace(Protocol):
    """One cluster as somebody sees it who is not the agent."""

    name: str
    settings: Mapping[str, str]  # its part of the configuration

    def objects(self) -> Iterable[Mapping[str, Any]]:
        """Return what is there now."""

    def where(self, key: ResourceKey, fact: Fact) -> str:
        """Tell a person where an object is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Registries and clusters, with a sentence about each for people."""

    registry: Registry
    registry_words: str
    eureka: Eureka
    eureka_words: str
    clusters: Sequence[ClusterPlace]
    clusters_words: str
    lag_words: str  # until when a lag counts


class DirectoryPlace:
    """A directory; ``shown`` is how its path is told to people."""

    def __init__(self, name: str, folder: Path, shown: Path, namespace: str) -> None:
        self.name = name
        self.settings: Mapping[str, str] = {"directory": name, "namespace": namespace}
        self._folder = folder
        self._shown = shown

    def objects(self) -> Iterable[Mapping[str, Any]]:
        """Read every file anew."""
        found: list[Mapping[str, Any]] = []
        for path in sorted(self._folder.glob("*/*.yaml")):
            try:
                text = path.read_text()
            except FileNotFoundError:  # since it was listed
                continue
            found.extend(content for content in yaml.load_all(text, SafeLoader) if content)
        return found

    def where(self, key: ResourceKey, fact: Fact) -> str:
        """Name the file."""
        return f"{self._shown / key.namespace / fact.place.host}.yaml"
