"""The bearer tokens that may call: a file, read anew for each call, so that a new token needs no restart."""

import hmac
import logging
import threading
import time
from pathlib import Path

from state.errors import ConfigurationError

logger = logging.getLogger(__name__)

LARGEST = 65_536  # bytes of a token file
AGAIN = 60.0  # seconds after which wrong tokens are told of again
VISIBLE = frozenset(range(0x21, 0x7F))  # what a token is made of: the rest does not survive in a header


def read_tokens(path: Path) -> list[bytes]:
    """Return the tokens in a file, one a line; raises ConfigurationError unless there are some, all of them usable."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigurationError([f"token file {path} cannot be read: {error.strerror or error}"]) from error
    if len(content) > LARGEST:
        raise ConfigurationError([f"token file {path} is larger than {LARGEST} bytes"])
    lines = [line.strip() for line in content.splitlines()]
    tokens = [line for line in lines if line]
    if not tokens:
        raise ConfigurationError([f"token file {path} is empty"])
    for number, line in enumerate(lines, 1):
        if not VISIBLE.issuperset(line):
            raise ConfigurationError([f"token file {path}, line {number}: a token is one word of ASCII"])
    return tokens


class Tokens:
    """Decides who may call; while its file cannot be used, nobody may, and the log says once why."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._fault = ""
        self._warned = -AGAIN

    def allow(self, given: bytes) -> bool:
        """Tell whether this is one of the tokens."""
        try:
            tokens = read_tokens(self._path)
        except ConfigurationError as error:
            self._note(str(error))
            return False
        self._note("")
        if any(hmac.compare_digest(given, token) for token in tokens):
            return True
        self._warn()
        return False

    def _note(self, fault: str) -> None:
        with self._lock:
            before, self._fault = self._fault, fault
        if fault and fault != before:
            logger.error("receiver: %s; every call over HTTP is refused", fault)
        elif before and not fault:
            logger.info("receiver: token file %s can be used again", self._path)

    def _warn(self) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._warned < AGAIN:
                return
            self._warned = now
        logger.warning("receiver: calls are refused: their bearer token is not in token file %s", self._path)
