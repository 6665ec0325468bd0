"""From the settings of a cluster to the cluster."""

from agent.clusters import Heritable
from agent.clusters.directory import DirectoryCluster
from agent.clusters.kubernetes import KubernetesCluster
from agent.clusters.settings import DirectorySettings, KubernetesSettings
from state.limits import Limits


def open_cluster(settings: KubernetesSettings | DirectorySettings, limits: Limits) -> Heritable:
    """Return the cluster of these settings; nothing is read yet, so one that is down opens too."""
    match settings:
        case KubernetesSettings():
            return KubernetesCluster(settings, limits)
        case DirectorySettings():
            return DirectoryCluster(settings, limits)
