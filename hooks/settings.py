"""Where isthmus listens."""

from dataclasses import dataclass
from pathlib import Path

Listen = tuple[str, int]  # a loopback address and a port


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverSettings:
    """Where calls of watch handlers are taken: a unix socket, a loopback port with bearer tokens, or both."""

    socket: Path | None = None
    http: Listen | None = None
    token_file: Path | None = None
