"""What checks prove of the protocol on an instance's own port.

Consul keeps no target of an agent's check, but what the check prints shows it
(https://github.com/hashicorp/consul/blob/main/agent/checks/check.go; seen on 1.19):
``HTTP GET http://10.0.0.1:8080/health: 200 OK Output: ...`` whatever the status,
``Get "http://10.0.0.1:8080/health": dial tcp ...`` where nothing answered, and
``gRPC check 10.0.0.1:8080/orders: success``. Checks that were registered in the
catalogue may have a definition, as those of consul-esm do.

A check is mute until its first result was stored (after each start of its agent,
up to five minutes), and so is a gRPC check that fails. Its type is then the best
guess, and right where it asks the instance's own port. What was seen to be
otherwise is remembered, so that muteness, which comes and goes with health,
changes nothing.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

HTTP = "HTTP"
HTTPS = "HTTPS"
GRPC = "GRPC"
REMEMBERED = 100_000  # targets; more checks that ask another port, or by TLS, are no estate but a leak

_TYPES = {"http": HTTP, "grpc": GRPC}
_PORTS = {HTTP: 80, HTTPS: 443}
_HOST = r'(?:\[[^\]\s]*\]|[^:/?#@\s"]*)'
_URL = rf'(https?)://(?:[^/?#@\s"]*@)?{_HOST}(?::([0-9]{{1,5}}))?(?![^/?#:\s"])'
_HTTP_TARGET = re.compile(_URL, re.IGNORECASE)
_HTTP_ANSWER = re.compile(rf"HTTP \S+ {_URL}", re.IGNORECASE)
_HTTP_ERROR = re.compile(rf'[A-Z]\S* "{_URL}', re.IGNORECASE)
_GRPC_TARGET = re.compile(rf"{_HOST}:([0-9]{{1,5}})(?:/|$)")
_GRPC_OUTPUT = re.compile(rf"gRPC check {_HOST}:([0-9]{{1,5}})[/:]")

_Check = Mapping[str, object]


class Target(NamedTuple):
    """What a check asks: a port, and the protocol that it speaks to it."""

    protocol: str
    port: int


class Targets:
    """The targets that checks have shown and that their type alone would not tell; for any thread."""

    def __init__(self) -> None:
        # Each step on it is one of the dictionary's own, so that no lock is needed.
        self._shown: dict[tuple[str, object, object], Target] = {}

    @property
    def count(self) -> int:
        """Return how many are remembered."""
        return len(self._shown)

    def known(self, node: str, check: _Check) -> Target | None:
        """Return the target that a check has shown, if it is remembered."""
        return self._shown.get(_key(node, check)) if self._shown else None

    def note(self, node: str, check: _Check, target: Target, *, guessed: bool) -> None:
        """Remember a target, unless it is what one would guess."""
        if not guessed:
            if len(self._shown) >= REMEMBERED:
                self._shown.clear()
            self._shown[_key(node, check)] = target
        elif self._shown:
            self._shown.pop(_key(node, check), None)


def proven(node: str, checks: Iterable[_Check], ports: tuple[object, ...], targets: Targets) -> str:
    """Return the protocol that an instance's checks prove of its own port, "" if none or if they disagree.

    ``ports`` are the numbers of that port: as it listens, and as others reach it.
    The hosts of targets make no difference: a check asks by loopback or from inside
    of a container's network. Checks of the node, and of other ports, prove nothing.
    """
    told: set[str] = set()
    guesses: set[str] = set()
    for check in checks:
        type_ = check.get("Type")
        definition = check.get("Definition")
        if not (type_ in ("http", "grpc") or definition) or not check.get("ServiceID"):
            continue
        guess = _TYPES.get(type_, "") if isinstance(type_, str) else ""
        target = _defined(definition)
        if target is None and guess:
            target = _printed(guess, check.get("Output"), ports)
            if target is None:
                target = targets.known(node, check)
            else:
                targets.note(node, check, target, guessed=target.protocol == guess and target.port in ports)
        if target is None:
            guesses.add(guess)
        elif target.port in ports:
            told.add(target.protocol)
    words = told or guesses - {""}
    return words.pop() if len(words) == 1 else ""


def _key(node: str, check: _Check) -> tuple[str, object, object]:
    name = check.get("CheckID")
    return node, name if isinstance(name, str) else "", check.get("Type")


def _printed(protocol: str, output: object, ports: tuple[object, ...]) -> Target | None:
    """Return the target that a check's output shows."""
    if not isinstance(output, str) or not output:
        return None
    if protocol == GRPC:
        found = _GRPC_OUTPUT.match(output)
        return _made(GRPC, int(found[1])) if found else None
    target = _target(_HTTP_ANSWER.match(output))
    if target is None:
        target = _target(_HTTP_ERROR.match(output))
        if target and target.protocol == HTTPS and target.port not in ports:
            # An error names where the check was redirected to, and that is most often HTTPS on another port.
            return None
    return target


def _defined(definition: object) -> Target | None:
    """Return the target in a check's definition; gRPC over TLS is, from outside, what HTTPS is."""
    if not isinstance(definition, Mapping) or not definition:
        return None
    url, address = definition.get("HTTP"), definition.get("GRPC")
    if isinstance(url, str) and url:
        return _target(_HTTP_TARGET.match(url))
    if isinstance(address, str) and (found := _GRPC_TARGET.match(address)):
        return _made(HTTPS if definition.get("GRPCUseTLS") else GRPC, int(found[1]))
    return None


def _target(found: re.Match[str] | None) -> Target | None:
    if found is None:
        return None
    scheme, port = found[1].upper(), found[2]
    return _made(scheme, int(port) if port else _PORTS[scheme])


@lru_cache(maxsize=1024)
def _made(protocol: str, port: int) -> Target:
    return Target(protocol, port)
