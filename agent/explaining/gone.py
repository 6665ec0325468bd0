"""Why an object goes: what the registries say of the registrations that it was made of."""

from agent.explaining.voices import ailing, name_of
from agent.gate import Sayings, Source, sources_of
from state.model import Held

FIRST = 2  # registrations that are told; the others are counted


def why_gone(held: Held, sayings: Sayings) -> str:
    """Return what has become of the registrations that an object names, "" where none of it tells why it goes."""
    told = [text for source in sources_of(held) if (text := _become(source, sayings))]
    more = f", and {len(told) - FIRST} more" if len(told) > FIRST else ""
    return "; ".join(told[:FIRST]) + more


def _become(source: Source, sayings: Sayings) -> str:
    registry, key = source
    name, said = name_of(registry, key), sayings.word(registry, key)
    if said is None:
        return f"{name}: the registry is not configured any more"
    instance, _ = said
    if instance is None:
        return f"{name} is not registered any more"
    ails = ailing(instance)
    return f"{name}: {ails}" if ails else ""
