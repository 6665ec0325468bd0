"""A real Consul server for tests: started on ports of its own, killed, wiped, and filled through its HTTP API."""

import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

import httpx

from tests.testbed.consul_api import ConsulApi
from tests.testbed.pki import Authority, KeyPair, client_context
from tests.testbed.processes import Process, Served, free_port

Config = Mapping[str, object]


class Consul(Served, ConsulApi):
    """One Consul server, which is its own datacenter.

    In development mode its data dies with the process. It answers plain HTTP unless it is given an authority: then only
    HTTPS, to clients with a certificate. With ACLs on, `token` is the management token, and anonymous sees nothing.
    """

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *,
        dev: bool = True,
        datacenter: str = "dc1",
        config: Config | None = None,
        acl: bool = False,
        authority: Authority | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.binary = binary
        self.folder = folder
        self.drop_in = folder / "conf.d"  # what others put there, the server reads at its start and at a reload
        self.drop_in.mkdir(exist_ok=True)
        self.dev = dev
        self.datacenter = datacenter
        self.port = free_port()
        self.server_name = f"server.{datacenter}.consul"
        self.ca_file: Path | None = authority.ca_file if authority else None
        self.client_pair: KeyPair | None = authority.client("client") if authority else None
        self._server_pair = authority.server(self.server_name) if authority else None
        super().__init__(self._new_client(), token=str(uuid.uuid4()) if acl else "")
        self._ports = {name: free_port() for name in ("server", "serf_lan", "serf_wan")}
        self._write("base.json", self._base())
        self._write("extra.json", config or {})
        self.process = Process(f"consul {datacenter}", self._command(), folder / "consul.log")

    @property
    def url(self) -> str:
        """Where the HTTP API is."""
        return f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self.port}"

    @property
    def node(self) -> str:
        """The name of the server's own node."""
        return f"server-{self.datacenter}"

    def _base(self) -> Config:
        off = {"dns": -1, "grpc": -1, "grpc_tls": -1}
        api = {"http": -1, "https": self.port} if self._server_pair else {"http": self.port, "https": -1}
        config: dict[str, object] = {
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "datacenter": self.datacenter,
            "disable_update_check": True,
            "log_level": "info",
            "node_name": self.node,
            "performance": {"raft_multiplier": 1},
            "ports": self._ports | off | api,
        }
        if self.token:
            tokens = {"initial_management": self.token, "agent": self.token}
            config["acl"] = {"enabled": True, "default_policy": "deny", "tokens": tokens}
        if self._server_pair:
            config["tls"] = {
                "https": {
                    "ca_file": str(self.ca_file),
                    "cert_file": str(self._server_pair.cert_file),
                    "key_file": str(self._server_pair.key_file),
                    "verify_incoming": True,
                }
            }
        return config

    def _command(self) -> list[str]:
        data = ["-server", "-bootstrap-expect=1", f"-data-dir={self.folder / 'data'}"]
        files = [f"-config-file={self.folder / name}" for name in ("base.json", "extra.json")]
        return [str(self.binary), "agent", *(["-dev"] if self.dev else data), *files, f"-config-dir={self.drop_in}"]

    def _write(self, name: str, config: Config) -> None:
        (self.folder / name).write_text(json.dumps(config, indent=2) + "\n")

    def _new_client(self) -> httpx.Client:
        verify = client_context(self.ca_file, self.client_pair)
        return httpx.Client(base_url=self.url, verify=verify, timeout=10, trust_env=False)

    def start(self) -> Self:
        """Start the server on its ports and wait until it has a leader and knows itself."""
        self.process.start(self._is_ready)
        return self

    def _is_ready(self) -> bool:
        try:
            # A consistent read is answered only by a leader that has heard from a majority.
            names = self.response("GET", "/v1/catalog/services?consistent").json()
        except (httpx.HTTPError, json.JSONDecodeError):
            return False
        return "consul" in names

    def stop(self) -> None:
        """Stop the server as its operator would."""
        self.process.stop()

    def restart(self) -> None:
        """Stop the server and start it on the same ports; in development mode, that loses everything."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Lose all data: stop, remove the data folder, start empty on the same ports."""
        self.stop()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self.start()

    def reload(self, config: Config | None = None) -> None:
        """Have the running server read its configuration, the extra one replaced if given, as `consul reload` does."""
        if config is not None:
            self._write("extra.json", config)
        self.request("PUT", "/v1/agent/reload")

    def close(self) -> None:
        """Stop the server for good."""
        self.process.stop()
        self.client.close()

    def __enter__(self) -> Self:
        return self.start()


class MakeConsul(Protocol):
    """Start one more Consul server, which the fixture ends."""

    def __call__(
        self,
        *,
        dev: bool = True,
        datacenter: str = "dc1",
        config: Config | None = None,
        acl: bool = False,
        tls: bool = False,
    ) -> Consul: ...
