"""What waits instead of being removed, why, since when, and how it ends.

Each row is one removal, or the withheld deletions of one cluster; JSON keys are
those of the answer at ``/v1/holds``.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from agent.belief import Belief
from agent.daemon import Agent, hold_name
from agent.guard import PROOFS
from agent.rules import port_of
from agent.standing import HELD, half
from agent.words import count, span
from state.limits import Limits
from state.model import Held, Reason, Standing, Waiting, digest_of

Row = dict[str, Any]


class Situation(NamedTuple):
    """What decides how a removal ends; ``now`` is monotonic, ``readable`` that the registry answers."""

    registry: str
    standing: Standing
    limits: Limits
    readable: bool
    now: float


def deletions_name(cluster: str) -> str:
    """Return the short name by which a cluster's withheld deletions can be accepted."""
    return digest_of([cluster, "deletions"])[:8]


def holds(agent: Agent) -> list[Row]:
    """Return everything that waits, in the order of the configuration."""
    return [*removals(agent), *withheld({name: lane.report().withheld for name, lane in agent.lanes.items()})]


def removals(agent: Agent) -> list[Row]:
    """Return every removal of a registration that waits."""
    rows = []
    with agent.view.lock:
        for name, belief in agent.view.beliefs.items():
            loop = agent.loops[name]
            situation = Situation(name, belief.standing, agent.config.limits, not loop.report().error, time.monotonic())
            rows += [_removal(belief, row, situation) for _, row in sorted(belief.waiting.items())]
    return rows


def _removal(belief: Belief, row: Waiting, situation: Situation) -> Row:
    key, name = row.key, belief.registry
    instance = belief.services.get(key.service, {}).get(key)
    ruling = belief.rules.ruling(name, instance) if instance else None
    return {
        "name": name,
        "hold": hold_name(name, key) if row.reason in HELD else "",
        "reason": str(row.reason),
        "service": key.service,
        "node": key.node,
        "id": key.id,
        "address": instance.address if instance else "",
        "port": port_of(instance, ruling) if instance and ruling else 0,
        "host": str(ruling.host.value) if ruling else "",
        "waited_seconds": round(max(0.0, situation.now - row.since), 3),
        "proofs": row.proofs,
        "ends": ending(row, situation),
    }


def withheld(objects: Mapping[str, Collection[Held]]) -> list[Row]:
    """Return a row for each cluster that withholds the deletion of some objects."""
    rows = []
    for cluster, some in objects.items():
        if some:
            names = sorted(str(held.key) for held in some)
            row = {"name": cluster, "hold": deletions_name(cluster), "reason": "deletions", "objects": names}
            rows.append({**row, "ends": _ending_of_deletions(cluster, len(names))})
    return rows


def _ending_of_deletions(cluster: str, objects: int) -> str:
    return (
        f"A registry still lists what {count(objects, 'object')} stand for, and another configuration or version would "
        f"delete them: only `isthmus accept {cluster}` does, or the former configuration keeps them."
    )


def accepts(row: Row) -> bool:
    """Tell whether a row can be accepted: what is looked at once more, or in grace, ends by itself."""
    return bool(row["hold"])


def shown(rows: Iterable[Row]) -> str:
    """Return a digest of what rows would let go: whoever agrees to that agrees to nothing that came since."""
    return digest_of(sorted([row["hold"], *row.get("objects", ())] for row in rows))


def ending(row: Waiting, situation: Situation) -> str:
    """Return in one sentence how a removal that waits ends."""
    if row.reason is Reason.GRACE:
        left = situation.limits.empty_grace - (situation.now - row.since)
        until = f"in {span(left)}" if left > 0 else "now"
        return f"It is the last of its host, and goes {until}; at once when the host has another endpoint."
    sentence = {Reason.LOOK: _looked, Reason.HOLD: _held, Reason.PANIC: _panicked}[row.reason](row, situation)
    if situation.readable:
        return sentence
    return f"Nothing is concluded while {situation.registry} cannot be read. After that: {_lower(sentence)}"


def _looked(row: Waiting, situation: Situation) -> str:  # noqa: ARG001 - as the others
    return "The next complete pass judges it, together with all other removals; one that shows it again ends it."


def _held(row: Waiting, situation: Situation) -> str:
    standing, limits = situation.standing, situation.limits
    left, baseline = standing.left.present, standing.baseline.present
    if not half(baseline, left):
        return (
            f"Only `isthmus accept {situation.registry}` removes it, since fewer than half of {baseline} instances "
            f"would be left ({left}); a reading that shows it again ends it."
        )
    missing = max(0, PROOFS - row.proofs)
    if missing:
        apart = f", {span(limits.release_spacing)} apart" if missing > 1 else ""
        sentence = f"It goes when {count(missing, 'more pass', 'more passes')} found it missing{apart}"
    else:
        sentence = "It goes with the next pass that finds it missing"
    if standing.epoch_began is not None:
        young = limits.epoch - (situation.now - standing.epoch_began)
        if young > 0:
            sentence += f", and not within {span(young)}, as the registry's data began anew"
    return f"{sentence}; a reading that shows it again ends it."


def _panicked(row: Waiting, situation: Situation) -> str:  # noqa: ARG001 - as the others
    left, baseline = situation.standing.left.in_service, situation.standing.baseline.in_service
    return (
        f"It goes as soon as half of {baseline} instances would be left in service without all that are held "
        f"(now {left}), or by `isthmus accept {situation.registry}`; a healthy reading ends it."
    )


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]
