"""The second pass: what only two places of the file together can be wrong about.

It reads the content as it was written, so that mistakes of the first pass hide
none here, and leaves alone whatever the first pass refused.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from agent.config.model import KINDS, UNCLEAR, MatchPart, ReceiverPart, RulePart, kind_of
from agent.config.part import meant
from agent.config.registries import EVERYTHING, ConsulPart, EurekaPart, type_of
from agent.config.source import Place, Problem, Source, dotted, shown

_Mistake = tuple[Place, str]


def mistakes(source: Source) -> Iterator[Problem]:
    """Yield mistaken cross-references."""
    for place, sentence in _mistakes(source):
        yield Problem(source.mark(place).line, place, sentence)


def _mistakes(source: Source) -> Iterator[_Mistake]:
    registries = _mapping(source.content.get("registries"))
    clusters = _mapping(source.content.get("clusters"))
    for name in clusters:
        if name in registries:
            line = source.mark(("registries", name)).line
            yield ("clusters", name), f"is also the name of a registry in line {line}: names are unique over both"
    for name, registry in registries.items():
        if isinstance(registry, dict):
            of_its_type = _consul if type_of(registry) == "consul" else _eureka
            yield from of_its_type(("registries", name), registry)
    yield from _clusters(clusters, source)
    if isinstance(receiver := source.content.get("receiver"), dict):
        yield from _receiver(receiver)
    rules = source.content.get("rules")
    for number, rule in enumerate(rules if isinstance(rules, list) else []):
        if isinstance(rule, dict):
            yield from _rule(("rules", number), rule, clusters)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _pairs(place: Place, mapping: Mapping[str, object], keys: set[str], *pairs: tuple[str, str]) -> Iterator[_Mistake]:
    for one, other in pairs:
        for given, missing in ((one, other), (other, one)):
            if given in mapping and missing not in keys:
                yield (*place, given), f"needs {missing} beside it"


def _eureka(place: Place, registry: Mapping[str, object]) -> Iterator[_Mistake]:
    keys = {*registry, *meant(registry, EurekaPart).values()}
    yield from _pairs(place, registry, keys, ("cert_file", "key_file"), ("username", "password_file"))
    urls = registry.get("urls")
    seen: list[object] = []
    for number, url in enumerate(urls if isinstance(urls, list) else []):
        if isinstance(url, str) and url in seen:
            yield (*place, "urls", number), f"is there twice: {shown(url)}"
        seen.append(url)


def _consul(place: Place, registry: Mapping[str, object]) -> Iterator[_Mistake]:
    misspelt = meant(registry, ConsulPart).values()
    keys = {*registry, *misspelt}
    yield from _pairs(place, registry, keys, ("cert_file", "key_file"))
    services = registry.get("services", [EVERYTHING])
    if "services" in misspelt or not isinstance(services, list):
        return
    globs = [glob for glob in services if isinstance(glob, str)]
    if not globs or len(globs) < len(services):
        return
    if "probe" not in keys and not any(set(glob) == {EVERYTHING} for glob in globs):
        sentence = "is required where services is not everything: a service in scope that must always be readable"
        yield (*place, "probe"), sentence
    probe = registry.get("probe")
    if isinstance(probe, str) and probe and not any(fnmatchcase(probe, glob) for glob in globs):
        yield (*place, "probe"), f"{shown(probe)} is not in scope: services are {', '.join(map(shown, globs))}"


def _receiver(receiver: Mapping[str, object]) -> Iterator[_Mistake]:
    keys = {*receiver, *meant(receiver, ReceiverPart).values()}
    if not keys & {"socket", "http"}:
        yield ("receiver",), "needs socket, http, or both"
    if "http" in receiver and "token_file" not in keys:
        yield ("receiver", "http"), "needs token_file beside it: whoever can connect could call"
    if "token_file" in receiver and "http" not in keys:
        yield ("receiver", "token_file"), "is for http, which is not given: who may use the socket, its permissions say"


def _clusters(clusters: Mapping[str, object], source: Source) -> Iterator[_Mistake]:
    seen: dict[tuple[object, ...], str] = {}
    for name, cluster in clusters.items():
        if not isinstance(cluster, dict):
            continue
        place = ("clusters", name)
        if kind_of(cluster) == UNCLEAR:
            given = [kind for kind in KINDS if kind in cluster]
            found = f"it has {' and '.join(given)}" if given else "it has none"
            yield place, f"must have exactly one of kubeconfig, server and directory: {found}"
            continue
        where = (cluster.get(kind_of(cluster)), cluster.get("context", ""), cluster.get("namespace"))
        if all(isinstance(part, str) for part in where) and seen.setdefault(where, name) != name:
            line = source.mark(("clusters", seen[where])).line
            yield (
                place,
                f"is the same place as {shown(seen[where])} in line {line}: each would delete the other's objects",
            )


def _rule(place: Place, rule: Mapping[str, object], clusters: Mapping[str, object]) -> Iterator[_Mistake]:
    if all(key == "match" or (key == "labels" and value == {}) for key, value in rule.items()):
        actions = ", ".join(key for key in RulePart.model_fields if key != "match")
        yield place, f"does nothing: it has none of {actions}"
    if "identity" in rule and "match" not in meant(rule, RulePart).values() and not _names_services(rule.get("match")):
        sentence = "needs match.service beside it: who may register anything could claim the identity else"
        yield (*place, "identity"), sentence
    names = rule.get("clusters")
    for number, name in enumerate(names if isinstance(names, list) else []):
        if isinstance(name, str) and clusters and name not in clusters:
            known = ", ".join(dotted((cluster,)) for cluster in clusters)
            yield (*place, "clusters", number), f"no cluster is named {shown(name)}; there are {known}"


def _names_services(match: object) -> bool:
    """Tell whether a rule is for named services; one that cannot be told is left to the first pass."""
    found = _mapping(match)
    service = found.get("service", EVERYTHING)
    misspelt = "service" in meant(found, MatchPart).values()
    return misspelt or not isinstance(service, str) or bool(service.strip("*?"))
