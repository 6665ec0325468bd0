"""What of an object is ours, and what of it is to be left as it is. Pure."""

from collections.abc import Mapping
from sys import intern

from state import shared
from state.model import (
    AUTHOR,
    DIGEST,
    MANAGED_BY,
    OWNER_LABEL,
    PRODUCT,
    SERVICE_ENTRY,
    SOURCE,
    WORKLOAD_ENTRY,
    Held,
    Resource,
    ResourceKey,
    canonical,
    digest_of,
)

OUR_PREFIX = "isthmus.mesh/"


def is_managed(labels: Mapping[str, str]) -> bool:
    """Tell whether labels are those of an isthmus object, whoever its owner is."""
    return labels.get(MANAGED_BY) == PRODUCT


def labels_after(resource: Resource, held: Held) -> dict[str, str]:
    """Return the labels after an update, sorted: the foreign ones that are there, and ours."""
    own = set(held.own_labels)
    kept = {key: value for key, value in held.labels.items() if key not in own and not _is_our_key(key)}
    return dict(sorted((kept | dict(resource.labels)).items()))


def annotations_after(resource: Resource, held: Held) -> dict[str, str]:
    """Return the annotations after an update, sorted: the foreign ones that are there, and ours."""
    kept = {key: value for key, value in held.annotations.items() if not _is_our_key(key)}
    return dict(sorted((kept | dict(resource.annotations)).items()))


def claimed(held: Held, spec: object, owner: str) -> Resource:
    """Return an object as it is there, with another owner and without labels that may be somebody else's.

    Raises TypeError when its spec is none.
    """
    if not isinstance(spec, Mapping):
        raise TypeError(f"spec of {held.key} is {spec!r}")
    labels, annotations = dict(held.labels), dict(held.annotations)
    if held.key.kind == WORKLOAD_ENTRY:
        labels[OWNER_LABEL] = owner
        # By another digest the owner before knows that it is not its own any more. With a label that somebody
        # else has added, it is none that the heir would write: it writes once more.
        annotations[DIGEST] = content_digest(labels, annotations.get(SOURCE, ""), spec)
    else:
        annotations[AUTHOR] = owner
    return Resource(
        key=held.key,
        labels={name: text for name, text in labels.items() if _is_our_key(name)},
        annotations={name: text for name, text in annotations.items() if _is_our_key(name)},
        spec=dict(spec),
    )


def content_digest(labels: Mapping[str, str], source: str, spec: Mapping[str, object]) -> str:
    """Return the digest of all that is written of a WorkloadEntry, which it carries in an annotation."""
    return digest_of({"labels": labels, "source": source, "spec": spec})


def endpoint_of(kind: str, spec: object) -> tuple[str, int] | None:
    """Return the address and the one port of a WorkloadEntry's spec, None when it has no such."""
    if kind != WORKLOAD_ENTRY or not isinstance(spec, Mapping):
        return None
    address, ports = spec.get("address"), spec.get("ports")
    numbers = list(ports.values()) if isinstance(ports, Mapping) else []
    if isinstance(address, str) and len(numbers) == 1 and isinstance(numbers[0], int):
        return address, numbers[0]
    return None


def spec_of(kind: str, spec: object) -> str:
    """Return a ServiceEntry's spec as JSON, "" when it was not shown; of a WorkloadEntry's the digest is enough."""
    return canonical(spec) if kind == SERVICE_ENTRY and isinstance(spec, Mapping) else ""


def held_of(key: ResourceKey, shown: Mapping[str, object], own_labels: tuple[str, ...] = ()) -> Held:
    """Return what is held, from an object or its metadata alone; TypeError or ValueError when it is neither."""
    metadata = shown.get("metadata")
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata of {key} are {metadata!r}")
    generation = metadata.get("generation", 0)
    if not isinstance(generation, int):
        raise TypeError(f"generation of {key} is {generation!r}")
    return Held(
        key=key,
        uid=_string(key, metadata, "uid"),
        resource_version=_string(key, metadata, "resourceVersion"),
        generation=generation,
        labels=shared.mapping(_strings(key, metadata, "labels")),
        annotations={intern(name): text for name, text in _strings(key, metadata, "annotations").items()},
        spec_digest=digest_of(shown["spec"]) if "spec" in shown else "",
        own_labels=shared.words(own_labels),
        endpoint=endpoint_of(key.kind, shown.get("spec")),
        spec=spec_of(key.kind, shown.get("spec")),
    )


def _is_our_key(key: str) -> bool:
    return key == MANAGED_BY or key.startswith(OUR_PREFIX)


def _string(key: ResourceKey, metadata: Mapping[str, object], field: str) -> str:
    value = metadata.get(field)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{field} of {key} is {value!r}")
    return value


def _strings(key: ResourceKey, metadata: Mapping[str, object], field: str) -> dict[str, str]:
    value = metadata.get(field) or {}
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise ValueError(f"{field} of {key} are not text")
    return value
