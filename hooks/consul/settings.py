"""How to reach one Consul datacenter, and which of its services are ours to see."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulSettings:
    """One registry of type ``consul`` as the configuration describes it.

    ``services`` are globs: an allow-list and the declared scope of the token.
    ``address`` names the tagged address to publish; ``parked`` is how many services
    may be waited for one by one.
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
    parked: int = 0


def is_loopback(url: str) -> bool:
    """Tell whether a URL's server is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
