"""How to reach one Consul datacenter, and which of its services are ours to see."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulSettings:
    """One registry of type ``consul`` as the configuration describes it.

    ``services`` are globs: an allow-list and the declared scope of the token.
    ``address`` names the tagged address to publish.
    """

    name: str
    url: str
    datacenter: str = ""
    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    tls_server_name: str = ""
    services: tuple[str, ...] = ("*",)
    probe: str = "consul"
    address: str = "lan"
    region: str = ""
    metadata_prefix: str = ""
