"""The configuration as the rest of isthmus sees it: values, compared by content."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from agent.clusters.settings import DirectorySettings, KubernetesSettings
from agent.rules import Rule
from hooks.consul.settings import ConsulSettings
from hooks.eureka.settings import EurekaSettings
from hooks.settings import Listen, ReceiverSettings
from state.limits import Limits
from state.model import digest_of

RegistrySettings = ConsulSettings | EurekaSettings
ClusterSettings = KubernetesSettings | DirectorySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that an operator decides.

    ``registries`` are in the order of the file, which decides whose fields win for
    one endpoint. Secrets are in files, of which only the paths are here.
    """

    owner: str
    state: Path = Path("/var/lib/isthmus/state.db")
    domain: str = "mesh.internal"
    registries: Mapping[str, RegistrySettings]
    clusters: Mapping[str, ClusterSettings]
    rules: tuple[Rule, ...] = ()
    control: Path = Path("/run/isthmus/control.sock")
    receiver: ReceiverSettings | None = None
    status: Listen | None = None
    limits: Limits = Limits()


def digest(config: Config, cluster: str) -> str:
    """Return the SHA-256, in hex, of all that decides what a cluster should hold.

    That is neither ``limits`` nor how changes are heard, nor where our own files are. Nor is it where secrets
    and certificates are: ``once`` by hand finds them elsewhere than the service
    does, and still has the same configuration. Raises KeyError for an unknown cluster.
    """
    return digest_of(
        {
            "owner": config.owner,
            "domain": config.domain,
            "registries": [_content(settings) for settings in config.registries.values()],
            "cluster": _content(config.clusters[cluster]),
            "rules": [asdict(rule) for rule in config.rules],
        }
    )


def _content(settings: RegistrySettings | ClusterSettings) -> dict[str, object]:
    found: dict[str, object] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "kubeconfig" and value:
            found[field.name] = value.name
        elif field.name not in ("parked", "poll") and not field.name.endswith("_file"):
            found[field.name] = str(value) if isinstance(value, Path) else value
    return found
