"""What may become of a registered service, before its instances are known: its hosts and labels. Pure.

A rule that asks for a tag or for metadata may match or not; what it says is possible.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from agent.check.finding import Finding, cluster, note, warning
from agent.config.settings import Config
from agent.naming import fill, host_label, service_label
from agent.rules import DEFAULT_HOST, Rule
from agent.translate import CANONICAL_NAME, CANONICAL_REVISION, TLS_MODE
from agent.words import count
from state.model import HOST_LABEL, MANAGED_BY, OWNER_LABEL, PRODUCT

SHOWN = 3  # hosts

Labels = Mapping[str, frozenset[str] | None]  # the values that are possible; None where any is


class Selecting(NamedTuple):
    """A Kubernetes Service, or a ServiceEntry that is not isthmus', and the labels that it selects."""

    namespace: str
    name: str
    selector: Mapping[str, str]
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prospect:
    """What may become of one service of one registry, or of any where the services are not known.

    ``aliases`` are further hosts. A namespace is "" for the cluster's own.
    """

    hosts: frozenset[str]
    aliases: frozenset[str]
    namespaces: frozenset[str]
    labels: Labels


def prospects(config: Config, services: Mapping[str, frozenset[str] | None]) -> tuple[Prospect, ...]:
    """Return the prospects of the services in scope, by registry; None for a registry that does not show them."""
    found = []
    for name, known in services.items():
        for service in sorted(known) if known is not None else [None]:
            rules = [rule for rule in config.rules if _may_match(rule, name, service)]
            if _possible(rules, "skip", False, certain=service is not None) != {True}:
                found.append(_prospect(config, rules, service))
    return tuple(found)


def _may_match(rule: Rule, registry: str, service: str | None) -> bool:
    return fnmatchcase(registry, rule.match.registry) and (service is None or names(rule, service))


def names(rule: Rule, service: str) -> bool:
    """Tell whether a rule is for a service of that name, as it is registered or in lower case."""
    return fnmatchcase(service, rule.match.service) or fnmatchcase(service.lower(), rule.match.service)


def _prospect(config: Config, rules: Sequence[Rule], service: str | None) -> Prospect:
    certain = service is not None
    hosts = aliases = frozenset[str]()
    if service is not None:
        templates = _possible(rules, "host", DEFAULT_HOST, certain=True)
        hosts = frozenset(fill(str(template), service, config.domain) for template in templates)
        further = {one for rule in rules for one in rule.aliases or ()}
        aliases = frozenset(fill(template, service, config.domain) for template in further)
    labels: dict[str, frozenset[str] | None] = {}
    for rule in rules:
        for key, value in rule.labels:
            labels[key] = (labels.get(key) or frozenset()) | {value}
    identities = {rule.identity.tls for rule in rules if rule.identity is not None}
    return Prospect(
        hosts=hosts,
        aliases=aliases,
        namespaces=frozenset(map(str, _possible(rules, "namespace", "", certain=certain))),
        labels={
            **labels,
            MANAGED_BY: frozenset({PRODUCT}),
            OWNER_LABEL: frozenset({config.owner}),
            TLS_MODE: frozenset({"disabled", *identities}),
            HOST_LABEL: frozenset(map(host_label, hosts)) if certain else None,
            CANONICAL_NAME: None if service is None else frozenset({service_label(service)}),
            CANONICAL_REVISION: None,
        },
    )


def _possible(rules: Sequence[Rule], field: str, default: object, *, certain: bool) -> set[object]:
    """Return the values that a field may have; later rules win, and those that surely match win surely."""
    found = {default}
    for rule in rules:
        value = getattr(rule, field)
        if value is None:
            continue
        if certain and rule.match.tag is None and not rule.match.metadata:
            found = set()
        found.add(value)
    return found


def takers(config: Config, name: str, services: Iterable[Selecting], expected: Sequence[Prospect]) -> Iterable[Finding]:
    """Yield the Kubernetes Services in a cluster that would take the endpoints which are published there."""
    own = config.clusters[name].namespace
    for service in services:
        taken = [one for one in expected if _selects(service.selector, one.labels) and _in(service, one, own)]
        if taken:
            yield _takes(config, name, service, taken)


def rivals(name: str, foreign: Iterable[Selecting], expected: Sequence[Prospect]) -> Iterable[Finding]:
    """Yield the ServiceEntries of others in a cluster whose hosts are ours, too."""
    hosts = frozenset(host for one in expected for host in one.hosts | one.aliases)
    for entry in foreign:
        for host in sorted(hosts.intersection(entry.hosts)):
            yield _foreign(name, entry, host)


def _in(service: Selecting, prospect: Prospect, own: str) -> bool:
    return service.namespace in {namespace or own for namespace in prospect.namespaces}


def _selects(selector: Mapping[str, str], labels: Labels) -> bool:
    return all(
        key in labels and ((values := labels[key]) is None or value in values) for key, value in selector.items()
    )


def _takes(config: Config, name: str, service: Selecting, taken: Sequence[Prospect]) -> Finding:
    hosts = sorted({host for one in taken for host in one.hosts})
    more = f" and {count(len(hosts) - SHOWN, 'more host')}" if len(hosts) > SHOWN else ""
    whose = f"of {', '.join(hosts[:SHOWN])}{more}" if hosts else "that rules label so"
    selector = ",".join(f"{key}={value}" for key, value in sorted(service.selector.items()))
    numbers = [
        f"rules[{rule.number}]" for rule in config.rules if {key for key, _ in rule.labels} & service.selector.keys()
    ]
    mend = f"take that label out of {', '.join(numbers)}, or change" if numbers else "change"
    return warning(
        cluster(name),
        f"the Service {service.namespace}/{service.name} selects {selector}, and so the WorkloadEntries {whose}: "
        "it would send its traffic to them",
        f"{mend} the Service's selector",
    )


def _foreign(name: str, entry: Selecting, host: str) -> Finding:
    place, whose = f"host {host}", f"{cluster(name)} has the ServiceEntry {entry.namespace}/{entry.name} with this host"
    if entry.selector == {HOST_LABEL: host_label(host)}:
        return note(place, f"{whose}; it is not isthmus', and selects isthmus' WorkloadEntries: it is left as it is")
    return warning(
        place,
        f"{whose}; it is not isthmus', which leaves it alone, and whose endpoints it does not select",
        "delete it, and isthmus makes one of its own; or let its workloadSelector have "
        f"{HOST_LABEL}: {host_label(host)}",
    )


def reminder(config: Config) -> Finding:
    """Return how a client in a mesh finds the hosts, which no check can see."""
    return note(
        f"host *.{config.domain}",
        "how clients in a mesh resolve these names is not isthmus' doing, and cannot be seen from here",
        "in ambient, ztunnel answers; sidecars do with ISTIO_META_DNS_CAPTURE; without either only HTTP works, and "
        "only where the names resolve to something: see docs/clients.md",
    )
