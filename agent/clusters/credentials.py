"""How to reach one API server: its address, what proves it to us and us to it.

Kubernetes' client reads kubeconfigs, runs credential plugins and makes the pool
of connections. What it would pass over is an error here: a call without a
credential would be anonymous.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any

import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException
from kubernetes.config.kube_config import KubeConfigLoader

from agent.clusters.settings import KubernetesSettings
from state.errors import ClusterError, Fault

POOL = 32  # connections kept; more than are ever in use, since what is above is closed after each call
RENEW = 0.8  # of a credential's life
SOONEST = 5.0  # seconds until a credential is renewed again, however short its life
FOREVER = float("inf")


def _user_agent() -> str:
    try:
        return f"isthmus/{version('isthmus')}"
    except PackageNotFoundError:
        return "isthmus/0"


USER_AGENT = _user_agent()


class TokenFile:
    """A bearer token in a file, read again whenever the file changes."""

    def __init__(self, cluster: str, path: Path) -> None:
        self._cluster = cluster
        self._path = path
        self._read = (_stamp(None), "")

    def authorization(self) -> str:
        """Return the header's value; UNAUTHORISED, naming the file, when there is no token in it."""
        try:
            now = _stamp(self._path)
            stamp, header = self._read
            if now != stamp:
                header = self._header(self._path.read_text("ascii"))
                self._read = (now, header)
        except OSError as error:
            raise self._unusable(error.strerror or type(error).__name__) from error
        except UnicodeDecodeError:
            # No cause: its text shows a part of the file.
            raise self._unusable("holds what cannot be a token") from None
        return header

    def _header(self, text: str) -> str:
        token = text.strip()
        if not token:
            raise self._unusable("is empty")
        if not _is_header(token):
            raise self._unusable("holds what cannot be a token")
        return f"Bearer {token}"

    def _unusable(self, why: str) -> ClusterError:
        return _refusal(self._cluster, f"token file {self._path}: {why}")


class Connection:
    """One client and its credential; made anew rather than changed.

    ``renew_at`` and ``expires_at`` are monotonic seconds.
    """

    def __init__(
        self,
        client: ApiClient,
        authorization: Callable[[], str],
        *,
        kubeconfig: Path | None = None,
        stamp: tuple[int, ...] = (),
        life: float = FOREVER,
    ) -> None:
        self.client = client
        self.host = client.configuration.host.rstrip("/")
        self.authorization = authorization
        self.expires_at = monotonic() + life
        self.renew_at = monotonic() + max(SOONEST, life * RENEW)
        self._kubeconfig = kubeconfig
        self._stamp = stamp

    def is_due(self, now: float) -> bool:
        """Tell whether its kubeconfig changed, or most of the credential's life is over."""
        if now >= self.renew_at:
            return True
        if self._kubeconfig is None:
            return False
        with suppress(OSError):  # a kubeconfig that is being replaced: what was read from it is still good
            return _stamp(self._kubeconfig) != self._stamp
        return False


def connect(settings: KubernetesSettings) -> Connection:
    """Return a new connection as the settings say; opens none yet, but may run a credential plugin."""
    if settings.kubeconfig is not None:
        return _from_kubeconfig(settings, settings.kubeconfig)
    if settings.token_file is None:
        raise _refusal(settings.name, "there is no token file, and isthmus does not call anonymously")
    configuration = _configuration()
    configuration.host = settings.server.rstrip("/")
    if settings.ca_file is not None:
        if not settings.ca_file.is_file():
            raise _refusal(settings.name, f"CA file {settings.ca_file}: there is no such file")
        configuration.ssl_ca_cert = str(settings.ca_file)
    return Connection(_client(configuration), TokenFile(settings.name, settings.token_file).authorization)


def _from_kubeconfig(settings: KubernetesSettings, path: Path) -> Connection:
    try:
        stamp = _stamp(path)
        config = yaml.safe_load(path.read_bytes())
        configuration = _configuration()
        token_file = _take_token_file(config, settings.context, path)
        loader = KubeConfigLoader(  # type: ignore[no-untyped-call]
            config, active_context=settings.context or None, config_base_path=str(path.parent)
        )
        loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise _refusal(settings.name, f"kubeconfig {path}: {error.strerror or type(error).__name__}") from error
    except ConfigException as error:
        raise _refusal(settings.name, f"kubeconfig {path}: {error}") from error
    except yaml.YAMLError as error:
        # No text and no cause: it quotes the file.
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise _refusal(settings.name, f"kubeconfig {path}:{where} no YAML") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _refusal(settings.name, f"kubeconfig {path}: not a kubeconfig ({type(error).__name__})") from None
    if not getattr(loader, "host", ""):
        raise _refusal(settings.name, f"kubeconfig {path}: its cluster has no server")
    if not configuration.verify_ssl:
        raise _refusal(settings.name, f"kubeconfig {path}: insecure-skip-tls-verify is not accepted, name the CA")
    authorization = _authorization(settings, path, configuration, token_file)
    expiry = getattr(loader, "expiry", None)
    life = (expiry - datetime.now(UTC)).total_seconds() if isinstance(expiry, datetime) else FOREVER
    return Connection(_client(configuration), authorization, kubeconfig=path, stamp=stamp, life=life)


def _authorization(
    settings: KubernetesSettings, path: Path, configuration: Configuration, token_file: Path | None
) -> Callable[[], str]:
    """Return what gives the header's value, "" when a client certificate does without."""
    if token_file is not None:
        return TokenFile(settings.name, token_file).authorization
    header = configuration.api_key.get("BearerToken", "").strip()
    if not header and not configuration.cert_file:
        raise _refusal(
            settings.name,
            f"kubeconfig {path}: its user gives no credential, and isthmus does not call anonymously "
            "(what a credential plugin said is in the log)",
        )
    if not _is_header(header.replace(" ", "", 1)):
        raise _refusal(settings.name, f"kubeconfig {path}: the credential holds what no header can hold")
    return lambda: header


def _take_token_file(config: dict[str, Any], context: str, path: Path) -> Path | None:
    """Take a user's ``tokenFile`` out of a kubeconfig that was read; it wins over ``token``, as for kubectl.

    The client would read it once, with its line end.
    """
    name = context or config.get("current-context")
    contexts = {one["name"]: one["context"] for one in _entries(config, "contexts")}
    chosen = contexts.get(name, {}).get("user")
    for user in _entries(config, "users"):
        if user["name"] == chosen and user["user"] and "tokenFile" in user["user"]:
            user["user"].pop("token", None)
            return path.parent / str(user["user"].pop("tokenFile"))
    return None


def _entries(config: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = config.get(key)
    return found if isinstance(found, list) else []


def _configuration() -> Configuration:
    # Retries would sleep inside a call, on the server's word, and hold a write's place.
    configuration = Configuration(retries=False, connection_pool_maxsize=POOL)
    configuration.keep_alive = True
    return configuration


def _client(configuration: Configuration) -> ApiClient:
    # Credentials are added to each call, not by the client: it would re-run a plugin inside every one of them.
    configuration.refresh_api_key_hook = None
    configuration.api_key = {}
    client = ApiClient(configuration)
    client.user_agent = USER_AGENT
    return client


def _stamp(path: Path | None) -> tuple[int, ...]:
    if path is None:
        return ()
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _refusal(cluster: str, why: str) -> ClusterError:
    return ClusterError(Fault.UNAUTHORISED, f"cluster {cluster}: {why}")
