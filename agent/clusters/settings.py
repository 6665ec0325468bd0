"""How to reach one cluster, and what may be done to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Policy = Literal["sync", "upsert-only", "paused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """One Kubernetes API server: a kubeconfig and context, or server, CA and token."""

    name: str
    namespace: str
    policy: Policy = "sync"
    kubeconfig: Path | None = None
    context: str = ""
    server: str = ""
    ca_file: Path | None = None
    token_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySettings:
    """One directory that holds resources as files."""

    name: str
    namespace: str
    policy: Policy = "sync"
    directory: Path
