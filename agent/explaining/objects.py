"""What became of one object in one cluster: there, to be written, failed, or somebody else's, and why."""

import json

from agent.authorship import Stated, Verdict, judge
from agent.explaining.sights import ASLEEP, STARTING, UNREADABLE, ClusterSight, Whereabouts
from agent.gate import Gate, Sayings, gate
from agent.plan import plan
from agent.words import span
from state.model import DIGEST, INHERITED, SERVICE_ENTRY, Held, Resource, ResourceKey


def desired(sight: ClusterSight, resource: Resource, rules: Stated, *, some: bool) -> Whereabouts:
    """Return what became of an object that a cluster should hold.

    ``rules`` are what rules state about the host's ServiceEntry, ``some`` that a WorkloadEntry of ours is there.
    """
    key = resource.key
    if sight.objects is None:
        return _remembered(sight, resource)
    if sight.state in (STARTING, UNREADABLE):
        return _unseen(sight, key)
    held = sight.objects.get(key)
    if key.kind == SERVICE_ENTRY:
        forsaken = sight.forsaken.get(key, 0.0) >= sight.grace > 0
        verdict = judge(resource, held, sight.owner, rules, forsaken=forsaken, some=some)
        resource = verdict.resource or resource
        if held is not None and held.owner != sight.owner and not verdict.taken:
            return _adopted(sight, held, verdict)
    elif held is not None and held.owner != sight.owner:
        whose = f"owner {held.owner}" if held.owner else "an unknown owner"
        why = f"{whose} has the same endpoint there, which is agreement: ours is created when that one goes"
        return _told(sight, key, "another owner's", why, right=True)
    if resource.kept:
        if held is not None:
            return _told(sight, key, "kept", "it stays as it is while its removal waits", right=True)
        return _told(sight, key, "not there", "nothing is created whose removal waits", right=True)
    taken = {key: f"it becomes ours, as {_author(held)} has left the host"} if _is_anothers(sight, held) else {}
    changes = plan([resource], [] if held is None else [held], sight.owner, taken)
    if not changes:
        return _told(sight, key, "there", _inherited(resource), right=True)
    doing = "to be created" if held is None else "to be updated"
    return _obstructed(sight, key, doing, changes[0].why)


def _inherited(resource: Resource) -> str:
    """Return which values of a ServiceEntry of ours no rule of ours states, so that they stay as they were."""
    try:
        fields = ", ".join(json.loads(resource.annotations.get(INHERITED, "{}")))
    except (ValueError, TypeError):
        return ""
    return f"as the author before wanted it: {fields}" if fields else ""


def _is_anothers(sight: ClusterSight, held: Held | None) -> bool:
    return held is not None and held.owner != sight.owner


def _author(held: Held | None) -> str:
    return held.owner if held is not None and held.owner else "an unknown author"


def _adopted(sight: ClusterSight, held: Held, verdict: Verdict) -> Whereabouts:
    """Return how it is with a ServiceEntry of another author, which is used as it is."""
    why = f"its author is {_author(held)}, who alone changes it"
    seconds = sight.forsaken.get(held.key)
    if seconds is not None:
        why += f"; that one has had no WorkloadEntry there for {span(seconds)}, and loses it after {span(sight.grace)}"
    if verdict.differs:
        why += f"; our rules say otherwise: {'; '.join(verdict.differs)}"
    elif verdict.unseen:
        why += "; what it says was not looked at yet"
    return _told(sight, held.key, "adopted", why, right=not verdict.differs)


def undesired(sight: ClusterSight, key: ResourceKey, sayings: Sayings) -> Whereabouts | None:
    """Return what becomes of an object that a cluster should not hold, None if it does not."""
    if sight.objects is None:
        return _forgotten(sight, key)
    if sight.state in (STARTING, UNREADABLE):
        return _unseen(sight, key) if key in sight.applied else None
    held = sight.objects.get(key)
    if held is None:
        return None
    if held.owner != sight.owner:
        return _told(sight, key, "another owner's", _whose(held), right=True)
    if key in sight.withheld:
        why = f"a registry still lists it, and only `isthmus accept {sight.name}` lets the new configuration delete it"
        return _told(sight, key, "withheld", why)
    if sight.policy == "upsert-only":
        return _told(sight, key, "stays", "policy upsert-only deletes nothing", right=True)
    if key.kind == SERVICE_ENTRY:
        return _lingering(sight, key, sayings)
    if gate(held, sayings) is Gate.SHUT:
        return _told(sight, key, "stays", "one of its registries was not read since the start, or its removal waits")
    return _obstructed(sight, key, "to be deleted", "no longer desired")


def absent(sight: ClusterSight, key: ResourceKey, why: str, state: str = "left out") -> Whereabouts:
    """Return that a cluster does not get an object, on purpose or since it cannot be written."""
    return _told(sight, key, state, why, right=state != "rejected")


def _told(sight: ClusterSight, key: ResourceKey, state: str, why: str, *, right: bool = False) -> Whereabouts:
    return Whereabouts(sight.name, str(key), state, why, right)


def _obstructed(sight: ClusterSight, key: ResourceKey, doing: str, why: str) -> Whereabouts:
    """Return what is to be done, and what keeps it from being done, if anything does."""
    if sight.halt:
        return _told(sight, key, doing, f"{why}; {sight.halt}")
    if failure := sight.failures.get(key):
        return _told(sight, key, "failed", f"{doing} ({why}), and left alone or tried again by itself: {failure}")
    if sight.error:
        return _told(
            sight, key, doing, f"{why}; cluster {sight.name} fails now, and is tried again by itself: {sight.error}"
        )
    return _told(sight, key, doing, f"{why}; this is under way")


def _whose(held: Held) -> str:
    if held.owner:
        return f"owner {held.owner} wrote it, and only that one changes it"
    return "it has the label of isthmus, but no owner: nobody changes it"


def _lingering(sight: ClusterSight, key: ResourceKey, sayings: Sayings) -> Whereabouts:
    since = sight.lingering.get(key)
    if not sayings.passed():
        return _told(sight, key, "stays", "a registry was not read completely since the start, and may need it")
    if since is None:
        return _told(sight, key, "stays", "WorkloadEntries with its selector are still there")
    if since < sight.grace:
        left = span(sight.grace - since)
        return _told(sight, key, "lingers", f"nobody needs it: it goes in {left}, unless somebody does by then")
    return _obstructed(sight, key, "to be deleted", "nobody has needed it for its time")


def _unseen(sight: ClusterSight, key: ResourceKey) -> Whereabouts:
    took = "; it had taken it before" if key in sight.applied else ""
    why = f"cluster {sight.name} {'cannot be read' if sight.error else 'is being read for the first time'}{took}"
    return _told(sight, key, "unknown", f"{why}: {sight.error}" if sight.error else why)


def _remembered(sight: ClusterSight, resource: Resource) -> Whereabouts:
    row = sight.applied.get(resource.key)
    if row is None:
        why = "nothing is created whose removal waits" if resource.kept else "the cluster has not taken it yet"
        return _told(sight, resource.key, "not there", _halted(sight, why), right=resource.kept)
    if resource.kept:
        return _told(sight, resource.key, "kept", "it stays as it is while its removal waits", right=True)
    if resource.key.kind == SERVICE_ENTRY:  # whose values another author may have left
        return _told(
            sight, resource.key, "there", "as far as is remembered, which does not tell its values", right=True
        )
    if row.digest == resource.annotations.get(DIGEST):
        return _told(sight, resource.key, "there", "as far as is remembered", right=True)
    return _told(sight, resource.key, "to be updated", _halted(sight, "what the cluster took last differs"))


def _forgotten(sight: ClusterSight, key: ResourceKey) -> Whereabouts | None:
    row = sight.applied.get(key)
    if row is None:
        return None
    if sight.policy == "upsert-only":
        return _told(sight, key, "stays", "policy upsert-only deletes nothing", right=True)
    if row.unneeded is not None and row.unneeded < sight.grace:
        return _told(sight, key, "lingers", f"nobody needed it: {span(sight.grace - row.unneeded)} were left to it")
    return _told(sight, key, "to be deleted", _halted(sight, "no longer desired"))


def _halted(sight: ClusterSight, why: str) -> str:
    what = sight.halt or ("no agent runs that would do it" if sight.state == ASLEEP else "")
    return f"{why}; {what}" if what else why
