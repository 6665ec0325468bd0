"""The ACL token of a registry."""

import re
from pathlib import Path

from state.errors import RegistryError

_TOKEN = re.compile(r"[!-~]+")


def read_token(path: Path | None) -> str:
    """Return what a token file holds now, so that a new token needs no restart; nothing without a file.

    Raises RegistryError, which never shows what the file holds.
    """
    if path is None:
        return ""
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise RegistryError(f"token file {path} cannot be read: {reason}") from None
    if not token:
        raise RegistryError(f"token file {path} is empty")
    if not _TOKEN.fullmatch(token):
        raise RegistryError(f"token file {path} holds more than one word of ASCII")
    return token
