"""From the checked file to the values that the rest of isthmus takes."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from agent.clusters.settings import DirectorySettings, KubernetesSettings
from agent.config.model import (
    ClusterPart,
    DirectoryPart,
    DocumentPart,
    KubeconfigPart,
    MatchPart,
    ReceiverPart,
    RulePart,
    ServerPart,
)
from agent.config.part import Part
from agent.config.registries import ConsulPart, EurekaPart
from agent.config.settings import ClusterSettings, Config, RegistrySettings
from agent.rules import Identity, Match, Rule
from hooks.consul.settings import ConsulSettings, is_loopback
from hooks.eureka.settings import EurekaSettings
from hooks.settings import Listen, ReceiverSettings
from state.limits import Limits

DEFAULT_PROBE = "consul"
DEFAULT_PARKED = 150  # Consul allows 200 connections from one address

SERVICE_CONFIGURATION = Path("/etc/isthmus")
SERVICE_CREDENTIALS = Path("/run/credentials/isthmus.service")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where relative paths are looked up: beside the configuration; credentials where systemd puts them first.

    https://systemd.io/CREDENTIALS/
    """

    beside: Path
    credentials: Path | None = None

    def path(self, name: str) -> Path:
        """Return where a file or folder of ours is."""
        return self.beside / name

    def credential(self, name: str | None) -> Path | None:
        """Return where a file that others provide is; it need not exist."""
        if name is None:
            return None
        # os.path says False of a name that cannot exist, such as a very long one; Path.exists raises.
        if self.credentials and not Path(name).is_absolute() and os.path.exists(self.credentials / name):
            return self.credentials / name
        return self.beside / name


def folders_of(path: Path) -> Folders:
    """Return where the relative paths in a configuration file are looked up.

    Only what ExecStart= starts is told where its credentials are: not the check before a reload, nor what root runs by
    hand. Both mean those of the service, when they ask about its configuration.
    """
    beside, credentials = path.absolute().parent, os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials:
        return Folders(beside, Path(credentials).absolute())
    return Folders(beside, SERVICE_CREDENTIALS if beside == SERVICE_CONFIGURATION else None)


def config_of(document: DocumentPart, folders: Folders) -> Config:
    """Return a checked file as values."""
    return Config(
        owner=document.owner,
        state=folders.path(document.state),
        domain=document.domain,
        registries={name: _registry(name, part, folders) for name, part in document.registries.items()},
        clusters={name: _cluster(name, part, folders) for name, part in document.clusters.items()},
        rules=tuple(_rule(number, part) for number, part in enumerate(document.rules)),
        control=folders.path(document.control),
        receiver=_receiver(document.receiver, folders),
        status=cast(Listen | None, document.status),
        limits=_limits(cast(Part, document.limits)),
    )


def _registry(name: str, part: ConsulPart | EurekaPart, folders: Folders) -> RegistrySettings:
    return _consul(name, part, folders) if isinstance(part, ConsulPart) else _eureka(name, part, folders)


def _eureka(name: str, part: EurekaPart, folders: Folders) -> EurekaSettings:
    return EurekaSettings(
        name=name,
        urls=tuple(part.urls),
        poll=part.poll,
        username=part.username or "",
        password_file=folders.credential(part.password_file),
        ca_file=folders.credential(part.ca_file),
        cert_file=folders.credential(part.cert_file),
        key_file=folders.credential(part.key_file),
        tls_server_name=part.tls_server_name or "",
        services=tuple(part.services),
        address=part.address,
        region=part.region or "",
        metadata_prefix=part.metadata_prefix,
    )


def _consul(name: str, part: ConsulPart, folders: Folders) -> ConsulSettings:
    return ConsulSettings(
        name=name,
        url=part.url,
        datacenter=part.datacenter or "",
        token_file=folders.credential(part.token_file),
        ca_file=folders.credential(part.ca_file),
        cert_file=folders.credential(part.cert_file),
        key_file=folders.credential(part.key_file),
        tls_server_name=part.tls_server_name or "",
        services=tuple(part.services),
        probe=part.probe or DEFAULT_PROBE,
        address=part.address,
        region=part.region or "",
        metadata_prefix=part.metadata_prefix,
        parked=part.parked if part.parked is not None else DEFAULT_PARKED if is_loopback(part.url) else 0,
    )


def _receiver(part: ReceiverPart | None, folders: Folders) -> ReceiverSettings | None:
    if part is None:
        return None
    return ReceiverSettings(
        socket=None if part.socket is None else folders.path(part.socket),
        http=cast(Listen | None, part.http),
        token_file=folders.credential(part.token_file),
    )


def _cluster(name: str, part: ClusterPart, folders: Folders) -> ClusterSettings:
    match part:
        case DirectoryPart():
            directory = folders.path(part.directory)
            return DirectorySettings(name=name, namespace=part.namespace, policy=part.policy, directory=directory)
        case KubeconfigPart():
            return KubernetesSettings(
                name=name,
                namespace=part.namespace,
                policy=part.policy,
                kubeconfig=folders.credential(part.kubeconfig),
                context=part.context or "",
            )
        case ServerPart():
            return KubernetesSettings(
                name=name,
                namespace=part.namespace,
                policy=part.policy,
                server=part.server,
                ca_file=folders.credential(part.ca_file),
                token_file=folders.credential(part.token_file),
            )
    raise TypeError(f"cluster {name} is a {type(part).__name__}, which the second pass should have refused")


def _rule(number: int, part: RulePart) -> Rule:
    return Rule(
        number=number,
        match=_match(part.match),
        host=part.host,
        aliases=None if part.aliases is None else tuple(part.aliases),
        namespace=part.namespace,
        labels=tuple(sorted(part.labels.items())),
        port=part.port,
        protocol=part.protocol,
        clusters=None if part.clusters is None else tuple(part.clusters),
        secure=part.secure,
        export_to=None if part.export_to is None else tuple(part.export_to),
        identity=None if part.identity is None else Identity(part.identity.service_account, part.identity.tls),
        warning=part.warning,
        skip=part.skip,
    )


def _match(part: MatchPart) -> Match:
    return Match(
        registry=part.registry, service=part.service, tag=part.tag, metadata=tuple(sorted(part.metadata.items()))
    )


def _limits(part: Part) -> Limits:
    given: dict[str, Any] = part.model_dump(exclude_unset=True)
    for name, value in given.items():
        given[name] = tuple(value) if isinstance(value, list) else value
    return Limits(**given)
