"""What each registry says of an endpoint, whether it is listened to, and why not."""

from collections.abc import Container, Mapping, Sequence

from agent.explaining.sights import ASLEEP, STARTING, RegistrySight, Voice
from agent.merge import Registration, counting
from agent.rules import Ruling
from agent.words import span
from state.model import Absence, Instance, InstanceKey, Reason, Waiting

WORDS = {
    Absence.CRITICAL: "a check of it is critical",
    Absence.MAINTENANCE: "it is in maintenance",
    Absence.UNKNOWN: "its status is UNKNOWN, or a word that isthmus does not know",
}
WAITS = {
    Reason.LOOK: "waits for a second look",
    Reason.HOLD: "is held",
    Reason.PANIC: "is held, as too few would be left in service",
    Reason.GRACE: "waits for the end of its grace",
}


def name_of(registry: str, key: InstanceKey) -> str:
    """Return what a person calls a registration, such as ``consul-dc1/orders/node-1/orders-1``."""
    return "/".join(part for part in (registry, *key) if part)


def against(instance: Instance, ruling: Ruling) -> str:
    """Return why a registration carries no traffic, "" if it does."""
    if ruling.skip is not None:
        return f"{ruling.skip.source} leaves it out"
    if why := ailing(instance):
        return why
    if instance.warning and not ruling.warning:
        return f"a check of it warns, and {dict(ruling.sources).get('warning', 'a rule')} leaves out what warns"
    return ""


def ailing(instance: Instance) -> str:
    """Return what its registry says against a registration, "" if nothing."""
    absence = instance.absent_because
    if absence is Absence.REJECTED or not instance.address:
        return f"it was rejected: {instance.rejected or 'it has no address'}"
    if absence is Absence.NODE_CRITICAL:
        return f"its node {instance.key.node} is critical"
    if absence is not Absence.NONE:
        return WORDS.get(absence, f"its status is {absence}")
    return "its weight is 0" if instance.weight <= 0 else ""


def said(row: Waiting) -> str:
    """Return what a registry says of a registration whose removal waits, as the end of a sentence."""
    if row.word is None:
        return "no longer lists it"
    if row.word.absent_because is Absence.NODE_CRITICAL:
        return f"says that its node {row.key.node} is critical"
    if row.word.absent_because is not Absence.NONE:
        return f"says {row.word.absent_because}"
    return "says that it carries no traffic any more"


def voices(
    group: Sequence[Registration], sights: Mapping[str, RegistrySight], ended: Container[tuple[str, InstanceKey]] = ()
) -> tuple[Voice, ...]:
    """Return what each registration of one endpoint says, in the order of the registries.

    ``ended`` are those that wait for grace although their host has another endpoint.
    """
    listed = [one for one in group if one.ruling.skip is None and (one.registry, one.instance.key) not in ended]
    heard = {(one.registry, one.instance.key) for one in counting(listed)} if listed else set()
    return tuple(_voice(one, sights[one.registry], (one.registry, one.instance.key) in heard, listed) for one in group)


def _voice(one: Registration, sight: RegistrySight, counts: bool, listed: Sequence[Registration]) -> Voice:
    key, row = one.instance.key, sight.waiting.get(one.instance.key)
    waits = "" if row is None else f"{sight.name} {said(row)}; its removal {WAITS[row.reason]}"
    return Voice(
        registry=one.registry,
        service=key.service,
        node=key.node,
        id=key.id,
        against=against(one.instance, one.ruling),
        counts=counts,
        overruled="" if counts or one.ruling.skip is not None else _overruled(one, listed),
        waits=waits,
        ends=sight.ends.get(key, ""),
        notes=_notes(one, sight),
    )


def _overruled(one: Registration, listed: Sequence[Registration]) -> str:
    """Return why a registration's word does not count."""
    if one not in listed:
        return "its host has another endpoint, so its grace is over"
    others = [other for other in listed if other is not one]
    if one.instance.absent_because is Absence.NODE_CRITICAL and any(
        other.instance.absent_because is not Absence.NODE_CRITICAL for other in others
    ):
        return "its node is critical, which says nothing against another registration of the endpoint"
    later = next((other for other in counting(others) if other.registry == one.registry), None)
    if later is None:
        return "another registration of the endpoint counts"
    if one.waits is not None and later.waits is None:
        return f"its removal waits, and {later.instance.key.id} has the endpoint now"
    return f"{later.instance.key.id} was registered later at the same endpoint"


def _notes(one: Registration, sight: RegistrySight) -> tuple[str, ...]:
    """Return what else there is to know of a registration."""
    instance, notes = one.instance, []
    if instance.rejected and instance.address and instance.absent_because is not Absence.REJECTED:
        notes.append(f"its last update was rejected, so it stays as it was: {instance.rejected}")
    notes += [f"ignored: {dropped}" for dropped in instance.dropped]
    if instance.warning and one.ruling.warning:
        notes.append("a check of it warns, which takes it out of service only where a rule says so")
    if instance.restored:
        notes.append("no registry has listed it since the state file was lost: it is known from a cluster's objects")
    if old := stale(sight, instance.key.service):
        notes.append(f"this is the last word of {sight.name}: {old}")
    return tuple(notes)


def stale(sight: RegistrySight, service: str) -> str:
    """Return why what is known of a service may be old, "" if it is not."""
    if why := sight.unreadable.get(service):
        return f"it cannot read {service} now: {why}"
    if sight.error:
        since = "" if sight.failing is None else f" for {span(sight.failing)}"
        return f"it cannot be read{since}: {sight.error}"
    if sight.state == STARTING:
        return "it was not read completely since the start"
    return "no agent runs" if sight.state == ASLEEP else ""
