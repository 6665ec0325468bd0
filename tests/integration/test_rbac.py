"""Who has exactly what `isthmus rbac` prints can do all that isthmus does, and without one verb of it cannot."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.agents import RunningAgent, configuration, served_by
from tests.testbed.apiserver import RBAC, VERBS, ApiServer
from tests.testbed.consul import Consul
from tests.testbed.processes import wait_until

COMMAND = (sys.executable, "-W", "error", str(Path(sys.executable).with_name("isthmus")))
PLURALS = {"Role": "roles", "RoleBinding": "rolebindings"}


class Site:
    """A configuration for a service account that nobody has allowed anything yet, and two namespaces."""

    def __init__(self, folder: Path, consul: Consul, server: ApiServer, namespace: str) -> None:
        self.consul = consul
        self.server = server
        self.namespace = namespace
        self.folder = folder
        self.other = f"{namespace}-other"
        server.create_namespace(self.other)
        served = {**served_by(server, namespace), "token_file": str(self._account(folder))}
        rules = [{"match": {"service": "web"}, "namespace": self.other}]
        self.config = configuration(consul, {"east": served}, rules=rules, limits={"empty_grace": "100ms"})
        self.file = folder / "isthmus.yaml"
        self.configure("sync")

    def configure(self, policy: str) -> None:
        """Write the configuration, with a policy."""
        self.config["clusters"]["east"]["policy"] = policy
        self.file.write_text(yaml.safe_dump(self.config))

    def _account(self, folder: Path) -> Path:
        where = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        self.server.request("POST", where, {"metadata": {"name": "isthmus"}})
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = self.server.request("POST", f"{where}/isthmus/token", request)["status"]["token"]
        file = folder / "account.token"
        file.write_text(token)
        file.chmod(0o600)
        return file

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run the command, which must end with a code, and return what it printed."""
        command = [*COMMAND, *arguments, "--config", str(self.file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def printed(self) -> list[dict[str, Any]]:
        """Return the objects that `rbac` prints."""
        return [one for one in yaml.safe_load_all(self("rbac", "east")) if one]

    def optional(self) -> list[dict[str, Any]]:
        """Return the objects that `rbac` prints as a comment."""
        text = self("rbac", "east")
        lines = text[text.index("# ---\n") :].splitlines()
        return [one for one in yaml.safe_load_all("\n".join(line[2:] for line in lines)) if one]

    def grant(self, objects: Iterable[Mapping[str, Any]], without: str = "") -> None:
        """Apply roles and bindings, without one verb, and wait until `check` sees them."""
        for one in objects:
            rules = [{**rule, "verbs": [v for v in rule["verbs"] if v != without]} for rule in one.get("rules", [])]
            body = {**one, "rules": rules} if rules else one
            metadata = one["metadata"]
            where = f"/apis/{RBAC}/v1/namespaces/{metadata['namespace']}/{PLURALS[one['kind']]}"
            known = {item["metadata"]["name"] for item in self.server.request("GET", where)["items"]}
            if metadata["name"] in known:
                self.server.request("PUT", f"{where}/{metadata['name']}", body)
            else:
                self.server.request("POST", where, body)
        expected = {f"it may not {without} {kind} in namespace {namespace}" for kind, namespace in self.places()}
        wait_until(lambda: set(self.errors()) == (expected if without else set()), "the grant counts")

    def places(self) -> list[tuple[str, str]]:
        """Return every kind in every namespace."""
        return [(kind, name) for name in (self.namespace, self.other) for kind in ("serviceentries", "workloadentries")]

    def errors(self) -> list[str]:
        """Return the errors that `check` finds."""
        command = [*COMMAND, "check", "-o", "json", "--config", str(self.file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        findings = json.loads(done.stdout)["findings"]
        errors = [finding["seen"] for finding in findings if finding["level"] == "error"]
        assert done.returncode == (1 if errors else 0)
        return errors


@pytest.fixture
def site(tmp_path: Path, consul: Consul, api_server: ApiServer, namespace: str) -> Site:
    for number in range(1, 5):
        consul.register("orders", f"orders-{number}", address=f"10.1.0.{number}", port=80, node="node-1")
    consul.register("web", "web-1", address="10.2.0.1", port=80, node="node-1")
    return Site(tmp_path, consul, api_server, namespace)


def test_what_is_printed_is_enough_for_everything_that_the_agent_does(site: Site) -> None:
    assert len(site.errors()) == len(site.places())  # nothing is allowed yet, and `check` says so
    site.grant(site.printed())
    assert "7 objects, 7 writes" in site("once")
    site.consul.register("orders", "orders-1", address="10.1.0.1", port=80, node="node-1", meta={"version": "v2"})
    site.consul.deregister("orders-4", node="node-1")
    assert "6 objects, 2 writes" in site("once")
    with RunningAgent(site.folder, site.config) as agent:
        wait_until(agent.is_settled, "the agent watches")
        site.consul.deregister("orders-3", node="node-1")
        wait_until(lambda: len(site.server.objects("WorkloadEntry", site.namespace)) == 2, "it is gone")
        assert agent.status()["clusters"]["east"]["error"] == ""


def test_the_optional_part_lets_check_look_at_everything(site: Site) -> None:
    site.grant(site.printed())
    assert "did not look" in site("check")
    site.grant(site.optional())
    wait_until(lambda: "did not look" not in site("check"), "nothing is left out")
    site.server.request("DELETE", f"/api/v1/namespaces/{site.other}")
    seen = f"namespace {site.other} is being deleted"
    wait_until(lambda: any(error.startswith(seen) for error in site.errors()), "its end is seen")


@pytest.mark.parametrize(("policy", "told"), [("upsert-only", "7 objects, 7 writes"), ("paused", "paused, 7 waiting")])
def test_a_policy_that_does_less_gets_along_with_less(site: Site, policy: str, told: str) -> None:
    site.configure(policy)
    granted = site.printed()
    assert "delete" not in granted[0]["rules"][0]["verbs"]
    site.grant(granted)
    assert told in site("once")
    site.consul.deregister("orders-4", node="node-1")
    assert "0 writes" in site("once")


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_needed_and_check_names_it_when_it_is_missing(site: Site, verb: str) -> None:
    if verb == "get":
        _make_by_hand(site)
    if verb in ("update", "delete"):
        site.grant(site.printed())
        site("once")
    site.grant(site.printed(), without=verb)  # waits until `check` names just that verb
    site.consul.register("orders", "orders-1", address="10.1.0.1", port=80, node="node-1", meta={"version": "v2"})
    site.consul.deregister("orders-4", node="node-1")
    if verb == "watch":
        with RunningAgent(site.folder, site.config) as agent:
            wait_until(lambda: "403 Forbidden" in _error(agent), "the watch is refused")
            assert "watch" in _error(agent)
    else:
        told = site("once", code=1)
        assert "403 Forbidden" in told
        assert f"cannot {verb} resource" in told


def _error(agent: RunningAgent) -> str:
    try:
        return str(agent.status()["clusters"]["east"]["error"])
    except OSError:
        return ""


def _make_by_hand(site: Site) -> None:
    """Take the name of an object of isthmus', so that it has to look at what is there."""
    spec = {"hosts": ["orders.mesh.internal"], "resolution": "STATIC", "ports": [{"name": "main", "number": 80}]}
    metadata = {"name": "orders.mesh.internal", "namespace": site.namespace}
    site.server.create(
        {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata, "spec": spec}
    )
