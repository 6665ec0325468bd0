"""What isthmus must be allowed to do in a Kubernetes cluster. Pure."""

from agent.clusters.settings import Policy
from agent.config.settings import Config

GROUP = "networking.istio.io"
RESOURCES = ("serviceentries", "workloadentries")

_VERBS: dict[Policy, tuple[str, ...]] = {
    "sync": ("get", "list", "watch", "create", "update", "delete"),
    "upsert-only": ("get", "list", "watch", "create", "update"),
    "paused": ("list", "watch"),
}


def verbs(policy: Policy) -> tuple[str, ...]:
    """Return the verbs that are called under a policy, on both kinds; an update is a PUT, so nothing is patched."""
    return _VERBS[policy]


def namespaces(config: Config, cluster: str) -> tuple[str, ...]:
    """Return, sorted, the namespaces that the configuration names for a cluster.

    Those of every rule: which clusters a registration goes to, another rule may say.
    """
    return tuple(
        sorted({config.clusters[cluster].namespace} | {rule.namespace for rule in config.rules if rule.namespace})
    )
