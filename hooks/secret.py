"""What a registry lets us in for: Consul's ACL token, the password of a Eureka server."""

import re
from pathlib import Path

from state.errors import RegistryError

_TOKEN = re.compile(r"[!-~]+")


def read_token(path: Path | None) -> str:
    """Return what a token file holds now, so that a new token needs no restart; nothing without a file.

    Raises RegistryError, which never shows what the file holds.
    """
    token = _read(path, "token")
    if token and not _TOKEN.fullmatch(token):
        raise RegistryError(f"token file {path} holds more than one word of ASCII")
    return token


def read_password(path: Path | None) -> str:
    """Return what a password file holds now; nothing without a file. RegistryError as above."""
    password = _read(path, "password")
    if not password.isprintable():
        raise RegistryError(f"password file {path} holds more than one line, or what cannot be printed")
    return password


def _read(path: Path | None, kind: str) -> str:
    if path is None:
        return ""
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise RegistryError(f"{kind} file {path} cannot be read: {reason}") from None
    if not secret:
        raise RegistryError(f"{kind} file {path} is empty")
    return secret
