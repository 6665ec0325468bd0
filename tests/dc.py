"""A small data centre on the embedded registry, and the configuration of an isthmus beside it."""

from pathlib import Path
from typing import Any

import yaml

from agent.config import Config, load
from agent.demo.registry import EmbeddedRegistry

REGISTRY = "consul-dc1"
# Times only, all as small as can be; what must be seen waiting waits long enough.
LIMITS: dict[str, Any] = {
    "pass_spacing": "20ms",
    "busy_spacing": "10ms",
    "retry": ["20ms"],
    "backoff": ["20ms"],
    "rescan": "50ms",
    "release_spacing": "200ms",
    "empty_grace": "200ms",
    "stop": "2s",
}


def fill(registry: EmbeddedRegistry, orders: int = 6, web: int = 6) -> None:
    """Register two services, and a third whose one instance has no address that could be used."""
    empty(registry)
    registry.set_node("node-2", "10.0.0.2")
    for service, subnet, number in (("orders", 1, orders), ("web", 2, web)):
        for n in range(1, number + 1):
            registry.register(service, f"{service}-{n}", f"node-{n % 2 + 1}", 8080, address=f"10.{subnet}.0.{n}")
    registry.register("lost", "lost-1", "node-1", 8080, address="127.0.0.1")


def empty(registry: EmbeddedRegistry) -> None:
    """Register what every Consul has."""
    registry.set_node("node-1", "10.0.0.1")
    registry.register("consul", "consul", "node-1", 8300)


def configuration(url: str, **changes: Any) -> dict[str, Any]:
    """Write a configuration for two directories; a change to None leaves the key out."""
    content = {
        "owner": "dc1",
        "state": "state.db",
        "control": "control.sock",
        "registries": {REGISTRY: {"type": "consul", "url": url}},
        "clusters": {
            "east": {"directory": "east", "namespace": "legacy"},
            "west": {"directory": "west", "namespace": "legacy"},
        },
        "limits": LIMITS,
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def configured(folder: Path, url: str, **changes: Any) -> Config:
    """Write a configuration file and load it."""
    file = folder / "isthmus.yaml"
    file.write_text(yaml.safe_dump(configuration(url, **changes), sort_keys=False))
    return load(file)


def objects(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the objects in a directory by kind and name."""
    found = {}
    for file in folder.rglob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            found[document["kind"], document["metadata"]["name"]] = document
    return found
