"""What every mapping of the configuration file is: keys that are all known, and what a wrong one was meant to be."""

from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict

_SIMILAR = 0.7
_LONGEST_KEY = 64  # the comparison of longer ones takes long, and no key is near that


class Part(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


def nearest(key: str, part: type[Part]) -> str:
    """Return the key that an unknown one was meant to be, or ""."""
    word = key.lower().replace("-", "_")
    known = list(part.model_fields)
    if not word or len(word) > _LONGEST_KEY:
        return ""
    for name in known:
        if name == word or name.startswith(f"{word}_"):
            return name
    return next(iter(get_close_matches(word, known, 1, _SIMILAR)), "")


def meant(mapping: Mapping[str, object], part: type[Part]) -> dict[str, str]:
    """Return, for each unknown key of a mapping, the known one that it was meant to be."""
    unknown = [key for key in mapping if key not in part.model_fields]
    return {key: name for key in unknown if (name := nearest(key, part)) and name not in mapping}
