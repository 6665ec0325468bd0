"""Why registries say nothing of what was asked for: out of scope, not readable, or not registered."""

from collections.abc import Collection, Sequence

from agent.explaining.asked import Asked
from agent.explaining.sights import ASLEEP, STARTING, RegistrySight, Sights
from agent.words import span

NEVER = "gateways, sidecar proxies and Consul itself are never published"


def not_found(asked: Asked, sights: Sights, near: Sequence[str]) -> str:
    """Return in one sentence that nothing is known of what was asked for, and what may be meant."""
    readable = [one for one in sights.registries.values() if not one.error]
    seen = all(
        one.objects is not None and one.state not in ("starting", "unreadable") for one in sights.clusters.values()
    )
    silent = len(sights.registries) - len(readable)
    told = f"No registry that can be read lists {asked.text}" if silent else f"No registry lists {asked.text}"
    told += ", and no cluster holds it" if seen else ", and no cluster is known to hold it"
    meant = f"; perhaps {' or '.join(near)} is meant" if near else ""
    return f"{told}{meant}."


def unheard(
    asked: Asked, sights: Sights, services: Collection[str], domain: str, *, known: bool
) -> list[tuple[str, str]]:
    """Return, by registry, why it says nothing of what was asked for.

    Where something is ``known``, only what may be missing from it is told; ``services`` are those that are listed.
    """
    found = []
    for sight in sights.registries.values():
        why = _silence(asked, sight, services, domain)
        if not why and not known:
            asleep = sight.state == ASLEEP
            why = f"{sight.name} {'listed' if asleep else 'lists'} nothing of it"
            why += " when it was read last." if asleep else f" ({NEVER})."
        if why:
            found.append((sight.name, why))
    return found


def _silence(asked: Asked, sight: RegistrySight, services: Collection[str], domain: str) -> str:
    if sight.error:
        since = "" if sight.failing is None else f" for {span(sight.failing)}"
        return f"{sight.name} cannot be read{since}, so what it lists now is not known: {sight.error}"
    names = _names(asked, domain)
    for service in names:
        unreadable = next((name for name in sight.unreadable if name.lower() == service), "")
        if unreadable:
            return f"{sight.name} lists {unreadable}, but it cannot be read now: {sight.unreadable[unreadable]}"
    if names and not services and not any(sight.covers(name) for name in names):
        globs = ", ".join(sight.scope)
        return f"{names[-1]} is out of scope: {sight.name} is read for services {globs} alone."
    if sight.state == STARTING:
        return f"{sight.name} was not read completely since the start: what it lists is not fully known yet."
    return ""


def _names(asked: Asked, domain: str) -> list[str]:
    """Return the names under which a registry would list what was asked for, the likeliest last."""
    if not asked.name:
        return []
    return [asked.name, *([asked.name.removesuffix(f".{domain}")] if asked.name.endswith(f".{domain}") else [])]
