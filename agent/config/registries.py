"""The shape of one registry in the configuration file."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, WithJsonSchema

from agent.config.fields import (
    ConsulUrl,
    Duration,
    EurekaUrl,
    FileName,
    Glob,
    Parked,
    Prefix,
    Region,
    Text,
    Word,
)
from agent.config.part import Part, meant

EVERYTHING = "*"


class ConsulPart(Part):
    """A Consul datacenter."""

    type: Annotated[Literal["consul", "eureka"], WithJsonSchema({"const": "consul"})] = Field(
        description="The kind of registry."
    )
    url: ConsulUrl = Field(description="Where Consul's HTTP API answers.")
    datacenter: Word | None = Field(default=None, description="The datacenter to ask for, if not the agent's own.")
    token_file: FileName | None = Field(default=None, description="The file that holds the ACL token.")
    ca_file: FileName | None = Field(default=None, description="Certificates that Consul's is verified with.")
    cert_file: FileName | None = Field(default=None, description="The client certificate; needs key_file.")
    key_file: FileName | None = Field(default=None, description="The key of the client certificate.")
    tls_server_name: Word | None = Field(default=None, description="The name in Consul's certificate, if not the host.")
    services: list[Glob] = Field(
        default=[EVERYTHING], min_length=1, description="Globs: which services, and the token's scope."
    )
    probe: Word | None = Field(default=None, description="A service in scope that must always be readable.")
    address: Word = Field(default="lan", description="Which tagged address to publish.")
    region: Region | None = Field(default=None, description="The locality's first part, instead of the datacenter.")
    metadata_prefix: Prefix = Field(default="", description="What the metadata keys that isthmus reads begin with.")
    parked: Parked | None = Field(
        default=None, description="How many services are waited for one by one; 150 if Consul is on loopback, else 0."
    )


class EurekaPart(Part):
    """A Eureka cluster: servers that are each other's peers."""

    type: Annotated[Literal["consul", "eureka"], WithJsonSchema({"const": "eureka"})] = Field(
        description="The kind of registry."
    )
    urls: list[EurekaUrl] = Field(
        min_length=1, description="Its servers, each with its path; the first that answers is asked."
    )
    poll: Duration = Field(default=5.0, description="The time between two deltas.")
    username: Text | None = Field(default=None, description="For basic authentication; needs password_file.")
    password_file: FileName | None = Field(default=None, description="The file that holds the password.")
    ca_file: FileName | None = Field(default=None, description="Certificates that the servers' are verified with.")
    cert_file: FileName | None = Field(default=None, description="The client certificate; needs key_file.")
    key_file: FileName | None = Field(default=None, description="The key of the client certificate.")
    tls_server_name: Word | None = Field(default=None, description="The name in the certificates, if not the host.")
    services: list[Glob] = Field(default=[EVERYTHING], min_length=1, description="Globs: which applications.")
    address: Literal["ip", "hostname"] = Field(
        default="ip", description="The field that holds an instance's address; it must be an IP address."
    )
    region: Region | None = Field(default=None, description="The locality's first part.")
    metadata_prefix: Prefix = Field(default="", description="What the metadata keys that isthmus reads begin with.")


REGISTRIES: Mapping[str, type[Part]] = {"consul": ConsulPart, "eureka": EurekaPart}


def type_of(registry: object) -> str:
    """Tell a registry's type, also by its keys where the type is misspelt."""
    if not isinstance(registry, dict):
        return "consul"  # any will do: each says that it must be a mapping
    misspelt = {name: key for key, name in meant(registry, ConsulPart).items()}
    named = registry.get("type", registry.get(misspelt.get("type", "")))
    if isinstance(named, str) and named in REGISTRIES:
        return named
    return "eureka" if "url" not in registry and registry.keys() & {"urls", "poll", "password_file"} else "consul"


RegistryUnion = Annotated[
    Annotated[ConsulPart, Tag("consul")] | Annotated[EurekaPart, Tag("eureka")], Discriminator(type_of)
]
