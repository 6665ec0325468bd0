"""How to reach one Eureka cluster, and which of its applications are ours to see."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class EurekaSettings:
    """One registry of type ``eureka`` as the configuration describes it.

    ``urls`` are its servers, each with the path under which it answers (such as
    ``http://eureka-1:8761/eureka``), in the order in which they are tried. ``poll``
    is in seconds. ``services`` are globs of application names. ``address`` is the
    field of an instance to publish. ``region`` is the locality's first part.
    """

    name: str
    urls: tuple[str, ...]
    poll: float = 5.0
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    tls_server_name: str = ""
    services: tuple[str, ...] = ("*",)
    address: Literal["ip", "hostname"] = "ip"
    region: str = ""
    metadata_prefix: str = ""
