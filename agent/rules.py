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

    ``service`` matches the name as it is registered or in lower case: Eureka keeps
    every name in upper case, and either is one service. ``tag`` matches any one of
    the tags; ``metadata`` pairs are (key, glob of its value).
    """

    registry: str = "*"
    service: str = "*"
    tag: str | None = None
    metadata: Pairs = ()


class Identity(NamedTuple):
    """As whom endpoints answer: a service account, and Istio's word for ``security.istio.io/tlsMode``."""

    service_account: str
    tls: Literal["istio", "disabled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the configuration; what is None it leaves to others.

    ``number`` is its place, from 0. ``host`` and ``aliases`` are templates with
    ``{service}`` and ``{domain}``. ``protocol`` is Istio's word in upper case.
    """

    number: int
    match: Match = Match()
    host: str | None = None
    aliases: tuple[str, ...] | None = None
    namespace: str | None = None
    labels: Pairs = ()
    port: int | Literal["instance"] | None = None
    protocol: str | None = None
    clusters: tuple[str, ...] | None = None
    secure: bool | None = None
    export_to: tuple[str, ...] | None = None
    identity: Identity | None = None
    warning: Literal["include", "exclude"] | None = None
    skip: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What all rules together say about one registration.

    ``aliases`` are further hosts; ``export_to`` are namespaces, None when nobody
    says. ``secure`` tells whether to use the secure port of an instance with both,
    ``warning`` whether it carries traffic while a check warns. ``clusters`` is None
    for all of them. ``skip`` is there only if it is left out. ``sources`` are the
    places of all that rules say, by field (a label's is ``labels.KEY``), sorted.
    """

    host: Choice
    aliases: tuple[str, ...] = ()
    namespace: Choice | None = None
    port: Choice | None = None
    protocol: Choice | None = None
    labels: Pairs = ()
    clusters: tuple[str, ...] | None = None
    secure: bool = False
    export_to: tuple[str, ...] | None = None
    identity: Identity | None = None
    warning: bool = True
    skip: Choice | None = None
    sources: Pairs = ()


# What a later rule replaces; labels merge.
_FIELDS = (
    *("host", "aliases", "namespace", "port", "protocol", "clusters", "secure"),
    *("export_to", "identity", "warning", "skip"),
)
_Seen = tuple[str, str, tuple[str, ...], Pairs]  # what rules can see: registry, service, tags, metadata


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a configuration, in its order, and the domain of its hosts."""

    rules: tuple[Rule, ...] = ()
    domain: str = ""
    # Memories, no part of the value: most rules depend on registry and service alone.
    _near: dict[tuple[str, str], tuple[Rule, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _rulings: dict[_Seen, Ruling] = field(default_factory=dict, init=False, repr=False, compare=False)
    _distinct: dict[Ruling, Ruling] = field(default_factory=dict, init=False, repr=False, compare=False)

    def ruling(self, registry: str, instance: Instance) -> Ruling:
        """Return what the rules say: later ones win field by field, labels merge, lists replace."""
        service = instance.key.service
        seen = (registry, service, instance.tags, instance.metadata)
        known = self._rulings.get(seen)
        if known is None:
            matching = self.matching(registry, instance)
            known = _decide(matching, service, self.domain)
            if len(self._rulings) >= REMEMBERED:
                self._rulings.clear()
                self._distinct.clear()
            known = self._distinct.setdefault(known, known)  # metadata differ far more often than what rules make of it
            self._rulings[seen] = known
        return known

    def matching(self, registry: str, instance: Instance) -> tuple[Rule, ...]:
        """Return the rules that are for a registration, in the order of the configuration."""
        return tuple(r for r in self._nearby(registry, instance.key.service) if _looks_like(instance, r.match))

    def _nearby(self, registry: str, service: str) -> tuple[Rule, ...]:
        """Return the rules that match as far as registry and service go."""
        known = self._near.get((registry, service))
        if known is None:
            known = tuple(
                rule
                for rule in self.rules
                if _like(registry, rule.match.registry)
                and (_like(service, rule.match.service) or _like(service.lower(), rule.match.service))
            )
            if len(self._near) >= REMEMBERED:
                self._near.clear()
            self._near[registry, service] = known
        return known


def port_of(instance: Instance, ruling: Ruling) -> int:
    """Return the port at which a registration is an endpoint."""
    return instance.secure_port if takes_secure(instance, ruling) else instance.port


def takes_secure(instance: Instance, ruling: Ruling) -> bool:
    """Tell whether a rule has chosen the other one of a registration's two ports."""
    return ruling.secure and instance.secure_port > 0


def proven_of(instance: Instance, ruling: Ruling) -> str:
    """Return the protocol that the registry proves of the endpoint's port, or ""."""
    return instance.proven_secure if takes_secure(instance, ruling) else instance.proven


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
    last = {name: rule for rule in rules for name in _FIELDS if getattr(rule, name) is not None}
    labels = {key: (value, rule) for rule in rules for key, value in rule.labels}

    def choice(name: str) -> Choice | None:
        return Choice(getattr(last[name], name), _source(last[name], name)) if name in last else None

    template = choice("host") or Choice(DEFAULT_HOST, DEFAULT)
    aliases = last["aliases"].aliases if "aliases" in last else None
    sources = {name: _source(rule, name) for name, rule in last.items()}
    sources.update((f"labels.{key}", _source(rule, "labels")) for key, (_, rule) in labels.items())
    return Ruling(
        host=Choice(fill(str(template.value), service, domain), template.source),
        aliases=tuple(sorted({fill(alias, service, domain) for alias in aliases or ()})),
        namespace=choice("namespace"),
        port=choice("port"),
        protocol=choice("protocol"),
        labels=tuple(sorted((key, value) for key, (value, _) in labels.items())),
        clusters=last["clusters"].clusters if "clusters" in last else None,
        secure="secure" in last and bool(last["secure"].secure),
        export_to=last["export_to"].export_to if "export_to" in last else None,
        identity=last["identity"].identity if "identity" in last else None,
        warning="warning" not in last or last["warning"].warning == "include",
        skip=choice("skip") if "skip" in last and last["skip"].skip else None,
        sources=tuple(sorted(sources.items())),
    )


def _source(rule: Rule, name: str) -> str:
    return f"rules[{rule.number}].{name}"
