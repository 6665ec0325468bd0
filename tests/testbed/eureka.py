"""A real Eureka server for tests, alone or as a peer of another: started on its own port, killed, paused, filled."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, Self

import httpx

from tests.testbed.build import JAVA_OPTIONS, binaries
from tests.testbed.eureka_api import EurekaApi
from tests.testbed.pki import Authority, KeyPair, client_context
from tests.testbed.processes import Process, Served, free_port

Value = str | int | bool

USER = "isthmus"

# Unless it knows a user, the server is as one without Spring Security, whose firewall refuses some paths.
_SECURITY = ",".join(
    f"org.springframework.boot.{name}AutoConfiguration"
    for name in (
        "autoconfigure.security.servlet.Security",
        "autoconfigure.security.servlet.SecurityFilter",
        "autoconfigure.security.servlet.UserDetailsService",
        "actuate.autoconfigure.security.servlet.ManagementWebSecurity",
    )
)


class Eureka(Served, EurekaApi):
    """One Eureka server; its data dies with the process, unless a peer has it.

    It keeps no read-only cache unless `cache` says so: then a delta or a full read is up to 30 s old, as by default.
    Servers are told apart by their address alone, so two peers need two addresses; they find each other by `peers`, the
    URLs of the others. `properties` are those of `eureka.server`, with `_` for `-`; `more` are any others, with their
    whole name. With a `password` it knows one user, by HTTP Basic; with an `authority` it answers HTTPS only.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        address: str = "127.0.0.1",
        peers: Sequence[str] = (),
        cache: bool = False,
        password: str = "",
        authority: Authority | None = None,
        demand_certificate: bool = False,
        heap: str = "256m",
        more: Mapping[str, Value] | None = None,
        jar: Path | None = None,
        **properties: Value,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        self.address = address
        self.server_name = "eureka.testbed"  # in its certificate, beside 127.0.0.1
        self.ca_file: Path | None = authority.ca_file if authority else None
        self.client_pair: KeyPair | None = authority.client("client") if authority else None
        self._authority = authority
        self._demand_certificate = demand_certificate
        self._password = password
        super().__init__(self._new_client())
        cached = server_properties({"use_read_only_response_cache": cache})
        self._write(self._base(peers) | cached | server_properties(properties) | dict(more or {}))
        jar = jar or binaries().eureka
        options = [*JAVA_OPTIONS, f"-Xmx{heap}", f"-XX:SharedArchiveFile={jar.with_suffix('.jsa')}"]
        located = f"--spring.config.location=file:{self.folder / 'application.properties'}"
        self.process = Process(
            f"eureka {address}:{self.port}", ["java", *options, "-jar", str(jar), located], folder / "eureka.log"
        )

    @property
    def url(self) -> str:
        """Where it answers its clients."""
        return f"{'https' if self.ca_file else 'http'}://{self.address}:{self.port}/eureka"

    def _base(self, peers: Sequence[str]) -> dict[str, Value]:
        base: dict[str, Value] = {
            "server.address": self.address,
            "server.port": self.port,
            "spring.application.name": "eureka",
            "spring.main.banner-mode": "off",
            "eureka.instance.hostname": self.address,  # by which it knows itself among the URLs of peers
            "eureka.client.service-url.defaultZone": ",".join(f"{url}/" for url in peers or (self.url,)),
            "eureka.client.register-with-eureka": False,
            "eureka.client.fetch-registry": bool(peers),
            # At its start it takes over what a peer has, if one answers at once.
            "eureka.server.registry-sync-retries": 1 if peers else 0,
            "eureka.server.peer-node-connect-timeout-ms": 1000,
            "eureka.server.peer-node-read-timeout-ms": 5000,
        }
        if self._password:
            base |= {"spring.security.user.name": USER, "spring.security.user.password": self._password}
        else:
            base["spring.autoconfigure.exclude"] = _SECURITY
        if self._authority:
            pair = self._authority.server(self.server_name)
            base |= {
                "server.ssl.certificate": f"file:{pair.cert_file}",
                "server.ssl.certificate-private-key": f"file:{pair.key_file}",
                "server.ssl.trust-certificate": f"file:{self._authority.ca_file}",
                "server.ssl.client-auth": "need" if self._demand_certificate else "none",
            }
        return base

    def _write(self, properties: Mapping[str, Value]) -> None:
        # A JSON value is one of a properties file, too, but for the quotes around a text.
        lines = [f"{key}={json.dumps(value).strip(chr(34))}\n" for key, value in properties.items()]
        (self.folder / "application.properties").write_text("".join(lines))

    def _new_client(self) -> httpx.Client:
        verify = client_context(self.ca_file, self.client_pair)
        user = httpx.BasicAuth(USER, self._password) if self._password else None
        return httpx.Client(base_url=f"{self.url}/", verify=verify, timeout=10, trust_env=False, auth=user)

    def start(self) -> Self:
        """Start the server and wait until it answers, with whatever it has; its clients come to it only then."""
        self.process.start(self.is_ready, deadline=90)
        return self

    def is_ready(self) -> bool:
        """Whether it answers, if only that it is not warm yet, or where to log in."""
        try:
            status = self.client.get("apps/", headers={"Accept": "application/json"}).status_code
        except httpx.HTTPError:
            return False
        return status in (httpx.codes.OK, httpx.codes.FOUND, httpx.codes.FORBIDDEN)

    def stop(self) -> None:
        """Stop the server as its operator would."""
        self.process.stop(patience=10)

    def restart(self) -> None:
        """Kill the server and start it on the same port: without peers, it comes back empty."""
        self.kill()
        self.start()

    def close(self) -> None:
        """End the server for good; it has nothing to save."""
        self.kill()
        self.client.close()

    def __enter__(self) -> Self:
        return self.start()


def server_properties(properties: Mapping[str, Value]) -> dict[str, Value]:
    """Give properties of the server their whole names."""
    return {f"eureka.server.{name.replace('_', '-')}": value for name, value in properties.items()}


def two_peers(
    folder: Path, *, cache: bool = False, jar: Path | None = None, **properties: Value
) -> tuple[Eureka, Eureka]:
    """Describe two servers that replicate to each other; they are not started."""
    ports = (free_port(), free_port())
    more = server_properties(properties)

    def server(number: int) -> Eureka:
        peer = f"http://127.0.0.{2 - number}:{ports[1 - number]}/eureka"
        address = f"127.0.0.{1 + number}"
        return Eureka(
            folder / address, port=ports[number], address=address, peers=(peer,), cache=cache, more=more, jar=jar
        )

    return server(0), server(1)


def start_together(*servers: Eureka) -> None:
    """Start several servers at once: each takes seconds."""
    with ThreadPoolExecutor(len(servers)) as pool:
        for started in [pool.submit(server.start) for server in servers]:
            started.result()


class MakeEureka(Protocol):
    """Start one more Eureka server, which the fixture ends."""

    def __call__(
        self,
        *,
        cache: bool = False,
        password: str = "",
        tls: bool = False,
        demand_certificate: bool = False,
        heap: str = "256m",
        more: Mapping[str, Value] | None = None,
        **properties: Value,
    ) -> Eureka: ...


class MakeEurekaPeers(Protocol):
    """Start two Eureka servers that replicate to each other, which the fixture ends."""

    def __call__(self, *, cache: bool = False, **properties: Value) -> tuple[Eureka, Eureka]: ...
