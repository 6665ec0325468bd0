"""The Consul ACL policy that a registry's scope needs. Pure.

The least that works, as seen with Consul 1.19: without ``service:read`` an instance
is not shown, without ``node:read`` of its node neither.
https://developer.hashicorp.com/consul/docs/security/acl/acl-rules
"""

import json
from collections.abc import Iterable

from hooks.consul.settings import ConsulSettings

SPECIAL = "*?["  # what makes a glob of a name


def policy(settings: ConsulSettings) -> str:
    """Return the policy in HCL, with a comment where it has to be wider than the scope."""
    prefixes, names, wider = _parts(settings.services)
    nodes = [] if prefixes == {""} else ["# Or only the nodes that carry these services, where their names tell which."]
    lines = [
        *(f"# Only a prefix can be allowed: this is wider than {_quoted(glob)}." for glob in wider),
        *(_rule("service_prefix", prefix) for prefix in sorted(prefixes)),
        *(_rule("service", name) for name in sorted(names)),
        *nodes,
        _rule("node_prefix", ""),
    ]
    return "\n".join(lines) + "\n"


def _parts(globs: Iterable[str]) -> tuple[set[str], set[str], list[str]]:
    """Return prefixes and whole names that cover the globs, none of them twice, and the globs that are no prefixes."""
    prefixes: set[str] = set()
    names: set[str] = set()
    wider: list[str] = []
    for glob in globs:
        start = min((at for mark in SPECIAL if (at := glob.find(mark)) >= 0), default=-1)
        if start < 0:
            names.add(glob)
            continue
        prefixes.add(glob[:start])
        if set(glob[start:]) != {"*"}:
            wider.append(glob)
    least = {one for one in prefixes if not any(one != other and one.startswith(other) for other in prefixes)}
    return least, {name for name in names if not name.startswith(tuple(least))}, wider


def _rule(kind: str, name: str) -> str:
    return f'{kind} {_quoted(name)} {{ policy = "read" }}'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
