"""What a tired operator reads first: one sentence for each endpoint and each host."""

from collections.abc import Collection, Mapping, Sequence

from agent.explaining.sights import EndpointAnswer, RegistrySight, Voice, Whereabouts
from agent.explaining.voices import name_of, stale
from agent.words import count
from state.model import InstanceKey

IN_SERVICE = "in service"
KEPT = "kept"
ABSENT = "absent"
SKIPPED = "left out"
UNLISTED = "unlisted"
NOWHERE = ("not there", "left out")  # states of what a cluster does not hold, and should not


def verdict_of_endpoint(
    name: str,
    state: str,
    voices: Sequence[Voice],
    rows: Sequence[Whereabouts],
    registries: Mapping[str, RegistrySight],
) -> str:
    """Return in one sentence why an endpoint is in service, or is not."""
    if state == UNLISTED:
        return f"No registry lists {name}{_holding(rows, ', but ')}."
    if state == SKIPPED:
        return f"{name} is left out on purpose: {voices[0].against} ({_by(voices[0])}){_holding(rows)}."
    counting = [voice for voice in voices if voice.counts] or list(voices)
    if state == ABSENT:
        return f"{name} is not in service: {_against(counting)}{_old(counting, registries)}{_holding(rows)}."
    if state == KEPT:
        waiting = next((voice for voice in counting if voice.waits), counting[0])
        ends = f" {waiting.ends}" if waiting.ends else ""
        return f"{name} is kept in service, as {waiting.waits}{_reached(rows)}.{ends}"
    return f"{name} is in service{_old(counting, registries)}{_reached(rows)}."


def _against(voices: Sequence[Voice]) -> str:
    """Return the word that is against an endpoint, and what it outweighs."""
    first = next((voice for voice in voices if voice.against), None)
    if first is None:  # nobody who counts
        return voices[0].overruled or "nothing says why"
    good = [voice.registry for voice in voices if not voice.against]
    outweighs = f", which outweighs {_list(good)}" if good else ""
    if first.against.startswith(("it was rejected", "rules[")):  # our own word
        return f"{first.against} ({first.registry}/{_by(first)}){outweighs}"
    return f"{first.against}, says {first.registry} of {_by(first)}{outweighs}"


def _by(voice: Voice) -> str:
    return name_of("", InstanceKey(voice.service, voice.node, voice.id))


def _old(voices: Sequence[Voice], registries: Mapping[str, RegistrySight]) -> str:
    """Return which of the registries that are listened to can only be remembered."""
    old = {voice.registry: stale(registries[voice.registry], voice.service) for voice in voices}
    told = [f"{registry}: {why}" for registry, why in old.items() if why]
    return f" by the last word of {told[0]}" if told else ""


def _reached(rows: Sequence[Whereabouts]) -> str:
    """Return which clusters hold what they should, and what ails the first that does not."""
    right = [row.cluster for row in rows if row.right and row.state not in NOWHERE]
    wrong = [row for row in rows if not row.right]
    found = f", and {_list(right)} {'have' if len(right) > 1 else 'has'} it" if right else ""
    if not (right or wrong):
        return ", but no cluster is to have it" + (f": {rows[0].why}" if rows and rows[0].why else "")
    return found + _wrong(wrong)


def _wrong(wrong: Sequence[Whereabouts]) -> str:
    if not wrong:
        return ""
    first = wrong[0]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return f", but in {first.cluster} it is {first.state}{': ' if first.why else ''}{first.why}{more}"


def _holding(rows: Sequence[Whereabouts], joint: str = "; ") -> str:
    """Return which clusters hold what they should not have, and why still."""
    there = [row for row in rows if row.state not in NOWHERE]
    if not there:
        return ""
    told = "; ".join(f"{row.cluster} still holds it ({row.state}{': ' if row.why else ''}{row.why})" for row in there)
    return f"{joint}{told}"


def verdict_of_host(
    host: str, endpoints: Sequence[EndpointAnswer], rows: Sequence[Whereabouts], stale_by: Collection[str]
) -> str:
    """Return in one sentence how a host is, over all its endpoints and all clusters."""
    listed = [one for one in endpoints if one.state in (IN_SERVICE, KEPT, ABSENT)]
    serving = [one for one in listed if one.state != ABSENT]
    if not listed:
        return _verdict_without(host, endpoints, rows)
    if not serving:
        why = listed[0].verdict.partition(" is not in service: ")[2].rstrip(".")
        others = f", and {len(listed) - 1} more" if len(listed) > 1 else ""
        told = f"{host} has no endpoint in service, so callers get 503: {listed[0].endpoint}: {why}{others}"
    else:
        told = f"{host} has {len(serving)} of {count(len(listed), 'endpoint')} in service"
        kept = sum(one.state == KEPT for one in serving)
        told += f" ({kept} only kept, as the removal waits)" if kept else ""
    told += f", by the last word of {_list(sorted(stale_by))}" if stale_by else ""
    objects = [*rows, *(row for one in endpoints for row in one.clusters)]
    wrong = [row for row in objects if not row.right]
    if not wrong:
        return f"{told}, and every cluster is as it should be."
    first = wrong[0]
    many = (
        "an object is not as it should be:"
        if len(wrong) == 1
        else f"{len(wrong)} objects are not as they should be, the first"
    )
    return f"{told}, but {many} {first.object} in {first.cluster}: {first.state}{': ' if first.why else ''}{first.why}."


def _verdict_without(host: str, endpoints: Sequence[EndpointAnswer], rows: Sequence[Whereabouts]) -> str:
    """Return how a host is that nobody needs."""
    skipped = [one for one in endpoints if one.state == SKIPPED]
    there = [row for row in (*rows, *(r for one in endpoints for r in one.clusters)) if row.state not in NOWHERE]
    holding = ""
    if there:
        holding = f"; {there[0].cluster} still holds {there[0].object} ({there[0].state}: {there[0].why})"
    if skipped:
        why = skipped[0].voices[0].against
        return f"{host} is left out on purpose: {why} ({count(len(skipped), 'endpoint')}){holding}."
    return f"No registry lists an instance of {host}{holding}."


def _list(names: Sequence[str]) -> str:
    """Return names as a sentence has them."""
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} and {unique[-1]}"
