"""What a cluster holds, in the few words that a story needs: told from its objects, compared, and printed."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from state.model import AUTHOR, HOST_LABEL, MANAGED_BY, OWNER_LABEL, PRODUCT, SERVICE_ENTRY, WORKLOAD_ENTRY

REVISION = "service.istio.io/canonical-revision"
TEAM = "team"  # the label that a rule of the demo adds


class Place(NamedTuple):
    """Where a host or an endpoint is; ``endpoint`` is empty for the host itself."""

    namespace: str
    host: str
    endpoint: str


class Fact(NamedTuple):
    """One host or endpoint with everything about it that matters here."""

    place: Place
    details: tuple[str, ...]

    @property
    def words(self) -> str:
        """Return what it is, without the name of its host."""
        return self.place.endpoint or f"host, {', '.join(self.details)}"


def host_fact(namespace: str, host: str, port: int, protocol: str) -> Fact:
    """Return the fact that a host is there."""
    return Fact(Place(namespace, host, ""), (f"port {port} {protocol}",))


def endpoint_fact(
    namespace: str, host: str, address: str, port: int, *, weight: int, version: str, locality: str, team: str
) -> Fact:
    """Return the fact that an endpoint is there; ``team`` is empty where no rule names one."""
    details = (f"weight {weight}", f"version {version}", locality, *((f"team {team}",) if team else ()))
    return Fact(Place(namespace, host, f"{address}:{port}"), details)


def facts_of(objects: Iterable[Mapping[str, Any]], owner: str) -> Iterator[Fact]:
    """Yield what those objects say that isthmus wrote under an owner."""
    for content in objects:
        metadata = content.get("metadata", {})
        labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
        if labels.get(MANAGED_BY) == PRODUCT and owner in (labels.get(OWNER_LABEL), annotations.get(AUTHOR)):
            yield fact_of(content)


def fact_of(content: Mapping[str, Any]) -> Fact:
    """Return what a ServiceEntry or WorkloadEntry says."""
    metadata, spec = content["metadata"], content["spec"]
    if content["kind"] == SERVICE_ENTRY:
        port = spec["ports"][0]
        return host_fact(metadata["namespace"], spec["hosts"][0], port["number"], port.get("protocol", ""))
    assert content["kind"] == WORKLOAD_ENTRY, f"isthmus writes no {content['kind']}"
    labels = metadata["labels"]
    return endpoint_fact(
        metadata["namespace"],
        labels[HOST_LABEL],
        spec["address"],
        spec["ports"]["main"],
        weight=spec.get("weight", 1),
        version=labels.get(REVISION, ""),
        locality=spec.get("locality", ""),
        team=labels.get(TEAM, ""),
    )


def differences(wanted: Iterable[Fact], found: Iterable[Fact]) -> list[str]:
    """Return a line for everything that is not as it should be."""
    should, does = Counter(wanted), Counter(found)
    lacks = [f"lacks {_line(fact)}" for fact in sorted((should - does).elements())]
    return lacks + [f"has {_line(fact)}" for fact in sorted((does - should).elements())]


def _line(fact: Fact) -> str:
    namespace, host, endpoint = fact.place
    return f"{namespace}/{host} {endpoint or 'itself'} ({', '.join(fact.details)})"
