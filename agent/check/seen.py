"""What a registry showed to a check, whatever its kind."""

from typing import NamedTuple

from agent.check.finding import Finding


class Seen(NamedTuple):
    """What a registry showed; what could not be seen, or what its kind does not have, is empty, or None."""

    findings: tuple[Finding, ...]
    datacenter: str = ""
    leader: str = ""
    acls: bool | None = None  # whether Consul's ACLs are on
    services: frozenset[str] | None = None  # in scope
