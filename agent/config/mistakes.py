"""What pydantic found, in sentences: one for each mistake."""

from collections.abc import Iterable, Iterator, Mapping

from pydantic_core import ErrorDetails

from agent.config.fields import UnfitError, UnfitKeyError
from agent.config.model import CLUSTERS, KINDS, kind_of, part_at
from agent.config.part import meant, nearest
from agent.config.registries import REGISTRIES, type_of
from agent.config.source import SHOWN, Place, Problem, Source, is_secret, shown

_ENTERPRISE = "Consul Enterprise namespaces and partitions are not supported"
_REASONS: Mapping[Place, str] = {
    ("owner",): "is required: two agents under one name would delete each other's objects",
}
_SLIPS = ("url", "urls")  # keys that differ from one type of registry to the other by a slip
_KINDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def problems_of(errors: Iterable[ErrorDetails], source: Source) -> Iterator[Problem]:
    """Yield the field errors of a file, without those that follow from others, and what is odd in it."""
    unknown: set[Place] = set()
    for error in errors:
        place = _place(error)
        if error["type"] == "extra_forbidden":
            unknown.add(place)
        elif place in source.odd or (error["type"] == "missing" and _is_misspelt(place, source)):
            continue
        if _is_of_unknown_type(place, source):
            continue
        yield Problem(source.mark(place).line, place, _sentence(error, place, source))
    for place, sentence in source.odd.items():
        if sentence and not any(place[:end] in unknown for end in range(1, len(place) + 1)):
            yield Problem(source.mark(place).line, place, sentence)


def _place(error: ErrorDetails) -> Place:
    """Return where an error is, without the words that pydantic adds for kinds of clusters and for keys."""
    place = error["loc"]
    if isinstance(error.get("ctx", {}).get("error"), UnfitKeyError):
        return place[:-1]
    return (*place[:2], *place[3:]) if place[0] in ("clusters", "registries") else place


def _is_of_unknown_type(place: Place, source: Source) -> bool:
    """Tell whether a place is inside of a registry whose type says that it has other keys."""
    kind = source.at((*place[:2], "type"))
    return (
        place[0] == "registries"
        and place[2:] not in ((), ("type",))
        and isinstance(kind, str)
        and kind not in REGISTRIES
    )


def _is_misspelt(place: Place, source: Source) -> bool:
    """Tell whether a missing key stands there under a wrong name."""
    parent = source.at(place[:-1])
    return isinstance(parent, dict) and place[-1] in meant(parent, part_at(place[:-1], parent)).values()


def _sentence(error: ErrorDetails, place: Place, source: Source) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return _REASONS.get(place, "is required")
        case "extra_forbidden":
            return _unknown(place, source)
        case "value_error" if not isinstance(context["error"], UnfitError):
            return str(context["error"])
        case "value_error":
            rule = str(context["error"])
        case "literal_error":
            rule = f"must be {context['expected']}"
        case "too_short":
            return "must name at least one"
        case "string_type":
            rule = "must be text"
        case "bool_type":
            rule = "must be true or false"
        case "list_type":
            rule = "must be a list"
        case "dict_type" | "model_type" | "model_attributes_type":
            # A secret with a wrong name and indentation ends up here, so nothing is shown of it.
            return f"must be a mapping, not {_KINDS[type(source.at(place))]}"
        case _:
            return error["msg"]
    return f"{rule}{_instead(place, source)}{_advice(error['type'], source.at(place))}"


def _instead(place: Place, source: Source) -> str:
    """Return what stands there instead, the way it was written, except where it may be a secret."""
    value, word = source.at(place), source.mark(place).word
    if isinstance(value, dict | list):
        return f", not {_KINDS[type(value)]}"
    if any(isinstance(step, str) and (step.endswith("_file") or is_secret(step)) for step in place):
        return ""
    if isinstance(value, str):
        return f", not {shown(value)}"
    if isinstance(value, bool):
        return f", not {word}, which YAML reads as {str(value).lower()}"
    return f", not the number {word[:SHOWN]}"


def _advice(kind: str, value: object) -> str:
    wants_text = kind in ("string_type", "literal_error") and isinstance(value, bool | int | float)
    return ": put it in quotes" if wants_text else ""


def _unknown(place: Place, source: Source) -> str:
    """Say that a key is unknown, and what may have been meant; never what its value is."""
    key, parent = str(place[-1]), source.at(place[:-1])
    part = part_at(place[:-1], parent)
    if place[0] == "registries" and key in ("namespace", "partition"):
        return f"is refused: {_ENTERPRISE}"
    likely = nearest(key, part)
    if is_secret(key):
        name = f", and name that in {likely}" if likely.endswith("_file") else ""
        return f"is refused: a secret does not belong into the configuration; put it into a file{name}"
    if place[0] == "clusters":
        for kind in KINDS:
            if key in CLUSTERS[kind].model_fields:
                return f"belongs to a cluster with {kind}, not to one with {kind_of(parent)}"
    if place[0] == "registries" and likely not in _SLIPS:
        for kind, shape in REGISTRIES.items():
            if key in shape.model_fields:
                return f"belongs to a registry of type {kind}, not to one of type {type_of(parent)}"
    if likely:
        return f"is no known key; did you mean {likely}?"
    return f"is no known key; there are {', '.join(part.model_fields)}"
