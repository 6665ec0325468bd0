"""All checks of one configuration, each target in a thread of its own, so that a dead one hides no other."""

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from agent.check import configuration, consul, eureka, hosts, kubernetes
from agent.check.directory import check_directory
from agent.check.files import files
from agent.check.finding import Finding, broken, cluster, error, registry
from agent.check.local import check_places, check_state
from agent.check.policy import policy
from agent.check.rights import namespaces
from agent.check.seen import Seen
from agent.clusters.settings import KubernetesSettings
from agent.config import Config
from agent.config.settings import RegistrySettings
from hooks.consul.settings import ConsulSettings
from state.limits import Limits

logger = logging.getLogger(__name__)

S = TypeVar("S")

CONNECT = 3.0  # seconds, at the most
ANSWER = 5.0


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found, in the order of the configuration, and the policy that each registry's token needs."""

    findings: tuple[Finding, ...]
    policies: Mapping[str, str]


def survey(config: Config, *, running: bool, config_only: bool) -> Survey:
    """Check a configuration, and, unless only that is wanted, its registries and clusters; nothing is written.

    ``running`` tells that an agent of this configuration answers.
    """
    state, remembered = check_state(config)
    named = files(config)
    found = [*configuration.relations(config), *named, *state, *check_places(config, running=running)]
    policies = {
        name: policy(settings) for name, settings in config.registries.items() if isinstance(settings, ConsulSettings)
    }
    if config_only:
        return Survey(tuple(found), policies)
    limits = _brief(config.limits)
    unusable = broken(named)
    with ThreadPoolExecutor(max_workers=max(1, len(config.registries) + len(config.clusters))) as pool:
        asked = {
            name: pool.submit(_check_registry, settings, limits)
            for name, settings in config.registries.items()
            if registry(name) not in unusable
        }
        looked = {
            name: pool.submit(_check_cluster, config, name, remembered, limits)
            for name in config.clusters
            if cluster(name) not in unusable
        }
    registries = {name: _result(future, registry(name), Seen) for name, future in asked.items()}
    clusters = {name: _result(future, cluster(name), kubernetes.Seen) for name, future in looked.items()}
    for name in registries:
        found += registries[name].findings
    for name in clusters:
        found += clusters[name].findings
    found += _together(config, registries, clusters)
    off = {name for name, seen in registries.items() if seen.acls is False}
    return Survey(tuple(found), {name: text for name, text in policies.items() if name not in off})


def _brief(limits: Limits) -> Limits:
    """Return limits for somebody who waits for an answer."""
    return replace(
        limits,
        connect_timeout=min(limits.connect_timeout, CONNECT),
        read_timeout=min(limits.read_timeout, ANSWER),
        write_timeout=min(limits.write_timeout, ANSWER),
    )


def _check_registry(settings: RegistrySettings, limits: Limits) -> Seen:
    if isinstance(settings, ConsulSettings):
        return consul.check_registry(settings, limits)
    return eureka.check_registry(settings, limits)


def _check_cluster(config: Config, name: str, remembered: Iterable[tuple[str, str]], limits: Limits) -> kubernetes.Seen:
    settings = config.clusters[name]
    where = {namespace for cluster, namespace in remembered if cluster == name} | set(namespaces(config, name))
    if isinstance(settings, KubernetesSettings):
        return kubernetes.check_cluster(settings, tuple(sorted(where)), limits)
    return kubernetes.Seen(tuple(check_directory(settings, where)))


def _result(future: Future[S], place: str, seen: Callable[[tuple[Finding, ...]], S]) -> S:
    """Return what a check has seen, or that it failed in a way that nobody foresaw."""
    try:
        return future.result()
    except Exception as failure:  # one target's net: it must not hide the others
        logger.exception("%s: the check failed", place)
        remedy = "this is a mistake of isthmus: please report it, with what was logged"
        return seen((error(place, f"the check itself failed: {type(failure).__name__}: {failure}", remedy),))


def _together(
    config: Config, registries: Mapping[str, Seen], clusters: Mapping[str, kubernetes.Seen]
) -> Iterable[Finding]:
    """Yield what only several targets together tell."""
    leaders = {name: (seen.datacenter, seen.leader) for name, seen in registries.items() if seen.leader}
    yield from configuration.same_datacenter(config, leaders)
    known = {name: seen.services for name, seen in registries.items() if seen.services is not None}
    yield from configuration.without_service(config, known)
    expected = hosts.prospects(config, {name: known.get(name) for name in config.registries})
    for name, seen in clusters.items():
        yield from hosts.takers(config, name, seen.services, expected)
        yield from hosts.rivals(name, seen.foreign, expected)
    if any(isinstance(settings, KubernetesSettings) for settings in config.clusters.values()):
        yield hosts.reminder(config)
