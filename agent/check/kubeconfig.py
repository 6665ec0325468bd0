"""What mends a kubeconfig, or the credential in it, that cannot be used."""

import base64
import json
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from agent.clusters.settings import KubernetesSettings
from agent.words import span


def mends(settings: KubernetesSettings) -> str:
    """Return what to do about a credential of which none could be made."""
    path = settings.kubeconfig
    if path is None:
        return f"write a bearer token into {settings.token_file}, and name it as clusters.{settings.name}.token_file"
    content = _load(path)
    contexts = _named(content, "contexts")
    chosen = settings.context or str(content.get("current-context") or "")
    if chosen not in contexts:
        known = ", ".join(contexts) or "none"
        return f"name one of its contexts as clusters.{settings.name}.context; there are: {known}"
    plugin = _object(_user(settings).get("exec")).get("command")
    if not isinstance(plugin, str):
        return f"mend context {chosen} in {path}: its cluster needs a server and its authority, its user a credential"
    if shutil.which(plugin) is None and not (path.parent / plugin).is_file():
        return f"install {plugin}, which is to give the credential of context {chosen}, where isthmus finds it: in PATH"
    return f"run {plugin}, as the user that isthmus runs as, and see why it gives no credential"


def expiry(settings: KubernetesSettings, now: float) -> str:
    """Return since when a token that says so has expired, "" when none does; ``now`` in seconds since 1970."""
    token = ""
    with suppress(OSError, UnicodeDecodeError):
        if settings.token_file is not None:
            token = settings.token_file.read_text("ascii")
        elif settings.kubeconfig is not None:
            user = _user(settings)
            file = user.get("tokenFile")
            token = (settings.kubeconfig.parent / str(file)).read_text("ascii") if file else str(user.get("token", ""))
    end = _expires(token.strip())
    if end is None or end > now:
        return ""
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end))
    return f"the token expired {span(now - end)} ago, on {day}"


def _expires(token: str) -> float | None:
    """Return when a JWT ends (RFC 7519), None for any other token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    end = claims.get("exp") if isinstance(claims, dict) else None
    return float(end) if isinstance(end, int | float) else None


def _user(settings: KubernetesSettings) -> Mapping[str, Any]:
    content = _load(settings.kubeconfig) if settings.kubeconfig is not None else {}
    chosen = settings.context or content.get("current-context")
    context = _named(content, "contexts").get(str(chosen), {})
    return _named(content, "users").get(str(context.get("user")), {})


def _load(path: Path) -> Mapping[str, Any]:
    try:
        return _object(yaml.safe_load(path.read_bytes()))
    except (OSError, yaml.YAMLError):
        return {}


def _named(content: Mapping[str, Any], key: str) -> dict[str, Mapping[str, Any]]:
    """Return the entries of a list such as ``contexts``, by name."""
    entries = content.get(key)
    found = entries if isinstance(entries, list) else []
    return {str(one["name"]): _object(one.get(key.removesuffix("s"))) for one in found if _object(one).get("name")}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
