"""`isthmus check` against a real Consul and a real API server, which are broken on purpose."""

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.agents import RunningAgent, configuration, served_by
from tests.integration.check_run import Checked, check
from tests.testbed.apiserver import VERBS, ApiServer, MakeApiServer
from tests.testbed.consul import Consul, MakeConsul
from tests.testbed.pki import Authority
from tests.testbed.processes import free_port, wait_until

EVERYTHING = 'service_prefix "" { policy = "read" }\nnode_prefix "" { policy = "read" }\n'
OPTIONAL = [
    {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SECRETS = ("hush-hush",)


class Site:
    """A folder with a configuration for one Consul and one API server."""

    def __init__(self, folder: Path, consul: Consul, server: ApiServer, namespace: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.config: dict[str, Any] = configuration(consul, {"east": served_by(server, namespace)})
        self.consul: dict[str, Any] = self.config["registries"]["consul-dc1"]

    def east(self, **changes: Any) -> None:
        """Replace how the cluster is reached."""
        self.config["clusters"]["east"] = {"namespace": self.config["clusters"]["east"]["namespace"], **changes}

    def secret(self, name: str, content: str) -> str:
        """Write a file that only we can read."""
        file = self.folder / name
        file.write_text(content)
        file.chmod(0o600)
        return str(file)

    def check(self, *arguments: str) -> Checked:
        """Run the command; whatever happens, it shows neither a traceback nor a secret."""
        (self.folder / "isthmus.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))
        return check(self.folder / "isthmus.yaml", *arguments, secrets=SECRETS)


@pytest.fixture
def site(tmp_path: Path, consul: Consul, api_server: ApiServer, namespace: str) -> Site:
    consul.register("orders", "orders-1", address="10.1.0.1", port=8080)
    return Site(tmp_path / "site", consul, api_server, namespace)


# What is well


def test_a_healthy_setup_is_all_ok_and_nothing_is_written(site: Site, api_server: ApiServer, namespace: str) -> None:
    api_server.grant_rules(namespace, OPTIONAL, name="check")
    writes = api_server.writes()
    checked = site.check()
    assert checked.code == 0
    assert [finding for finding in checked.findings if finding["level"] != "ok"] == checked.of("note")
    (reminder,) = checked.of("note")
    assert "ISTIO_META_DNS_CAPTURE" in reminder["remedy"]
    told = " | ".join(finding["seen"] for finding in checked.of("ok"))
    assert "Consul 1.19.2 answers" in told
    assert "1 service in scope, 1 node" in told
    assert "Kubernetes v1.37.2 answers, and takes the credential for user isthmus" in told
    assert (
        f"may get, list, watch, create, update, delete serviceentries and workloadentries in namespace {namespace}"
        in told
    )
    assert checked.policies == {}  # ACLs are off
    assert api_server.writes() == writes
    assert [path.name for path in site.folder.iterdir()] == ["isthmus.yaml"]


def test_an_agent_may_run_meanwhile(site: Site) -> None:
    site.config["status"] = f"127.0.0.1:{free_port()}"
    agent = RunningAgent(site.folder, site.config)
    with agent:
        wait_until(agent.is_settled, "the agent has caught up")
        checked = site.check()
        assert checked.code == 0
        checked.tells("state", "an agent of this configuration runs", "", "note")
        assert checked.of("warning") == []
        assert agent.is_settled()


def test_what_a_killed_agent_left_is_not_touched(site: Site) -> None:
    with RunningAgent(site.folder, site.config) as agent:
        wait_until(agent.is_settled, "the agent has caught up")
        agent.kill()
    site.check()  # which writes the configuration file
    before = _contents(site.folder)
    assert "state.db-wal" in before
    assert site.check().code == 0
    assert _contents(site.folder) == before


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# Faults of the cluster's credential and connection


def test_a_kubeconfig_that_is_missing(site: Site) -> None:
    site.east(kubeconfig="missing.kubeconfig")
    checked = site.check()
    assert checked.code == 1
    file = site.folder / "missing.kubeconfig"
    checked.tells("cluster east", f"{file}: No such file or directory", f"put a kubeconfig at {file}")
    assert [one for one in checked.of("ok") if one["place"] == "registry consul-dc1"]


def test_a_context_that_is_missing(site: Site, api_server: ApiServer) -> None:
    site.east(kubeconfig=str(api_server.kubeconfig()), context="east")
    checked = site.check()
    assert checked.code == 1
    checked.tells("cluster east", "Expected object with name east", "clusters.east.context; there are: testbed")


def test_a_token_that_is_not_known(site: Site) -> None:
    site.config["clusters"]["east"]["token_file"] = file = site.secret("east.token", "hush-hush")
    checked = site.check()
    assert checked.code == 1
    checked.tells("cluster east", "401 Unauthorized", "it expired, or is of another cluster: put a new one there")
    checked.tells("cluster east", f"does not take the credential in {file}", "")


def test_a_token_that_has_expired(site: Site) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": time.time() - 7200}).encode()).decode().rstrip("=")
    site.config["clusters"]["east"]["token_file"] = site.secret("east.token", f"e30.{claims}.hush-hush")
    checked = site.check()
    assert checked.code == 1
    checked.tells("cluster east", "401 Unauthorized", "the token expired 2 h ago")


def test_another_authority_than_the_one_of_the_api_server(site: Site) -> None:
    ca_file = Authority(site.folder / "pki").ca_file
    site.config["clusters"]["east"]["ca_file"] = str(ca_file)
    checked = site.check()
    assert checked.code == 1
    checked.tells("cluster east", "certificate verify failed", f"{ca_file} must hold the certificate of the authority")


def test_an_api_server_that_is_down(site: Site) -> None:
    site.config["clusters"]["east"]["server"] = f"https://127.0.0.1:{free_port()}"
    checked = site.check()
    assert checked.code == 1
    remedy = "nothing listens there: start the API server, or mend clusters.east.server"
    checked.tells("cluster east", "Connection refused", remedy)


def test_a_host_name_that_nobody_knows(site: Site) -> None:
    site.config["clusters"]["east"]["server"] = "https://no-such-host.invalid:6443"
    site.consul["url"] = "http://no-such-host.invalid:8500"
    checked = site.check()
    assert checked.code == 1
    checked.tells("cluster east", "name cannot be resolved", "mend the host name in clusters.east.server")
    checked.tells("registry consul-dc1", "cannot be reached", "mend the host name in registries.consul-dc1.url")


@pytest.mark.parametrize(
    ("command", "remedy"),
    [("no-such-plugin", "install no-such-plugin"), ("false", "run false, as the user that isthmus")],
)
def test_a_credential_plugin_that_is_missing_or_fails(
    site: Site, api_server: ApiServer, command: str, remedy: str
) -> None:
    content = json.loads(api_server.kubeconfig().read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "interactiveMode": "Never"}
    content["users"][0]["user"] = {"exec": plugin}
    site.east(kubeconfig=site.secret("plugin.kubeconfig", json.dumps(content)))
    checked = site.check()
    assert checked.code == 1
    checked.tells("cluster east", "its user gives no credential", remedy)


def test_an_api_server_that_hangs_hides_nothing(site: Site, make_api_server: MakeApiServer) -> None:
    server = make_api_server()
    site.config["limits"] = {"write_timeout": "1s", "connect_timeout": "1s"}
    site.config["clusters"]["hung"] = served_by(server, site.config["clusters"]["east"]["namespace"])
    server.pause()
    try:
        checked = site.check()
    finally:
        server.resume()
    assert checked.code == 1
    assert [one["place"] for one in checked.of("error")] == ["cluster hung"]
    checked.tells("cluster hung", "in time", "the API server")


# Faults in the cluster


def test_definitions_that_are_not_installed_and_reviews_that_are_forbidden(
    site: Site, make_api_server: MakeApiServer
) -> None:
    server = make_api_server()
    server.create_namespace("legacy")
    site.config["clusters"]["east"] = served_by(server, "legacy")
    server.request("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:basic-user")
    wait_until(
        lambda: "did not look whether it may watch" in json.dumps(site.check().findings), "reviews are forbidden"
    )
    checked = site.check()
    assert checked.code == 1
    checked.tells("cluster east", "it may not list serviceentries in namespace legacy", "isthmus rbac east")
    checked.tells("cluster east", "it may not create selfsubjectaccessreviews", "system:basic-user", "note")
    for plural in ("serviceentries", "workloadentries"):
        server.request("DELETE", f"{CRDS}/{plural}.networking.istio.io")
    wait_until(lambda: "is not served" in json.dumps(site.check().findings), "the group is gone")
    site.check().tells("cluster east", "networking.istio.io is not served", "install Istio's CRDs, 1.24 or newer")


def test_a_namespace_that_is_missing(site: Site, api_server: ApiServer) -> None:
    site.east(kubeconfig=str(api_server.kubeconfig(api_server.admin_token)))
    site.config["clusters"]["east"]["namespace"] = "nowhere"
    checked = site.check()
    assert checked.code == 1
    checked.tells("cluster east", "there is no namespace nowhere", "kubectl create namespace nowhere")


def test_a_namespace_that_may_not_be_seen_is_not_looked_at(site: Site, namespace: str) -> None:
    checked = site.check()
    assert checked.code == 0
    checked.tells("cluster east", f"did not look whether there is namespace {namespace}", "isthmus rbac east", "note")
    checked.tells("cluster east", "it may not list services", "isthmus rbac east", "note")


def test_each_verb_that_is_missing_is_named(site: Site, api_server: ApiServer, namespace: str) -> None:
    for verb in VERBS:
        api_server.revoke(namespace)
        api_server.grant(namespace, [other for other in VERBS if other != verb])
        checked = site.check()
        assert checked.code == 1
        assert [finding["seen"] for finding in checked.of("error")] == [
            f"it may not {verb} {resource} in namespace {namespace}"
            for resource in ("serviceentries", "workloadentries")
        ]


def test_a_policy_that_does_less_needs_less(site: Site, api_server: ApiServer, namespace: str) -> None:
    api_server.revoke(namespace)
    api_server.grant(namespace, ["get", "list", "watch", "create", "update"])
    assert site.check().code == 1
    site.config["clusters"]["east"]["policy"] = "upsert-only"
    assert site.check().code == 0
    api_server.revoke(namespace)
    api_server.grant(namespace, ["list", "watch"])
    assert site.check().code == 1
    site.config["clusters"]["east"]["policy"] = "paused"
    assert site.check().code == 0


def test_a_service_whose_selector_matches_and_a_service_entry_with_our_host(
    site: Site, api_server: ApiServer, namespace: str
) -> None:
    api_server.grant_rules(namespace, OPTIONAL, name="check")
    spec = {"selector": {"app": "orders"}, "ports": [{"port": 80}]}
    api_server.request(
        "POST", f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": "theirs"}, "spec": spec}
    )
    entry = {"hosts": ["orders.mesh.internal"], "resolution": "STATIC", "ports": [{"name": "main", "number": 80}]}
    metadata = {"name": "by-hand", "namespace": namespace}
    api_server.create(
        {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata, "spec": entry}
    )
    site.config["rules"] = [{"match": {"service": "orders"}, "labels": {"app": "orders"}}]
    checked = site.check()
    assert checked.code == 0
    seen = f"the Service {namespace}/theirs selects app=orders, and so the WorkloadEntries of orders.mesh.internal"
    checked.tells("cluster east", seen, "take that label out of rules[0]", "warning")
    seen = f"cluster east has the ServiceEntry {namespace}/by-hand with this host"
    checked.tells("host orders.mesh.internal", seen, "delete it", "warning")


# Faults of the registry


def test_a_consul_that_is_down(site: Site, consul: Consul) -> None:
    consul.stop()
    checked = site.check()
    assert checked.code == 1
    checked.tells("registry consul-dc1", "Connection refused", "start Consul, or mend registries.consul-dc1.url")


def test_a_datacenter_that_is_not_known(site: Site) -> None:
    site.consul["datacenter"] = "dc9"
    checked = site.check()
    assert checked.code == 1
    checked.tells(
        "registry consul-dc1", "knows no datacenter 'dc9'; known are: dc1", "mend registries.consul-dc1.datacenter"
    )


def test_one_datacenter_under_two_names(site: Site) -> None:
    site.config["registries"]["again"] = {**site.consul, "datacenter": "dc1"}
    checked = site.check()
    assert checked.code == 0
    checked.tells(
        "configuration", "consul-dc1 and again are the same datacenter, dc1", "take one of them out", "warning"
    )


def test_a_probe_that_is_not_there(site: Site) -> None:
    site.consul |= {"services": ["order*"], "probe": "order-probe"}
    checked = site.check()
    assert checked.code == 1
    checked.tells(
        "registry consul-dc1", "the probe order-probe cannot be read", "register an instance of it, or name another"
    )


def test_an_agent_that_grants_few_connections(site: Site, make_consul: MakeConsul) -> None:
    config = {"limits": {"http_max_conns_per_client": 20}}
    site.consul["url"] = make_consul(config=config).url
    checked = site.check()
    assert checked.code == 0
    seen = "`parked` takes 150 connections from one address, and Consul grants each 20"
    checked.tells("registry consul-dc1", seen, "lower registries.consul-dc1.parked", "note")


def test_a_token_and_what_it_may_see(site: Site, make_consul: MakeConsul) -> None:
    consul = make_consul(acl=True)
    site.consul["url"] = consul.url
    for name in ("team-a-x", "team-a-probe", "other"):
        consul.register(name, address="10.1.0.1", port=80)
    place = "registry consul-dc1"

    checked = site.check()
    assert checked.code == 1
    checked.tells(
        place, "ACLs are on, and no token_file is named", "name its file as registries.consul-dc1.token_file", "warning"
    )
    checked.tells(place, "the probe consul cannot be read", "make a token with the policy that is printed here")
    assert checked.policies == {"consul-dc1": EVERYTHING}

    site.consul["token_file"] = file = site.secret("consul.token", "hush-hush")
    checked = site.check()
    assert checked.code == 1
    checked.tells(place, f"Consul does not know the token in {file}", "write the SecretID of a token that exists")

    narrow = consul.create_token('service_prefix "team-a-x" { policy = "read" }\nnode_prefix "" { policy = "read" }')
    site.secret("consul.token", narrow)
    checked = site.check()
    assert checked.code == 1
    checked.tells(place, "the list of services cannot be read", "or narrow registries.consul-dc1.services")
    site.consul |= {"services": ["team-a*"], "probe": "team-a-probe"}
    checked = site.check()
    assert checked.code == 1
    checked.tells(place, "the probe team-a-probe cannot be read", f"give the token in {file} the policy")

    consul.set_rules(narrow, 'service_prefix "team-a" { policy = "read" }')
    wait_until(lambda: "no node is shown" in json.dumps(site.check().of("error")), "the token sees no node")

    consul.set_rules(narrow, checked.policies["consul-dc1"])
    wait_until(lambda: site.check().code == 0, "the printed policy is enough")


def test_the_printed_policy_is_enough_for_the_agent(site: Site, make_consul: MakeConsul) -> None:
    consul = make_consul(acl=True)
    for name in ("team-a-x", "team-a-probe", "other"):
        consul.register(name, address="10.1.0.1", port=80)
    site.consul |= {"url": consul.url, "services": ["team-a*"], "probe": "team-a-probe"}
    site.consul["token_file"] = site.secret("consul.token", consul.create_token(site.check().policies["consul-dc1"]))
    site.config["limits"] = {"wait": "2s"}
    with RunningAgent(site.folder, site.config) as agent:
        wait_until(agent.is_settled, "the agent has caught up")
        wait_until(lambda: _parked(agent) == 2, "its services are parked")


def _parked(agent: RunningAgent) -> int:
    return int(agent.status()["registries"]["consul-dc1"]["parked"]["parked"])


def _tls(consul: Consul) -> Mapping[str, Any]:
    assert consul.client_pair is not None
    cert_file, key_file = consul.client_pair.cert_file, consul.client_pair.key_file
    key_file.chmod(0o600)
    return {"url": consul.url, "ca_file": str(consul.ca_file), "cert_file": str(cert_file), "key_file": str(key_file)}


def test_what_can_be_wrong_with_tls(site: Site, make_consul: MakeConsul) -> None:
    consul = make_consul(tls=True)
    consul.register("orders", address="10.1.0.1", port=80)
    good = {**site.consul, **_tls(consul)}
    other = Authority(site.folder / "pki")
    stranger = other.client("stranger")
    stranger.key_file.chmod(0o600)
    plain = make_consul().url

    def wrong(seen: str, remedy: str, **changes: Any) -> None:
        site.config["registries"]["consul-dc1"] = {key: value for key, value in {**good, **changes}.items() if value}
        checked = site.check()
        assert checked.code == 1
        checked.tells("registry consul-dc1", seen, remedy)

    site.config["registries"]["consul-dc1"] = good
    assert site.check().code == 0
    wrong("certificate verify failed", f"{other.ca_file} must hold the certificate", ca_file=str(other.ca_file))
    wrong(
        "certificate verify failed",
        "name a host for which its certificate was issued",
        tls_server_name="consul.example",
    )
    wrong("", "Consul wants a client certificate", cert_file=None, key_file=None)
    wrong("", "client certificate", cert_file=str(stranger.cert_file), key_file=str(stranger.key_file))
    wrong("speaks https", "write https://", url=consul.url.replace("https", "http"))
    wrong("", "write http:// in registries.consul-dc1.url", url=plain.replace("http", "https"))


# Faults of the configuration


def test_a_state_file_of_another_owner(site: Site) -> None:
    with RunningAgent(site.folder, site.config) as agent:
        wait_until(agent.is_settled, "the agent has caught up")
        agent.stop()
    site.config["owner"] = "dc2"
    checked = site.check()
    assert checked.code == 10
    checked.tells("configuration", "was written under 'dc1'", "name the old owner again")


def test_a_hook_token_that_is_missing(site: Site) -> None:
    site.config["receiver"] = {"http": f"127.0.0.1:{free_port()}", "token_file": "hook.token"}
    checked = site.check()
    assert checked.code == 10
    file = site.folder / "hook.token"
    checked.tells("configuration", f"token file {file} cannot be read", f"write a long random word into {file}")


def test_a_namespace_that_only_the_state_remembers_is_looked_at(
    site: Site, api_server: ApiServer, namespace: str
) -> None:
    old = f"{namespace}-before"
    api_server.create_namespace(old)
    api_server.grant(old)
    site.config["rules"] = [{"namespace": old}]
    with RunningAgent(site.folder, site.config) as agent:
        wait_until(agent.is_settled, "the agent has caught up")
        agent.stop()
    api_server.revoke(old)
    del site.config["rules"]
    checked = site.check()
    assert checked.code == 1
    checked.tells("cluster east", f"delete serviceentries in namespace {old}", "isthmus rbac east")
