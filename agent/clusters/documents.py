"""The objects in one YAML file: parsed, changed and written with the same bytes each time. Pure.

Whatever is not ours keeps its text to the letter, comments included.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import yaml

from agent.clusters.objects import annotations_after, endpoint_of, is_managed, labels_after, spec_of
from agent.naming import host_label
from state.model import HOST_LABEL, SERVICE_ENTRY, WORKLOAD_ENTRY, Held, Resource, ResourceKey, digest_of

try:
    from yaml import CSafeDumper as SafeDumper
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML was built without libyaml, which is some ten times faster
    from yaml import SafeDumper, SafeLoader  # type: ignore[assignment]

GROUP = "networking.istio.io/"
KINDS = (SERVICE_ENTRY, WORKLOAD_ENTRY)

_SEPARATOR = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)  # inside a block of text, too, it begins a new document
_STRING = "tag:yaml.org,2002:str"
# Without quotes, Go's YAML, which reads these files, takes 12e4567 for a number and y for a truth value.
_PLAIN = re.compile(r"[A-Za-z][-A-Za-z0-9_./]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


class DocumentsError(ValueError):
    """A text that cannot be taken apart into objects."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file; ``key`` and ``held`` are None when it is no object of a kind that we write."""

    text: str
    key: ResourceKey | None = None
    content: Mapping[str, object] | None = None
    held: Held | None = None

    @property
    def is_ours(self) -> bool:
        """Tell whether it is an isthmus object, whoever its owner is."""
        return self.held is not None and is_managed(self.held.labels)


def stem_of(key: ResourceKey, labels: Mapping[str, str]) -> str:
    """Return the name, without ``.yaml``, of the file that holds an object: its host's label."""
    return host_label(key.name) if key.kind == SERVICE_ENTRY else labels.get(HOST_LABEL, "")


def parse(text: str, namespace: str) -> tuple[Document, ...]:
    """Return the documents of a file in a namespace's folder; DocumentsError when one is no YAML."""
    documents: list[Document] = []
    keys: set[ResourceKey] = set()
    line = 1
    for part in _SEPARATOR.split(text):
        document = _document(part, namespace, line)
        line += part.count("\n")
        if document is None:
            continue
        if document.key in keys:
            raise DocumentsError(f"it holds {document.key} twice")
        if document.key is not None:
            keys.add(document.key)
        documents.append(document)
    return tuple(documents)


def render(documents: Iterable[Document]) -> str:
    """Return a file: the ServiceEntry, its WorkloadEntries by name, then what is not ours, as it stood."""
    ours: list[Document] = []
    others: list[Document] = []
    for document in documents:
        (ours if document.is_ours else others).append(document)
    ours.sort(key=lambda document: document.key or ("",))
    return "---\n".join(document.text for document in ours + others)


def document_of(resource: Resource, before: Document | None = None) -> Document:
    """Return the document of a resource; what of ``before`` is foreign is kept, its spec is not."""
    old = dict(before.content or {}) if before else {}
    metadata = old.get("metadata")
    labels, annotations = dict(resource.labels), dict(resource.annotations)
    if before is not None and before.held is not None:
        labels, annotations = labels_after(resource, before.held), annotations_after(resource, before.held)
    manifest = resource.manifest()
    own = {
        "name": resource.key.name,
        "namespace": resource.key.namespace,
        "labels": _sorted(labels),
        "annotations": _sorted(annotations),
    }
    foreign = metadata if isinstance(metadata, dict) else {}
    content = {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": own | {key: value for key, value in foreign.items() if key not in own},
        "spec": _sorted(resource.spec),
    }
    content |= {key: value for key, value in old.items() if key not in content}
    text = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, default_flow_style=False, allow_unicode=True, width=1_000_000
    )
    held = _held(resource.key, content, tuple(resource.labels))
    return Document(text, resource.key, content, held)


def _document(part: str, namespace: str, line: int) -> Document | None:
    """Return what one part of a file is, None for nothing at all."""
    text = part.removeprefix("\r").removeprefix("\n")
    if not text.strip():
        return None
    if not text.endswith("\n"):
        text += "\n"
    try:
        content = yaml.load(part, Loader=_Loader)
        key = _key(content, namespace)
        held = _held(key, content, ()) if key is not None else None
    except yaml.MarkedYAMLError as error:
        where = line + (error.problem_mark.line if error.problem_mark else 0)
        raise DocumentsError(f"line {where}: {error.problem or error.context}") from error
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        raise DocumentsError(f"the document at line {line}: {error}") from error
    return Document(text, key, content if key is not None else None, held)


def _key(content: object, namespace: str) -> ResourceKey | None:
    """Return the key of an object of a kind that we write, in the namespace of its folder."""
    if not isinstance(content, dict) or content.get("kind") not in KINDS:
        return None
    if not str(content.get("apiVersion", "")).startswith(GROUP):
        return None
    metadata = content.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("namespace", namespace) != namespace:
        return None
    name = metadata.get("name")
    return ResourceKey(content["kind"], namespace, name) if isinstance(name, str) else None


def _held(key: ResourceKey, content: Mapping[str, object], own_labels: tuple[str, ...]) -> Held:
    """Return what a file holds; a changed object has another version, a changed spec another generation."""
    metadata = content.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    spec_digest = digest_of(content.get("spec"))
    return Held(
        key=key,
        uid=str(key),
        resource_version=digest_of(content),
        generation=int(spec_digest[:12], 16),
        labels=_strings(metadata.get("labels")),
        annotations=_strings(metadata.get("annotations")),
        spec_digest=spec_digest,
        own_labels=own_labels,
        endpoint=endpoint_of(key.kind, content.get("spec")),
        spec=spec_of(key.kind, content.get("spec")),
    )


def _strings(value: object) -> dict[str, str]:
    """Leave out what is no text: where it is ours it is missing then, and is written again."""
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(key, str) and isinstance(text, str)}


def _sorted(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(one) for one in value]
    return value


class _Loader(SafeLoader):
    """Reads a date as the text that it is, since JSON has no dates."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class above
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in SafeLoader.yaml_implicit_resolvers.items()
    }


class _Dumper(SafeDumper):
    """Writes text so that every reader takes it for text, and each value where it is used."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the name is PyYAML's
        """Write a value again rather than refer to it."""
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(text) and text.lower() not in _WORDS
    return dumper.represent_scalar(_STRING, text, style=None if plain else "'")


_Dumper.add_representer(str, _represent_text)
