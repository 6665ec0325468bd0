"""What a failed call to a Kubernetes API server means. Pure.

A server answers with a ``Status`` object when it is the API server itself that
speaks, and with anything at all when it is a proxy, a load balancer, a part that
has not started or a path that is not served:
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import (
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from state.errors import ClusterError, Fault

WRITES = frozenset({"create", "update", "delete"})
LONGEST_WORD = 600  # characters of a server's message; a rejection lists every mistake
LONGEST_WAIT = 300.0  # seconds; a proxy may name a day
NOT_SERVED = "networking.istio.io/v1 is not served there: are Istio's definitions installed, 1.24 or newer?"

_DENIED = re.compile(r"admission webhook .+ denied the request|ValidatingAdmissionPolicy .+ denied")


class Call(NamedTuple):
    """What was asked of which cluster, for messages."""

    cluster: str
    verb: str
    what: str

    def __str__(self) -> str:
        return f"cluster {self.cluster}: {self.verb} {self.what}"


class Word(NamedTuple):
    """What a server said; ``spoken`` tells that it was a ``Status`` object of Kubernetes."""

    code: int
    reason: str
    message: str
    causes: frozenset[str]
    name: str
    kind: str
    retry_after: float
    spoken: bool


def from_response(call: Call, code: int, headers: Mapping[str, str], body: bytes) -> ClusterError:
    """Return the error that an HTTP answer is."""
    try:
        status = json.loads(body)
    except (ValueError, RecursionError):
        status = None
    word = _status_word(code, status)
    wait = headers.get("Retry-After", "")
    if wait.strip().isdecimal():  # the other form, a date, is no API server's
        word = word._replace(retry_after=min(float(wait), LONGEST_WAIT))
    if not word.spoken:
        word = word._replace(message=_cut(body[: 4 * LONGEST_WORD].decode("utf-8", "replace"), 200))
    return _error(call, word)


def from_status(call: Call, status: object) -> ClusterError:
    """Return the error that an ERROR event inside a watch is; it carries a ``Status``."""
    return _error(call, _status_word(0, status))


def from_exception(call: Call, error: Exception) -> ClusterError:
    """Return the error that a failed connection is.

    Nothing is known of a write that was cut short: it may have been carried out.
    """
    return ClusterError(Fault.CLUSTER, f"{call}: {_transport(error)}")


def unexpected(call: Call, what: str) -> ClusterError:
    """Return the error that a 2xx answer with a foreign body is."""
    return ClusterError(Fault.CLUSTER, f"{call}: the answer is {what}")


def _error(call: Call, word: Word) -> ClusterError:
    fault = _fault(call, word)
    message = word.message
    if word.code == 404 and not word.spoken:
        message = f"{message} ({NOT_SERVED})"
    reason = f" {word.reason}" if word.reason else ""
    return ClusterError(fault, f"{call}: {word.code}{reason}: {message or 'no message'}", word.retry_after)


def _status_word(code: int, status: object) -> Word:
    """Take a ``Status`` apart; nothing about its shape is taken for granted."""
    if not isinstance(status, dict) or status.get("kind") != "Status":
        return Word(code, "", "", frozenset(), "", "", 0.0, spoken=False)
    details = status.get("details")
    details = details if isinstance(details, dict) else {}
    causes = details.get("causes")
    reasons = {_text(cause.get("reason")) for cause in causes if isinstance(cause, dict)} if causes else set()
    wait = details.get("retryAfterSeconds")
    own_code = status.get("code")
    return Word(
        code=code or (own_code if isinstance(own_code, int) else 0),
        reason=_text(status.get("reason")),
        message=_cut(_text(status.get("message")), LONGEST_WORD),
        causes=frozenset(reasons),
        name=_text(details.get("name")),
        kind=_text(details.get("kind")),
        retry_after=min(float(wait), LONGEST_WAIT) if isinstance(wait, int) and wait > 0 else 0.0,
        spoken=True,
    )


def _fault(call: Call, word: Word) -> Fault:
    """Decide by what the words say where the code alone would mislead."""
    waits = word.code in (409, 429, 503, 504)
    if word.spoken and not waits and _DENIED.search(word.message):
        return Fault.REJECTED  # a webhook chooses its own code, a policy its own reason
    if "NamespaceTerminating" in word.causes:
        return Fault.OBJECT
    if "ResourceVersionTooLarge" in word.causes:
        return Fault.EXPIRED  # the server was restored from a backup: what we know is of another life
    if word.spoken and "custom resource definition is terminating" in word.message:
        return Fault.CLUSTER
    if word.code in _BY_CODE:
        return _BY_CODE[word.code]
    if word.code == 403:
        return Fault.OBJECT if "exceeded quota" in word.message else Fault.UNAUTHORISED
    if word.code == 404:
        return _missing(word)
    if word.code == 409:
        return _conflict(word)
    if word.code == 413 or "request is too large" in word.message:
        return Fault.REJECTED if call.verb in WRITES else Fault.CLUSTER
    if word.spoken and 400 <= word.code < 500 and word.code != 429 and call.verb in WRITES:
        return Fault.REJECTED
    return Fault.CLUSTER


_BY_CODE = {401: Fault.UNAUTHORISED, 410: Fault.EXPIRED}


def _missing(word: Word) -> Fault:
    """Tell an object that is not there from a definition or a namespace that is not there."""
    if not word.spoken or not word.name:
        return Fault.CLUSTER
    return Fault.OBJECT if word.kind == "namespaces" else Fault.MISSING


def _conflict(word: Word) -> Fault:
    if word.reason == "AlreadyExists":
        return Fault.EXISTS
    # A create can lose a race for the quota: nobody changed our object.
    return Fault.OBJECT if word.kind == "resourcequotas" else Fault.CONFLICT


def _transport(error: Exception) -> str:
    """Say what is wrong with a connection without addresses of Python objects or of a proxy."""
    if isinstance(error, ApiException):
        return f"TLS: {_cut(_text(error.reason).partition(chr(10))[2] or _text(error.reason), 200)}"
    for kind, words in _TRANSPORT:
        if isinstance(error, kind):
            return f"{words}{_cause(error)}"
    return f"{type(error).__name__}{_cause(error)}"


_TRANSPORT: tuple[tuple[type[Exception], str], ...] = (
    (ProxyError, "the proxy does not connect"),
    (NameResolutionError, "the server's name cannot be resolved"),
    (NewConnectionError, "cannot connect"),  # a kind of ConnectTimeoutError, for history's sake
    (ConnectTimeoutError, "no connection in time"),
    (ReadTimeoutError, "no answer in time"),
    (SSLError, "TLS"),
    (ProtocolError, "the connection was cut"),
)


def _cause(error: BaseException) -> str:
    """Return the words of the system's own error below, which name no credentials."""
    seen: BaseException | None = error
    for _ in range(10):
        if isinstance(seen, OSError) and seen.strerror:
            return f": {_cut(seen.strerror, 200)}"
        seen = seen and (seen.__cause__ or seen.__context__)
    return ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _cut(text: str, length: int) -> str:
    words = " ".join(text.split())
    return words if len(words) <= length else f"{words[: length - 3]}..."
