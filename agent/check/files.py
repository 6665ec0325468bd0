"""The files that a configuration names: whether they are there, can be used, and are kept from others."""

import os
import ssl
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.check.finding import CONFIGURATION, Finding, cluster, error, ok, registry, warning
from agent.clusters.credentials import TokenFile
from agent.clusters.settings import KubernetesSettings
from agent.config import Config
from agent.config.settings import RegistrySettings
from hooks.consul.settings import ConsulSettings
from hooks.eureka.settings import EurekaSettings
from hooks.secret import read_password, read_token
from hooks.tokens import read_tokens
from state.errors import ClusterError, ConfigurationError, RegistryError


def files(config: Config) -> list[Finding]:
    """Return what is wrong with the files, each where it is used; one ``ok`` when nothing is."""
    found: list[Finding] = []
    for name, asked in config.registries.items():
        found += _registry(registry(name), asked)
    for name, settings in config.clusters.items():
        if isinstance(settings, KubernetesSettings):
            found += _kubernetes(cluster(name), settings)
    if config.receiver is not None and config.receiver.token_file is not None:
        found += _hook(config.receiver.token_file)
    return found or [ok(CONFIGURATION, "the files that it names are there and can be used")]


def _registry(place: str, settings: RegistrySettings) -> Iterator[Finding]:
    if isinstance(settings, ConsulSettings) and (token := settings.token_file) is not None:
        yield from _secret(
            place, token, lambda: read_token(token), f"write the ACL token's SecretID, and nothing else, into {token}"
        )
    if isinstance(settings, EurekaSettings) and (password := settings.password_file) is not None:
        remedy = f"write the password of {settings.username}, and nothing else, into {password}"
        yield from _secret(place, password, lambda: read_password(password), remedy)
    if (ca := settings.ca_file) is not None:
        yield from _authorities(place, ca)
    if (certificate := settings.cert_file) is not None and (key := settings.key_file) is not None:
        yield from _pair(place, certificate, key)


def _kubernetes(place: str, settings: KubernetesSettings) -> Iterator[Finding]:
    if (kubeconfig := settings.kubeconfig) is not None:
        yield from _secret(
            place, kubeconfig, lambda: _read(kubeconfig), f"put a kubeconfig at {kubeconfig}, or name where it is"
        )
    if (ca := settings.ca_file) is not None:
        yield from _authorities(place, ca)
    if (token := settings.token_file) is not None:
        holder = TokenFile(settings.name, token)
        yield from _secret(
            place, token, holder.authorization, f"write the bearer token, and nothing else, into {token}"
        )


def _hook(path: Path) -> Iterator[Finding]:
    remedy = f"write a long random word into {path}, the token that Consul's handlers of type http will carry"
    yield from _secret(CONFIGURATION, path, lambda: read_tokens(path), remedy)


def _secret(place: str, path: Path, use: Callable[[], object], remedy: str) -> Iterator[Finding]:
    """Yield what is wrong with a file that nobody else should read; ``use`` reads it as the agent does."""
    try:
        use()
        readable = os.stat(path).st_mode & stat.S_IROTH
    except OSError as problem:
        yield error(place, f"{path}: {problem.strerror or type(problem).__name__}", _or_readable(problem, path, remedy))
    except (RegistryError, ClusterError, ConfigurationError) as problem:
        yield error(place, _without_place(str(problem), place), remedy)
    else:
        if readable:
            yield warning(place, f"{path} can be read by everybody on this machine", f"chmod o= {path}")


def _without_place(text: str, place: str) -> str:
    return text.removeprefix(f"{place}: ")


def _or_readable(problem: OSError, path: Path, remedy: str) -> str:
    if isinstance(problem, PermissionError):
        return f"let the user that isthmus runs as read {path}"
    return remedy


def _authorities(place: str, path: Path) -> Iterator[Finding]:
    try:
        _read(path)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(str(path))
    except ssl.SSLError:
        yield error(place, f"{path} holds no certificates in PEM", f"put the authority's certificate into {path}")
    except OSError as problem:
        remedy = f"put the certificate of the authority that issued the server's at {path}, or name where it is"
        yield error(place, f"{path}: {problem.strerror or problem}", _or_readable(problem, path, remedy))


def _pair(place: str, certificate: Path, key: Path) -> Iterator[Finding]:
    readable = 0
    try:
        for path in (certificate, key):
            _read(path)
        readable = os.stat(key).st_mode & stat.S_IROTH
        # Without a password OpenSSL would ask for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(str(certificate), str(key), password=lambda: "")
    except ssl.SSLError as problem:
        seen = (
            "do not belong together"
            if problem.reason == "KEY_VALUES_MISMATCH"
            else "are no pair in PEM without password"
        )
        yield error(
            place, f"{certificate} and {key} {seen}", "name a certificate and the very key that it was issued for"
        )
    except OSError as problem:
        where = problem.filename or certificate
        remedy = f"put the client certificate and its key at {certificate} and {key}, or name where they are"
        yield error(place, f"{where}: {problem.strerror or problem}", _or_readable(problem, Path(where), remedy))
    if readable:
        yield warning(place, f"{key} can be read by everybody on this machine", f"chmod o= {key}")


def _read(path: Path) -> None:
    """Raise OSError unless a file can be read."""
    with path.open("rb") as file:
        file.read(1)
