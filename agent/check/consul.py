"""One Consul: whether it can be read as the agent reads it, by the agent's own client."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import NoReturn, TypeVar

from agent.check.finding import Finding, Level, error, note, ok, registry, warning
from agent.check.network import Server, advice, failed
from agent.check.seen import Seen
from agent.words import count
from hooks.consul.client import ConsulClient, unaskable
from hooks.consul.parked import SHARED
from hooks.consul.settings import ConsulSettings
from hooks.consul.sources import A_SOURCE, Sources
from hooks.consul.transport import Reply, Transport
from hooks.secret import read_token
from state.errors import RegistryError
from state.limits import Limits

SERVICES = "/v1/catalog/services"
CUT = 200  # characters of an answer that is shown
RAFT = "see which servers run, and whether they reach one another: `consul operator raft list-peers`"

T = TypeVar("T")


class StopError(Exception):
    """Nothing more can be seen of this registry."""


def check_registry(settings: ConsulSettings, limits: Limits) -> Seen:
    """Return how it is with a registry, which is only read."""
    with closing(Transport(settings, limits)) as transport, closing(ConsulClient(settings, limits)) as client:
        look = _Look(settings, transport)
        with suppress(StopError):
            look.ask_leader()
            own = look.ask_agent()
            look.ask_token()
            look.read_all(client)
            look.see_share(own)
        return Seen(tuple(look.findings), look.datacenter, look.leader, look.acls, look.services)


class _Look:
    """One look at one Consul, from what every server tells to what only a good token is told."""

    def __init__(self, settings: ConsulSettings, transport: Transport) -> None:
        self.findings: list[Finding] = []
        self.datacenter = settings.datacenter
        self.leader = ""
        self.acls: bool | None = None
        self.services: frozenset[str] | None = None
        self._settings = settings
        self._place = registry(settings.name)
        self._key = f"registries.{settings.name}"
        self._transport = transport
        self._token = ""
        self._server = Server(
            what="Consul",
            url=settings.url,
            address=f"{self._key}.url",
            ca=str(settings.ca_file or f"{self._key}.ca_file"),
            name=f"{self._key}.tls_server_name",
        )

    # What every server tells

    def ask_leader(self) -> None:
        """See whether a Consul answers that has a leader in the datacenter."""
        url = self._settings.url
        reply = self._get("/v1/status/leader")
        told = _json(reply)
        if reply.code == 500 and b"No path to datacenter" in reply.content:
            known = ", ".join(self._datacenters()) or "unknown"
            seen = f"{url} knows no datacenter {self._settings.datacenter!r}; known are: {known}"
            self._stop(seen, f"mend {self._key}.datacenter")
        if reply.code == 400 and b"HTTPS server" in reply.content:
            self._stop(f"what answers at {url} speaks https", f"write https:// in {self._server.address}")
        if told == "" or (reply.code == 500 and (b"leader" in reply.content or b"servers" in reply.content)):
            self._stop(f"the datacenter has no leader: {url} answers {reply.code}, {self._shown(reply)}", RAFT)
        if reply.code == 200 and isinstance(told, str):
            self.leader = told
        elif not any(name.lower().startswith("x-consul-") for name in self._get(SERVICES).headers):
            seen = f"what answers at {url} is not Consul: {reply.code}, {self._shown(reply)}"
            self._stop(seen, f"name the address of Consul's HTTP API in {self._server.address}, port 8500 by default")

    def ask_agent(self) -> Mapping[str, object]:
        """Return the own settings of the Consul agent that answers, none where the token may not read them."""
        reply = self._get("/v1/agent/self", anywhere=True)
        content = _object(_json(reply) if reply.code == 200 else None)
        own = _object(content.get("Config"))
        if own:
            version = str(own.get("Version", ""))
            self.datacenter = self.datacenter or str(own.get("Datacenter", ""))
        else:
            version = str(_object(_json(self._get("/v1/agent/version", anywhere=True))).get("HumanVersion", ""))
            # They come by their distance, so its own is the first.
            self.datacenter = self.datacenter or next(iter(self._datacenters()), "")
        told = f"Consul {version}" if version else "a Consul that does not show its version (agent:read would allow it)"
        named = f" for datacenter {self.datacenter}" if self.datacenter else ""
        self._ok(f"{told} answers at {self._settings.url}{named}{', which has a leader' if self.leader else ''}")
        return _object(content.get("DebugConfig"))

    def _datacenters(self) -> list[str]:
        known = _json(self._get("/v1/catalog/datacenters", anywhere=True))
        return [str(one) for one in known] if isinstance(known, list) else []

    # The token

    def ask_token(self) -> None:
        """See whether Consul knows the token."""
        reply = self._get("/v1/acl/token/self", anywhere=True)
        file = self._settings.token_file
        if reply.code not in (200, 401, 403):
            return
        self.acls = reply.code != 401
        if not self.acls:
            if file is not None:
                self.findings.append(note(self._place, f"ACLs are off: the token in {file} opens nothing"))
        elif file is None:
            seen = "ACLs are on, and no token_file is named: isthmus reads as anonymous"
            self.findings.append(warning(self._place, seen, self._policy()))
        elif reply.code == 403 and b"ACL not found" in reply.content:
            seen = f"Consul does not know the token in {file}: it answers 403, {self._shown(reply)}"
            self._stop(seen, f"write the SecretID of a token that exists into {file}: `consul acl token create`")
        else:
            self._ok(f"Consul knows the token in {file}")

    # What the agent reads

    def read_all(self, client: ConsulClient) -> None:
        """Read each endpoint that the agent reads, as it does."""
        probe = self._settings.probe
        self.services = self._read("the list of services", lambda: frozenset(client.services().body))
        nodes = self._read("the list of nodes", lambda: client.nodes().body)
        if nodes is not None and not nodes:
            self.findings.append(error(self._place, "no node is shown, so no instance will be", self._policy()))
        self._read("the set of critical checks", lambda: client.state("critical").body)
        self._read("the set of warning checks", lambda: client.state("warning").body)
        self._read(f"the probe {probe}", client.probe)
        sample = next((name for name in sorted(self.services or ()) if name != probe and not unaskable(name)), "")
        if sample:
            self._read(f"service {sample}", lambda: client.service(sample))
        if self.services is not None and not self.services:
            seen = (
                f"no service in scope is registered ({', '.join(self._settings.services)}): nothing will be published"
            )
            self.findings.append(warning(self._place, seen, f"register one, or mend {self._key}.services: case counts"))
        if self.services is not None and all(finding.level is not Level.ERROR for finding in self.findings):
            seen = f"{count(len(self.services), 'service')} in scope, {count(len(nodes or ()), 'node')}"
            self._ok(f"can be read as the agent reads it: {seen}, the checks, the probe {probe}")

    def _read(self, what: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except RegistryError as problem:
            seen = f"{what} cannot be read: {str(problem).removeprefix(f'{self._settings.name}: ')}"
            if failed(problem):
                self._stop(seen, advice(problem, self._server))
            self.findings.append(error(self._place, seen, self._mends(str(problem))))
            return None

    def _mends(self, told: str) -> str:
        empty = "the answer is empty" in told
        if empty and self.acls is False:
            return f"register an instance of it, or name another service that is always there as {self._key}.probe"
        if empty or "answered 403" in told or "Filtered-By-ACLs" in told:
            scope = f", or narrow {self._key}.services to what it may see" if "Filtered-By-ACLs" in told else ""
            return self._policy() + scope
        return "see what Consul logs of it"

    def _policy(self) -> str:
        if file := self._settings.token_file:
            return f"give the token in {file} the policy that is printed here for this registry"
        return f"make a token with the policy that is printed here, and name its file as {self._key}.token_file"

    # How fresh, and how many at a time

    def see_share(self, own: Mapping[str, object]) -> None:
        """See how many connections Consul grants; ``own`` are its agent's settings."""
        granted = own.get("HTTPMaxConnsPerClient")
        most_from_one = A_SOURCE if Sources(self._settings).own else SHARED
        needed = min(self._settings.parked, most_from_one)
        if isinstance(granted, int) and 0 < granted < needed:
            seen = f"`parked` takes {needed} connections from one address, and Consul grants each {granted}"
            remedy = f"lower {self._key}.parked, or raise limits.http_max_conns_per_client there: else fewer are parked"
            self.findings.append(note(self._place, seen, remedy))

    # Asking

    def _get(self, path: str, *, anywhere: bool = False) -> Reply:
        """Return an answer, whatever it is; ``anywhere`` asks the agent itself rather than the datacenter."""
        params = [("dc", self._settings.datacenter)] if self._settings.datacenter and not anywhere else []
        try:
            self._token = read_token(self._settings.token_file)
        except RegistryError as problem:
            self._stop(str(problem), f"write the SecretID of a token into {self._settings.token_file}")
        try:
            return self._transport.get(path, params, {"X-Consul-Token": self._token} if self._token else {})
        except RegistryError as problem:
            self._stop(f"{self._settings.url} cannot be reached: {problem}", advice(problem, self._server))

    def _shown(self, reply: Reply) -> str:
        text = reply.content[: 10 * CUT].decode("utf-8", "replace")
        text = text.replace(self._token, "***") if self._token else text
        return " ".join(text.split())[:CUT] or "an empty body"

    def _ok(self, seen: str) -> None:
        self.findings.append(ok(self._place, seen))

    def _stop(self, seen: str, remedy: str) -> NoReturn:
        self.findings.append(error(self._place, seen, remedy))
        raise StopError


def _json(reply: Reply) -> object:
    try:
        return json.loads(reply.content)
    except (ValueError, RecursionError):
        return None


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
