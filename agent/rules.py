"""What the configuration says about one registration, and where it says so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import lru_cache
from re import compile as compiled
from typing import Literal, NamedTuple

from agent.naming import fill
from state.model import Absence, Instance

DEFAULT_HOST = "{service}.{domain}"
DEFAULT = "default"  # the source of a value that nobody chose
REMEMBERED = 100_000  # rulings; more distinct metadata than that is no estate but a leak

Pairs = tuple[tuple[str, str], ...]


class Choice(NamedTuple):
    """A value, and where it came from (``rules[0].port``, ``metadata protocol of orders-1``)."""

    value: str | int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which registrations a rule is for: globs, case-sensitive, all of which must match.

    ``tag`` matches any one of the tags; ``metadata`` pairs are (key, glob of its value).
    """

    registry: str = "*"
    service: str = "*"
    tag: str | None = None
    metadata: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the configuration; what is None it leaves to others.

    ``number`` is its place, from 0. ``host`` is a template with ``{service}`` and
    ``{domain}``. ``protocol`` is Istio's word in upper case.
    """

    number: int
    match: Match = Match()
    host: str | None = None
    namespace: str | None = None
    labels: Pairs = ()
    port: int | Literal["instance"] | None = None
    protocol: str | None = None
    clusters: tuple[str, ...] | None = None
    warning: Literal["include", "exclude"] | None = None
    skip: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What all rules together say about one registration.

    ``warning`` tells whether it carries traffic while a check warns. ``clusters``
    is None for all of them. ``skip`` is there only if it is left out.
    """

    host: Choice
    namespace: Choice | None = None
    port: Choice | None = None
    protocol: Choice | None = None
    labels: Pairs = ()
    clusters: tuple[str, ...] | None = None
    warning: bool = True
    skip: Choice | None = None


_Seen = tuple[str, str, tuple[str, ...], Pairs]  # what rules can see: registry, service, tags, metadata


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a configuration, in its order, and the domain of its hosts."""

    rules: tuple[Rule, ...] = ()
    domain: str = ""
    # Memories, no part of the value: most rules depend on registry and service alone.
    _near: dict[tuple[str, str], tuple[Rule, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _rulings: dict[_Seen, Ruling] = field(default_factory=dict, init=False, repr=False, compare=False)

    def ruling(self, registry: str, instance: Instance) -> Ruling:
        """Return what the rules say: later ones win field by field, labels merge, lists replace."""
        service = instance.key.service
        seen = (registry, service, instance.tags, instance.metadata)
        known = self._rulings.get(seen)
        if known is None:
            matching = [rule for rule in self._nearby(registry, service) if _looks_like(instance, rule.match)]
            known = _decide(matching, service, self.domain)
            if len(self._rulings) >= REMEMBERED:
                self._rulings.clear()
            self._rulings[seen] = known
        return known

    def _nearby(self, registry: str, service: str) -> tuple[Rule, ...]:
        """Return the rules that match as far as registry and service go."""
        known = self._near.get((registry, service))
        if known is None:
            known = tuple(
                rule
                for rule in self.rules
                if _like(registry, rule.match.registry) and _like(service, rule.match.service)
            )
            if len(self._near) >= REMEMBERED:
                self._near.clear()
            self._near[registry, service] = known
        return known


def carries(instance: Instance, ruling: Ruling) -> bool:
    """Tell whether a registration carries traffic."""
    return (
        instance.absent_because is Absence.NONE
        and bool(instance.address)
        and instance.weight > 0
        and (ruling.warning or not instance.warning)
        and ruling.skip is None
    )


def _like(text: str, glob: str) -> bool:
    return _pattern(glob)(text)


@lru_cache(maxsize=4096)
def _pattern(glob: str) -> Callable[[str], bool]:
    # As fnmatchcase, whose own memory of 256 globs would thrash with a hundred rules.
    match = compiled(translate(glob)).match
    return lambda text: match(text) is not None


def _looks_like(instance: Instance, match: Match) -> bool:
    if match.tag is not None and not any(_like(tag, match.tag) for tag in instance.tags):
        return False
    if not match.metadata:
        return True
    metadata = dict(instance.metadata)
    return all(key in metadata and _like(metadata[key], glob) for key, glob in match.metadata)


def _decide(rules: Sequence[Rule], service: str, domain: str) -> Ruling:
    template = _last(rules, "host") or Choice(DEFAULT_HOST, DEFAULT)
    labels: dict[str, str] = {}
    for rule in rules:
        labels.update(rule.labels)
    skip = _last(rules, "skip")
    warning = _last(rules, "warning")
    return Ruling(
        host=Choice(fill(str(template.value), service, domain), template.source),
        namespace=_last(rules, "namespace"),
        port=_last(rules, "port"),
        protocol=_last(rules, "protocol"),
        labels=tuple(sorted(labels.items())),
        clusters=next((rule.clusters for rule in reversed(rules) if rule.clusters is not None), None),
        warning=warning is None or warning.value == "include",
        skip=skip if skip is not None and skip.value else None,
    )


def _last(rules: Sequence[Rule], name: str) -> Choice | None:
    """Return the value of a field in the last rule that has one."""
    for rule in reversed(rules):
        value = getattr(rule, name)
        if value is not None:
            return Choice(value, f"rules[{rule.number}].{name}")
    return None
