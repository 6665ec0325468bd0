"""The folder in which the demo happens: made, cleared of an earlier demo, and given its configuration."""

import json
from collections.abc import Iterable
from pathlib import Path

from agent.clusters.directory import DirectoryCluster
from agent.clusters.settings import DirectorySettings
from agent.demo.estate import NAMESPACE, REGION, SHOP, SKIPPED
from agent.demo.scene import ClusterPlace
from agent.plan import Action, Change
from state.errors import ClusterError, ConfigurationError, StateError
from state.limits import Limits
from state.store import lock

OWNER = "demo"
REGISTRY = "consul-dc1"
CONFIGURATION = "isthmus.yaml"
STATE = "state.db"
MARK = "# Written by `isthmus demo`"

GRACES = 20  # the story takes so many times as long as each of its graces
SHORTEST = 0.3  # seconds

_TEXT = """\
{mark}, anew each time. A configuration like any other: with a Consul
# and a Eureka at those URLs, `isthmus run --config FILE` would do all that the demo shows.

owner: demo                      # the identity under which everything is written
state: state.db                  # remembers what was seen and what was written
control: control.sock            # where `isthmus status`, `holds` and `accept` ask

registries:
  consul-dc1: {{type: consul, url: "{url}", region: {region}}}
  eureka-dc1: {{type: eureka, urls: ["{eureka}"], region: {region}, poll: 200ms}}  # usually 5s

clusters:
{clusters}

rules:                           # later rules win, field by field
  - match: {{service: "{skipped}*"}}
    skip: true                   # nobody in the mesh calls these
  - match: {{metadata: {{team: {shop}}}}}
    host: "{{service}}.shop.internal"
    namespace: {shop}
    labels: {{team: {shop}}}

limits:                          # shorter than usual, so that the story ends
  empty_grace: {grace:<18}# usually 60s: the last endpoints of a host stay so long after they vanished
  service_entry_grace: {grace:<10}# usually 15m: then the host goes that nobody needs any more
  pass_spacing: 200ms            # usually 2s: between two passes over the registry, which find new instances
  busy_spacing: 100ms            # usually 1s: between two looks at the list of services while it is busy
"""


def prepare(folder: Path, clusters: Iterable[str]) -> None:
    """Make a folder, and remove what an earlier demo left in it; nothing else is touched.

    Raises ConfigurationError when it belongs to another isthmus, StateError when it is
    in use or cannot be written, ClusterError when an old object cannot be removed.
    """
    configuration, state = folder / CONFIGURATION, folder / STATE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if configuration.exists():
            ours = configuration.read_text("utf-8", "replace").startswith(MARK)
        else:
            ours = not state.exists()
        if not ours:
            there = configuration if configuration.exists() else state
            advice = "name another folder with --out"
            raise ConfigurationError([f"{there}: is there, and was not written by `isthmus demo`: {advice}"])
        with lock(state):
            for name in clusters:
                _clear(name, folder / name)
            for tail in ("", "-wal", "-shm"):
                Path(f"{state}{tail}").unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"{error.filename or folder}: {error.strerror or error}") from error


def _clear(name: str, folder: Path) -> None:
    """Delete the objects of an earlier demo from a directory, as its agent would have."""
    settings = DirectorySettings(name=name, namespace=NAMESPACE, directory=folder)
    cluster = DirectoryCluster(settings, Limits())
    held = cluster.read(frozenset({NAMESPACE, SHOP})).values()
    for outcome in cluster.write([Change(Action.DELETE, one.key, None, one, "") for one in held if one.owner == OWNER]):
        if isinstance(outcome, ClusterError):
            raise outcome


def grace_of(seconds: float) -> float:
    """Return how long each grace is in a story of so many seconds."""
    return max(SHORTEST, round(seconds / GRACES, 1))


def write_configuration(folder: Path, url: str, eureka: str, clusters: Iterable[ClusterPlace], seconds: float) -> Path:
    """Write the configuration of the demo's agent, and return where it is."""
    path = folder / CONFIGURATION
    text = _TEXT.format(
        mark=MARK,
        url=url,
        eureka=eureka,
        region=REGION,
        clusters="\n".join(f"  {cluster.name}: {_flow(cluster)}" for cluster in clusters),
        skipped=SKIPPED,
        shop=SHOP,
        grace=f"{grace_of(seconds):g}s",
    )
    path.write_text(text, "utf-8")
    return path


def _flow(cluster: ClusterPlace) -> str:
    return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in cluster.settings.items()) + "}"


def _scalar(value: str) -> str:
    return value if value.isalpha() else json.dumps(value)
