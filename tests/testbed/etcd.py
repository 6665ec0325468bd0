"""A real etcd for tests, under an API server."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx

from tests.testbed.processes import Process, free_port, wait_until


class Etcd:
    """One etcd, with its data in a folder; it does not sync to disk, and nothing compacts it but `compact`."""

    def __init__(self, binary: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{free_port()}"
        peers = f"http://127.0.0.1:{free_port()}"
        command = [
            str(binary),
            "--name=testbed",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=testbed={peers}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        self.process = Process("etcd", command, folder / "etcd.log")
        self.client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)

    def start(self) -> None:
        """Start etcd and wait until it answers."""
        self.process.start(self._is_ready)

    def _is_ready(self) -> bool:
        try:
            return bool(self.client.get("/health").json().get("health") == "true")
        except (httpx.HTTPError, json.JSONDecodeError):
            return False

    def pause(self) -> None:
        """Freeze etcd, so that the API server waits for it until it gives up."""
        self.process.pause()

    def resume(self) -> None:
        """Let a frozen etcd go on, and wait until it has a leader again."""
        self.process.resume()
        wait_until(self._is_ready, "etcd answers again")

    def close(self) -> None:
        """Stop etcd for good."""
        self.process.stop()
        self.client.close()

    def call(self, path: str, body: object) -> dict[str, Any]:
        """Call etcd's JSON gateway."""
        response = self.client.post(f"/v3/{path}", json=body)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def revision(self) -> int:
        """The newest resourceVersion of anything."""
        return int(self.call("kv/range", {"key": encoded("/")})["header"]["revision"])

    def compact(self) -> None:
        """Forget all history, so that an API server without a watch cache answers 410 to older resourceVersions."""
        self.call("kv/compaction", {"revision": self.revision(), "physical": True})


def encoded(text: str) -> str:
    """Write a key or value as etcd's JSON gateway takes it."""
    return base64.b64encode(text.encode()).decode()


def decoded(text: str) -> str:
    """Read a key or value as etcd's JSON gateway gives it."""
    return base64.b64decode(text).decode()
