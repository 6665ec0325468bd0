"""What a configuration says that is no mistake in itself, but hardly meant. Pure."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from agent.check.finding import CONFIGURATION, Finding, note, ok, warning
from agent.check.hosts import names
from agent.config.settings import Config
from agent.words import count
from hooks.consul.settings import ConsulSettings


def relations(config: Config) -> list[Finding]:
    """Return what its parts say of one another."""
    parts = [
        count(len(config.registries), "registry", "registries"),
        count(len(config.clusters), "cluster"),
        count(len(config.rules), "rule"),
    ]
    told = f"owner {config.owner}, {parts[0]}, {parts[1]}, {parts[2]}"
    return [ok(CONFIGURATION, told), *_namespaces(config), *_unused_rules(config), *_twice(config)]


def _namespaces(config: Config) -> Iterable[Finding]:
    by_namespace: dict[str, list[str]] = {}
    for name, settings in config.clusters.items():
        by_namespace.setdefault(settings.namespace, []).append(name)
    if len(by_namespace) > 1:
        each = "; ".join(f"{', '.join(names)}: {namespace}" for namespace, names in by_namespace.items())
        yield warning(
            CONFIGURATION,
            f"clusters differ in their namespace ({each})",
            "give them the same one: primaries of one mesh read each other's WorkloadEntries by namespace and name, "
            "and would see each endpoint once for each namespace",
        )


def _unused_rules(config: Config) -> Iterable[Finding]:
    for rule in config.rules:
        if not any(fnmatchcase(name, rule.match.registry) for name in config.registries):
            yield warning(
                CONFIGURATION,
                f"rules[{rule.number}] matches no registry: none is named like {rule.match.registry!r}",
                f"name one of {', '.join(config.registries)}, or take the rule out",
            )


def _twice(config: Config) -> Iterable[Finding]:
    seen: dict[str, str] = {}
    for name in config.registries:
        for asked in sorted(_asked(config, name)):
            first = seen.setdefault(asked, name)
            if first != name:
                yield _same(first, name, _kind(config, name), asked)
                break


def _asked(config: Config, name: str) -> frozenset[str]:
    """Return what is asked of which server: of a Consul one thing, of each server of a Eureka cluster the same."""
    settings = config.registries[name]
    if isinstance(settings, ConsulSettings):
        return frozenset({f"{settings.url} {settings.datacenter}".strip()})
    return frozenset(settings.urls)


def _kind(config: Config, name: str) -> str:
    return "datacenter" if isinstance(config.registries[name], ConsulSettings) else "Eureka cluster"


def same_datacenter(config: Config, leaders: Mapping[str, tuple[str, str]]) -> Iterable[Finding]:
    """Yield registries that turned out to be one datacenter; ``leaders`` has datacenter and leader by registry."""
    first: dict[tuple[str, str], str] = {}
    for name, leader in leaders.items():
        other = first.setdefault(leader, name)
        if other != name and _asked(config, other) != _asked(config, name):
            yield _same(other, name, _kind(config, name), f"{leader[0]}, whose leader is {leader[1]}")


def _same(first: str, second: str, kind: str, what: str) -> Finding:
    return warning(
        CONFIGURATION,
        f"{first} and {second} are the same {kind}, {what}",
        "take one of them out: each registration is read and judged twice",
    )


def without_service(config: Config, services: Mapping[str, frozenset[str]]) -> Iterable[Finding]:
    """Yield rules that match no service of any registry; ``services`` are those in scope, of every registry."""
    for rule in config.rules:
        near = [name for name in config.registries if fnmatchcase(name, rule.match.registry)]
        if not near or not services.keys() >= set(near):
            continue
        if not any(names(rule, service) for name in near for service in services[name]):
            seen = f"rules[{rule.number}] matches no service that is registered now: {rule.match.service!r}"
            yield note(CONFIGURATION, seen, "see whether its name is spelt as in the registry: case counts")
