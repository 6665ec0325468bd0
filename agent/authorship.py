"""Who may write a ServiceEntry that several owners share, and what of it.

Pure. One owner is its author, and alone writes it; whoever else needs the host
adopts it as it is. An author without WorkloadEntries on the host loses it, in
time, to an owner that has some. The heir writes only what its own rules state,
and keeps the rest as it was: two owners whose instances want different ports
would otherwise rewrite it in turn, whoever comes and goes.

The API server decides between two heirs, by the resourceVersion, and after that
each needs the whole time again: nobody can take a ServiceEntry twice within it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.merge import Host
from agent.rules import Choice
from agent.validity import export_problem, port_problem, protocol_problem
from state.model import HOST_LABEL, INHERITED, Held, Resource, canonical

NUMBER, PROTOCOL, EXPORT_TO = "number", "protocol", "exportTo"  # what owners can differ about
RULED = "rules["  # how the source of a value begins that a rule states

Spec = Mapping[str, object]
Values = dict[str, object]  # of some of the fields above; None for one that is not set


@dataclass(frozen=True, slots=True)
class Stated:
    """What our rules state about a ServiceEntry: where each such field is said."""

    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be done about a ServiceEntry that we need.

    ``resource`` is what it should be in our hands, None while it is in another's;
    ``taken`` says why it comes into ours, if it does. ``differs`` are values of an adopted
    one that our rules state otherwise. ``unseen`` asks for its spec, without which this is not known.
    """

    resource: Resource | None = None
    taken: str = ""
    differs: tuple[str, ...] = ()
    unseen: bool = False


def stated(host: Host) -> Stated:
    """Return what rules state about a host's ServiceEntries."""
    sources = {NUMBER: _ruled(host.port), PROTOCOL: _ruled(host.protocol)}
    if host.export_to is not None:
        sources[EXPORT_TO] = "a rule's export_to"
    return Stated({field: source for field, source in sources.items() if source})


def _ruled(choice: Choice | None) -> str:
    return choice.source if choice is not None and choice.source.startswith(RULED) else ""


def judge(resource: Resource, held: Held | None, owner: str, rules: Stated, *, forsaken: bool, some: bool) -> Verdict:
    """Decide what to do about a ServiceEntry that we need.

    ``forsaken`` tells that we have seen its author without WorkloadEntries there for
    the whole time, ``some`` that we have one there.
    """
    if held is None:
        return Verdict(resource=resource)
    if held.owner == owner:
        return Verdict(resource=_with(resource, _bequest(held), rules))
    takes = forsaken and some and not resource.kept
    spec = _spec_of(held)
    if spec is None:
        return Verdict(unseen=takes or bool(rules.sources))
    if not takes:
        return Verdict(differs=_differences(resource, held, spec, rules))
    taken = f"author {held.owner or 'unknown'} -> {owner}: the one before has no WorkloadEntry here any more"
    return Verdict(resource=_with(resource, _values(spec), rules), taken=taken)


def selector_of(held: Held) -> str | None:
    """Return the host's label that a ServiceEntry selects by, "" if it selects by none, None when that is not known."""
    spec = _spec_of(held)
    return None if spec is None else _selector(spec)


def _selector(spec: Spec) -> str:
    selector = spec.get("workloadSelector")
    labels = selector.get("labels") if isinstance(selector, Mapping) else None
    label = labels.get(HOST_LABEL) if isinstance(labels, Mapping) else None
    return label if isinstance(label, str) else ""


def _spec_of(held: Held) -> Spec | None:
    spec = json.loads(held.spec) if held.spec else None
    return spec if isinstance(spec, Mapping) else None


def _values(spec: Spec) -> Values:
    """Return what a spec says of all that owners can differ about, as far as it says it as we would."""
    ports = spec.get("ports")
    port = ports[0] if isinstance(ports, list) and len(ports) == 1 and isinstance(ports[0], Mapping) else None
    values: Values = {EXPORT_TO: spec.get(EXPORT_TO)}
    if port is not None:
        values |= {NUMBER: port.get("number"), PROTOCOL: port.get("protocol")}
    return {field: value for field, value in values.items() if _is_usable(field, value)}


def _is_usable(field: str, value: object) -> bool:
    if field == NUMBER:
        return isinstance(value, int) and not isinstance(value, bool) and not port_problem(value)
    if value is None:
        return True
    if field == PROTOCOL:
        return isinstance(value, str) and not protocol_problem(value)
    return (
        field == EXPORT_TO
        and isinstance(value, list)
        and bool(value)
        and all(isinstance(one, str) and not export_problem(one) for one in value)
    )


def _bequest(held: Held) -> Values:
    """Return what a ServiceEntry of ours has kept from the author before us; nothing of what is illegible."""
    try:
        found = json.loads(held.annotations.get(INHERITED, "{}"))
    except (ValueError, RecursionError):
        return {}
    found = found if isinstance(found, dict) else {}
    return {field: value for field, value in found.items() if _is_usable(field, value)}


def _with(resource: Resource, values: Values, rules: Stated) -> Resource:
    """Return a ServiceEntry with inherited values wherever no rule states another, and the note that it has them."""
    kept = {field: value for field, value in values.items() if field not in rules.sources}
    if not kept:
        return resource
    spec = dict(resource.spec)
    ports = spec.get("ports")
    port = dict(ports[0]) if isinstance(ports, list) and ports else {}
    for field, value in kept.items():
        part = spec if field == EXPORT_TO else port
        if value is None:
            part.pop(field, None)
        else:
            part[field] = value
    spec["ports"] = [port]
    return replace(resource, spec=spec, annotations={**resource.annotations, INHERITED: canonical(kept)})


def _differences(resource: Resource, held: Held, spec: Spec, rules: Stated) -> tuple[str, ...]:
    """Return the values of another's ServiceEntry that our rules state otherwise."""
    ours, theirs = _values(resource.spec), _values(spec)
    whose = f"{held.key.name}: the ServiceEntry is {held.owner or 'nobody'}'s"
    found = [
        f"{whose}: its {field} is {_said(theirs.get(field))}, not {_said(ours[field])} ({source})"
        for field, source in rules.sources.items()
        if field in ours and theirs.get(field) != ours[field]
    ]
    if (selector := _selector(spec)) != _selector(resource.spec):
        found.append(f"{whose}: it selects {selector or 'nothing of isthmus'}, not {_selector(resource.spec)}")
    return tuple(found)


def _said(value: object) -> str:
    return "none" if value is None else ", ".join(value) if isinstance(value, list) else str(value)
