"""The situations in which an operator asks, each answer checked."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.authorship import Stated
from agent.cli import main
from agent.daemon import Agent
from agent.demo.registry import EmbeddedRegistry, Trouble
from agent.explain import explain, recall
from agent.explaining.asked import parse
from agent.explaining.objects import desired
from agent.explaining.sights import ClusterSight, RegistrySight
from agent.naming import workload_entry_name
from agent.rules import Identity, Match, Rule
from agent.web.control import ControlServer, create_app
from state.errors import ClusterError, Fault
from state.model import (
    AUTHOR,
    HOST_LABEL,
    INHERITED,
    OWNER_LABEL,
    SERVICE_ENTRY,
    WORKLOAD_ENTRY,
    Absence,
    Held,
    Resource,
    ResourceKey,
    digest_of,
)
from tests.dc import REGISTRY
from tests.testbed.processes import wait_until
from tests.unit.explained import CONSUL, EUREKA, LIMITS, cluster_row, estate, in_consul, in_eureka, sources

ORDERS = "orders.mesh.internal"
ENDPOINT = "10.0.0.1:8080"
ENTRY = ResourceKey(SERVICE_ENTRY, "legacy", ORDERS)
WORKLOAD = ResourceKey(WORKLOAD_ENTRY, "legacy", workload_entry_name(ORDERS, "10.0.0.1", 8080))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_what_is_healthy_is_said_to_be_in_service_with_the_source_of_every_value(tmp_path: Path) -> None:
    rule = Rule(
        number=0,
        match=Match(service="orders"),
        port=9000,
        protocol="HTTP",
        labels=(("team", "orders"),),
        aliases=("orders.service.consul",),
        export_to=("shop",),
        identity=Identity("orders", "istio"),
    )
    with estate(tmp_path, rules=(rule,)) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul(version="v3", locality="eu-west/a", weight=10))
        host, endpoint = site.host("orders"), site.endpoint(ENDPOINT)
    assert host["verdict"] == f"{ORDERS} has 1 of 1 endpoint in service, and every cluster is as it should be."
    assert endpoint["verdict"] == f"{ENDPOINT} is in service, and east and west have it."
    assert sources(host) == {
        "host": (ORDERS, "the template {service}.{domain}"),
        "namespace": ("east: legacy, west: legacy", "each cluster's own"),
        "port": ("9000", "rules[0].port"),
        "protocol": ("HTTP", "rules[0].protocol"),
        "aliases": ("orders.service.consul", "rules[0].aliases"),
        "exportTo": ("shop", "rules[0].export_to"),
        "clusters": ("all", "default"),
    }
    registration = "consul-dc1/orders/node-1/orders-1"
    assert sources(endpoint) == {
        "address": ("10.0.0.1", registration),
        "port": ("8080", registration),
        "locality": ("eu-west/a", registration),
        "weight": ("10", registration),
        "version": ("v3", registration),
        "label team": ("orders", "rules[0].labels"),
        "identity": ("service account orders, TLS istio", "rules[0].identity"),
        "clusters": ("all", "default"),
    }
    assert [(row["cluster"], row["object"], row["state"]) for row in host["clusters"]] == [
        (cluster, f"ServiceEntry legacy/{name}", "there")
        for cluster in ("east", "west")
        for name in (ORDERS, "orders.service.consul")
    ]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"absent_because": Absence.CRITICAL}, "a check of it is critical, says consul-dc1 of orders/node-1/orders-1"),
        ({"absent_because": Absence.NODE_CRITICAL}, "its node node-1 is critical, says consul-dc1 of orders/node-1"),
        ({"absent_because": Absence.MAINTENANCE}, "it is in maintenance, says consul-dc1"),
        ({"weight": 0}, "its weight is 0, says consul-dc1"),
        ({"warning": True}, "a check of it warns, and rules[0].warning leaves out what warns, says consul-dc1"),
    ],
)
def test_what_is_not_healthy_in_consul_is_said_to_be_so(tmp_path: Path, fields: dict[str, Any], why: str) -> None:
    with estate(tmp_path, rules=(Rule(number=0, warning="exclude"),)) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul(**fields))
        verdict, host = site.verdict(ENDPOINT), site.host(ORDERS)
        rows = [cluster_row(site.endpoint(ENDPOINT), name) for name in site.clusters]
    assert verdict.startswith(f"{ENDPOINT} is not in service: {why}")
    assert host["verdict"].startswith(f"{ORDERS} has no endpoint in service, so callers get 503: {ENDPOINT}: {why}")
    assert rows == [("not there", "", True)] * 2


@pytest.mark.parametrize("status", [Absence.DOWN, Absence.OUT_OF_SERVICE, Absence.STARTING])
def test_what_is_not_up_in_eureka_is_told_by_its_status(tmp_path: Path, status: Absence) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(CONSUL)
        site.show(EUREKA, in_eureka(absent_because=status))
        verdict = site.verdict(ENDPOINT)
    assert verdict == (
        f"{ENDPOINT} is not in service: its status is {status}, says eureka-dc1 of ORDERS/host-1:orders:8080."
    )


def test_a_rejected_registration_is_told_with_its_reason(tmp_path: Path) -> None:
    lost = in_consul(address="", absent_because=Absence.REJECTED, rejected="address 'localhost' is no IP")
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, lost)
        (endpoint,) = site.host("orders")["endpoints"]
    name = "consul-dc1/orders/node-1/orders-1"
    assert endpoint["verdict"] == (f"{name} is not in service: it was rejected: address 'localhost' is no IP ({name}).")
    assert endpoint["clusters"] == ()


def test_a_rejected_update_and_ignored_values_are_told_though_the_endpoint_is_in_service(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul(rejected="port 99999 is none", dropped=("metadata weight 'x' is no number",)))
        endpoint = site.endpoint(ENDPOINT)
    assert endpoint["state"] == "in service"
    assert endpoint["voices"][0]["notes"] == (
        "its last update was rejected, so it stays as it was: port 99999 is none",
        "ignored: metadata weight 'x' is no number",
    )


def test_what_a_rule_skips_is_left_out_on_purpose(tmp_path: Path) -> None:
    with estate(tmp_path, rules=(Rule(number=0, skip=True),)) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        host, endpoint = site.host("orders"), site.endpoint(ENDPOINT)
    assert host["verdict"] == f"{ORDERS} is left out on purpose: rules[0].skip leaves it out (1 endpoint)."
    assert endpoint["verdict"] == (
        f"{ENDPOINT} is left out on purpose: rules[0].skip leaves it out (orders/node-1/orders-1)."
    )


def test_a_service_out_of_scope_is_told_by_registry(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        registries = {
            **site.config.registries,
            CONSUL: replace(site.config.registries[CONSUL], services=("team-a*", "web")),
        }
        site.agent.config = replace(site.config, registries=registries)
        site.start()
        site.show(CONSUL)
        site.show(EUREKA)
        by_service, by_host = site.why("orders"), site.why(ORDERS)
    assert by_service["found"] is False
    assert by_service["verdict"] == "No registry lists orders, and no cluster holds it."
    assert by_service["registries"][0] == {
        "registry": CONSUL,
        "verdict": "orders is out of scope: consul-dc1 is read for services team-a*, web alone.",
    }
    assert by_host["registries"][0]["verdict"].startswith("orders is out of scope")


def test_a_name_that_nobody_knows_is_told_what_may_be_meant(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        answer, address = site.why("order"), site.why("10.9.9.9:80")
    assert answer["verdict"] == "No registry lists order, and no cluster holds it; perhaps orders is meant."
    assert address["verdict"] == "No registry lists 10.9.9.9:80, and no cluster holds it."
    assert answer["hosts"] == address["hosts"] == []


def test_the_last_endpoint_of_a_host_waits_for_the_end_of_its_grace(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul(), in_consul(2, "web"))
        site.show(CONSUL, in_consul(2, "web"))
        endpoint, host = site.endpoint(ENDPOINT), site.host(ORDERS)
    assert endpoint["state"] == "kept"
    assert endpoint["verdict"].startswith(
        f"{ENDPOINT} is kept in service, as consul-dc1 no longer lists it; its removal waits for the end of its grace, "
        "and east and west have it. It is the last of its host, and goes in "
    )
    assert "1 of 1 endpoint in service (1 only kept, as the removal waits)" in host["verdict"]


def test_what_is_looked_at_once_more_and_what_is_held_tell_how_that_ends(tmp_path: Path) -> None:
    many = [in_consul(n) for n in range(1, 13)]
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, *many)
        site.show(CONSUL, complete=False)
        looked = site.verdict(ENDPOINT)
        site.show(CONSUL)
        held = site.verdict(ENDPOINT)
    assert looked.startswith(
        f"{ENDPOINT} is kept in service, as consul-dc1 no longer lists it; its removal waits for a second look"
    )
    assert looked.endswith(
        "The next complete pass judges it, together with all other removals; one that shows it again ends it."
    )
    assert held.startswith(f"{ENDPOINT} is kept in service, as consul-dc1 no longer lists it; its removal is held")
    assert "`isthmus accept consul-dc1`" in held


def test_what_would_leave_too_few_in_service_tells_the_registrys_word(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, *(in_consul(n) for n in range(1, 13)))
        site.show(CONSUL, *(in_consul(n, absent_because=Absence.CRITICAL) for n in range(1, 13)))
        verdict = site.verdict(ENDPOINT)
    assert verdict.startswith(
        f"{ENDPOINT} is kept in service, as consul-dc1 says critical; "
        "its removal is held, as too few would be left in service, and east and west have it. It goes as soon as half"
    )


def test_the_most_pessimistic_of_two_registries_outweighs_the_other(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(CONSUL, in_consul())
        site.show(EUREKA, in_eureka(absent_because=Absence.DOWN))
        endpoint = site.endpoint(ENDPOINT)
    assert endpoint["verdict"] == (
        f"{ENDPOINT} is not in service: its status is DOWN, says eureka-dc1 of ORDERS/host-1:orders:8080, "
        "which outweighs consul-dc1."
    )
    assert [(voice["registry"], voice["against"], voice["counts"]) for voice in endpoint["voices"]] == [
        (CONSUL, "", True),
        (EUREKA, "its status is DOWN", True),
    ]


def test_words_that_do_not_count_say_why(tmp_path: Path) -> None:
    old = in_consul(1, registered=1, absent_because=Absence.CRITICAL)
    new = replace(in_consul(2, registered=2), address="10.0.0.1")
    gone = replace(in_consul(3, absent_because=Absence.NODE_CRITICAL), address="10.0.0.1")
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, old, new, gone)
        endpoint = site.endpoint(ENDPOINT)
    assert endpoint["state"] == "in service"
    assert {voice["id"]: voice["overruled"] for voice in endpoint["voices"]} == {
        "orders-1": "orders-2 was registered later at the same endpoint",
        "orders-2": "",
        "orders-3": "its node is critical, which says nothing against another registration of the endpoint",
    }


def test_a_cluster_that_a_rule_leaves_out_is_told_by_that_rule(tmp_path: Path) -> None:
    with estate(tmp_path, rules=(Rule(number=0, clusters=("east",)),)) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        endpoint, host = site.endpoint(ENDPOINT), site.host(ORDERS)
    assert endpoint["verdict"] == f"{ENDPOINT} is in service, and east has it."
    assert cluster_row(endpoint, "west") == ("left out", "rules[0].clusters sends it to east", True)
    assert cluster_row(host, "west") == ("left out", "rules[0].clusters sends it to east", True)


def test_the_same_endpoint_of_another_owner_is_agreement(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        ours = site.clusters["east"].objects[WORKLOAD]
        site.clusters["east"].show(WORKLOAD, replace(ours, uid="other", labels={**ours.labels, OWNER_LABEL: "dc2"}))
        site.settle()
        endpoint = site.endpoint(ENDPOINT)
    assert endpoint["verdict"] == f"{ENDPOINT} is in service, and east and west have it."
    assert cluster_row(endpoint, "east") == (
        "another owner's",
        "owner dc2 has the same endpoint there, which is agreement: ours is created when that one goes",
        True,
    )


def test_a_service_entry_of_another_author_is_adopted(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        ours = site.clusters["east"].objects[ENTRY]
        site.clusters["east"].show(ENTRY, replace(ours, uid="other", annotations={AUTHOR: "dc2"}))
        site.settle()
        state, why, right = cluster_row(site.host(ORDERS), "east")
    assert (state, right) == ("adopted", True)
    assert why.startswith("its author is dc2, who alone changes it; that one has had no WorkloadEntry there for ")
    assert why.endswith(", and loses it after 15 min")


def test_an_endpoint_that_only_another_owner_has_is_told_as_such(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        theirs = replace(
            site.clusters["east"].objects[WORKLOAD],
            key=WORKLOAD._replace(name="billing-1"),
            uid="other",
            labels={HOST_LABEL: "billing.mesh.internal", OWNER_LABEL: "dc2", "app.kubernetes.io/managed-by": "isthmus"},
            endpoint=("10.0.0.7", 80),
        )
        site.clusters["east"].show(theirs.key, theirs)
        site.settle()
        by_address, by_host = site.endpoint("10.0.0.7:80"), site.host("billing.mesh.internal")
    assert by_address["verdict"] == (
        "No registry lists 10.0.0.7:80 of billing.mesh.internal, but east still holds it "
        "(another owner's: owner dc2 wrote it, and only that one changes it)."
    )
    assert by_host["verdict"].startswith("No registry lists an instance of billing.mesh.internal; east still holds")


def test_a_write_that_failed_tells_why(tmp_path: Path) -> None:
    refused = ClusterError(Fault.REJECTED, "WorkloadEntry legacy/x: admission webhook denied the request")
    with estate(tmp_path) as site:
        site.clusters["west"].refusals = [(lambda change: change.key.kind == WORKLOAD_ENTRY, refused)]
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        endpoint, host = site.endpoint(ENDPOINT), site.host(ORDERS)
    assert endpoint["verdict"].startswith(
        f"{ENDPOINT} is in service, and east has it, but in west it is failed: to be "
    )
    state, why, right = cluster_row(endpoint, "west")
    assert (state, right) == ("failed", False)
    assert "to be created (new endpoint)" in why
    assert "admission webhook denied the request" in why
    assert "objects are not as they should be" in host["verdict"] or "an object is not as" in host["verdict"]


def test_a_cluster_that_is_paused_says_by_whom(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.agent.pause("east", paused=True)
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        state, why, right = cluster_row(site.endpoint(ENDPOINT), "east")
    assert (state, right) == ("to be created", False)
    assert why == "new endpoint; cluster east is paused by an operator until `isthmus resume east`"


def test_a_cluster_that_its_policy_pauses_says_so(tmp_path: Path) -> None:
    with estate(tmp_path, policy="paused") as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        verdict = site.verdict(ENDPOINT)
    assert verdict == (
        f"{ENDPOINT} is in service, but in east it is to be created: new endpoint; "
        "cluster east is paused by its policy in the configuration (and 1 more)."
    )


def test_a_cluster_that_cannot_be_read_is_not_guessed_at(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.clusters["west"].unreadable = [ClusterError(Fault.CLUSTER, "connection refused")] * 10_000
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        endpoint = site.endpoint(ENDPOINT)
    assert cluster_row(endpoint, "west") == ("unknown", "cluster west cannot be read: connection refused", False)
    assert cluster_row(endpoint, "east")[0] == "there"


def test_an_endpoint_that_left_the_registry_stays_where_nothing_is_deleted(tmp_path: Path) -> None:
    with estate(tmp_path, policy="upsert-only", limits=replace(LIMITS, empty_grace=0.0)) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul(1), in_consul(2))
        site.show(CONSUL, in_consul(2))
        endpoint = site.endpoint(ENDPOINT)
    assert endpoint["state"] == "unlisted"
    stays = "still holds it (stays: policy upsert-only deletes nothing)"
    assert endpoint["verdict"] == f"No registry lists {ENDPOINT} of {ORDERS}, but east {stays}; west {stays}."


def test_a_host_that_nobody_needs_any_more_lingers(tmp_path: Path) -> None:
    with estate(tmp_path, limits=replace(LIMITS, empty_grace=0.0)) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul(), in_consul(2, "web"))
        site.show(CONSUL, in_consul(2, "web"))
        site.agent.view.tick()
        site.settle()
        host = site.host(ORDERS)
    assert host["verdict"].startswith(f"No registry lists an instance of {ORDERS}; east still holds {ENTRY} (lingers: ")
    assert "nobody needs it: it goes in " in cluster_row(host, "east")[1]


def test_deletions_that_are_withheld_as_perhaps_our_own_mistake_say_who_ends_that(tmp_path: Path) -> None:
    many = [in_consul(n) for n in range(1, 13)]
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, *many)
        clusters = site.clusters
    with estate(tmp_path, clusters=clusters, domain="other.internal") as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, *many)
        hosts = site.why(ENDPOINT)["hosts"]
    assert [host["host"] for host in hosts] == ["orders.other.internal", ORDERS]
    (endpoint,) = hosts[1]["endpoints"]
    assert cluster_row(endpoint, "east") == (
        "withheld",
        "a registry still lists it, and only `isthmus accept east` lets the new configuration delete it",
        False,
    )


def test_a_registry_that_was_not_read_since_the_start_is_named(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(CONSUL, in_consul(), complete=False)
        verdict = site.verdict(ENDPOINT)
    assert verdict == (
        f"{ENDPOINT} is in service by the last word of consul-dc1: it was not read completely since the start, "
        "and east and west have it."
    )


def test_what_istio_would_refuse_is_rejected_and_told(tmp_path: Path) -> None:
    with estate(tmp_path, rules=(Rule(number=0, host="{service}.svc.cluster.local"),)) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul())
        host = site.host("orders")
    assert cluster_row(host, "east")[0] == "rejected"
    assert host["troubles"] == ("host 'orders.svc.cluster.local': names of this form belong to Kubernetes Services",)


def test_an_alias_and_the_secure_port_lead_to_the_endpoint(tmp_path: Path) -> None:
    rule = Rule(number=0, secure=True, aliases=("{service}.service.consul",))
    with estate(tmp_path, rules=(rule,)) as site:
        site.start()
        site.show(CONSUL)
        site.show(EUREKA, in_eureka(secure_port=8443))
        (host,) = site.why("orders.service.consul")["hosts"]
        endpoint = site.endpoint("10.0.0.1:8443")
        other = site.why(ENDPOINT)
    assert host["host"] == ORDERS
    assert sources(endpoint)["port"] == ("8443", "rules[0].secure")
    assert other["found"] is False


def test_what_is_said_of_a_host_counts_every_endpoint_though_one_was_asked_for(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul(1), in_consul(2), in_consul(3, absent_because=Absence.CRITICAL))
        host = site.host(ENDPOINT)
    assert host["verdict"].startswith(f"{ORDERS} has 2 of 3 endpoints in service")
    assert len(host["endpoints"]) == 1
    assert host["others"] == 2


def test_what_another_author_has_left_is_taken_and_keeps_what_no_rule_states() -> None:
    spec = {"ports": [{"name": "main", "number": 7000}], "workloadSelector": {"labels": {HOST_LABEL: ORDERS}}}
    theirs = entry_of("dc2", spec)
    left = sight(objects={ENTRY: theirs}, forsaken={ENTRY: 901.0})
    inherits = {AUTHOR: "dc1", INHERITED: '{"number":7000}'}
    as_before = digest_of({**ours().spec, "ports": spec["ports"]})
    kept = sight(objects={ENTRY: replace(theirs, annotations=inherits, spec_digest=as_before)})
    early = sight(objects={ENTRY: theirs}, forsaken={ENTRY: 60.0})
    assert desired(left, ours(), Stated({}), some=True).state == "to be updated"
    assert "it becomes ours, as dc2 has left the host" in desired(left, ours(), Stated({}), some=True).why
    assert desired(left, ours(), Stated({}), some=False).state == "adopted"
    told = desired(early, ours(), Stated({}), some=True)
    assert (told.state, told.why) == (
        "adopted",
        "its author is dc2, who alone changes it; that one has had no WorkloadEntry there for 1 min, "
        "and loses it after 15 min",
    )
    inherited = desired(kept, ours(), Stated({}), some=True)
    assert (inherited.state, inherited.why) == ("there", "as the author before wanted it: number")


def test_a_rule_that_the_author_of_a_service_entry_does_not_follow_is_told() -> None:
    spec = {"ports": [{"name": "main", "number": 7000}], "workloadSelector": {"labels": {HOST_LABEL: ORDERS}}}
    told = desired(
        sight(objects={ENTRY: entry_of("dc2", spec)}), ours(), Stated({"number": "rules[0].port"}), some=True
    )
    assert (told.state, told.right) == ("adopted", False)
    assert "its number is 7000, not 80 (rules[0].port)" in told.why


def test_an_object_over_which_somebody_fights_is_left_alone_and_says_with_whom() -> None:
    why = "repaired 3 times, and changed again (spec differs): left alone; other writers: kubectl"
    told = desired(sight(objects={ENTRY: entry_of("dc1", {})}, failures={ENTRY: why}), ours(), Stated({}), some=True)
    assert (told.state, told.right) == ("failed", False)
    assert told.why.endswith(why)


def ours() -> Resource:
    """Return the ServiceEntry as we would write it."""
    port = {"name": "main", "number": 80}
    spec = {"hosts": [ORDERS], "ports": [port], "workloadSelector": {"labels": {HOST_LABEL: ORDERS}}}
    return Resource(key=ENTRY, labels={}, annotations={AUTHOR: "dc1"}, spec=spec)


def entry_of(author: str, spec: dict[str, Any]) -> Held:
    """Return the ServiceEntry as a cluster holds it."""
    return Held(key=ENTRY, uid="1", labels={}, annotations={AUTHOR: author}, spec=json.dumps(spec))


def sight(**fields: Any) -> ClusterSight:
    return ClusterSight(name="east", namespace="legacy", owner="dc1", policy="sync", state="ok", grace=900.0, **fields)


# Without an agent


def test_the_state_file_alone_tells_what_clusters_took(tmp_path: Path) -> None:
    with estate(tmp_path) as site:
        site.agent.pause("west", paused=True)
        site.start()
        site.show(EUREKA)
        site.show(CONSUL, in_consul(1), in_consul(2, absent_because=Absence.CRITICAL))
    with estate(tmp_path) as site:
        answer, nobody = (recall(site.config, site.checkpoint, what) for what in ("orders", "nobody"))
    assert answer["running"] is False
    (host,) = answer["hosts"]
    assert host["verdict"].startswith(
        f"{ORDERS} has 1 of 2 endpoints in service, by the last word of consul-dc1, but 2 objects are not"
    )
    there, critical = host["endpoints"]
    word = "by the last word of consul-dc1: no agent runs"
    assert there["verdict"].startswith(f"{ENDPOINT} is in service {word}, and east has it, but in west it is not ")
    assert cluster_row(there, "east") == ("there", "as far as is remembered", True)
    assert cluster_row(there, "west")[1] == (
        "the cluster has not taken it yet; cluster west is paused by an operator until `isthmus resume west`"
    )
    assert "a check of it is critical" in critical["verdict"]
    assert nobody["verdict"] == "No registry lists nobody, and no cluster is known to hold it."
    assert nobody["registries"][0]["verdict"] == "consul-dc1 listed nothing of it when it was read last."
    assert answer["registries"] == []


# With an agent that reads a registry


def test_a_registry_that_cannot_be_read_is_named_and_its_last_word_stands(
    agent: Agent, registry: EmbeddedRegistry
) -> None:
    registry.trouble("*", Trouble.ERROR)
    wait_until(lambda: bool(agent.loops[REGISTRY].report().error), "the registry is unreadable")
    answer, unknown = explain(agent, "10.1.0.1:8080"), explain(agent, "nobody")
    (endpoint,) = answer["hosts"][0]["endpoints"]
    assert endpoint["verdict"].startswith(
        "10.1.0.1:8080 is in service by the last word of consul-dc1: it cannot be read for "
    )
    assert endpoint["verdict"].endswith(", and east and west have it.")
    assert unknown["verdict"] == "No registry that can be read lists nobody, and no cluster holds it."
    assert unknown["registries"][0]["verdict"].startswith("consul-dc1 cannot be read for ")


def test_a_service_that_cannot_be_read_is_named(agent: Agent, registry: EmbeddedRegistry) -> None:
    registry.trouble("/v1/health/service/orders", Trouble.HTML)
    registry.register("orders", "orders-9", "node-1", 8080, address="10.1.0.9")
    wait_until(lambda: "orders" in agent.loops[REGISTRY].report().unreadable, "the service is unreadable")
    (host,) = explain(agent, "orders")["hosts"]
    assert "by the last word of consul-dc1" in host["verdict"]
    assert all("it cannot read orders now" in one["verdict"] for one in host["endpoints"])


def test_answers_come_through_the_control_socket(agent: Agent) -> None:
    client: Any = create_app(lambda: agent).test_client()
    answer = client.get("/v1/explain", query_string={"what": "[10.1.0.1]:8080"}).json
    assert (answer["owner"], answer["running"], answer["what"]) == ("dc1", True, "[10.1.0.1]:8080")
    assert answer["hosts"][0]["endpoints"][0]["verdict"] == "10.1.0.1:8080 is in service, and east and west have it."
    assert client.get("/v1/explain").status_code == 400
    assert client.get("/v1/explain", query_string={"what": "x" * 1025}).status_code == 400


def test_the_first_line_is_the_verdict_of_what_was_asked_for(agent: Agent, tmp_path: Path) -> None:
    server = ControlServer(lambda: agent, agent.config.control)
    server.start()
    endpoint, host, nobody = (shown(tmp_path, what) for what in ("10.1.0.1:8080", "orders", "ordesr"))
    content = json.loads(shown(tmp_path, "orders", "-o", "json"))
    server.stop()
    alone = shown(tmp_path, "orders")
    assert endpoint.splitlines()[0] == "10.1.0.1:8080 is in service, and east and west have it."
    verdict = "orders.mesh.internal has 6 of 6 endpoints in service, and every cluster is as it should be."
    assert host.splitlines()[0] == content["hosts"][0]["verdict"] == verdict
    assert nobody.splitlines()[0] == "No registry lists ordesr, and no cluster holds it; perhaps orders is meant."
    assert "no agent answers at" in alone.splitlines()[0]
    assert alone.splitlines()[2].startswith(
        "orders.mesh.internal has 6 of 6 endpoints in service, by the last word of consul-dc1"
    )


def test_many_endpoints_that_are_as_they_should_be_get_a_line_each(agent: Agent, registry: EmbeddedRegistry) -> None:
    for n in range(1, 21):
        registry.register("big", f"big-{n}", "node-1", 8080, address=f"10.3.0.{n}")
    wait_until(lambda: len(endpoints(agent, "big")) == 20, "all are believed")
    wait_until(
        lambda: all(row["right"] for one in endpoints(agent, "big") for row in one["clusters"]), "all is written"
    )
    server = ControlServer(lambda: agent, agent.config.control)
    server.start()
    lines = shown(agent.config.state.parent, "big").splitlines()
    server.stop()
    assert len([line for line in lines if "is in service, and east and west have it." in line]) == 20
    assert not any("carries traffic" in line for line in lines)


def shown(folder: Path, *arguments: str) -> str:
    answer = CliRunner().invoke(main, ["--config", str(folder / "isthmus.yaml"), "explain", *arguments])
    assert answer.exit_code == 0
    return answer.stdout


def endpoints(agent: Agent, what: str) -> list[dict[str, Any]]:
    return [one for host in explain(agent, what)["hosts"] for one in host["endpoints"]]


# What is asked for


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("10.0.0.1:80", ("", "10.0.0.1", 80)),
        ("10.0.0.1", ("", "10.0.0.1", 0)),
        ("[fd00::1]:80", ("", "fd00::1", 80)),
        ("fd00:0::1", ("", "fd00::1", 0)),
        ("[fd00::1]", ("", "fd00::1", 0)),
        ("ORDERS", ("orders", "", 0)),
        ("orders.mesh.internal.", ("orders.mesh.internal", "", 0)),
        ("orders:80", ("orders:80", "", 0)),
        ("10.0.0.1:123456", ("10.0.0.1:123456", "", 0)),
    ],
)
def test_a_text_is_an_endpoint_only_where_it_is_an_address(text: str, asked: tuple[str, str, int]) -> None:
    assert parse(text)[1:] == asked


def test_eurekas_scope_does_not_care_about_case() -> None:
    assert RegistrySight(name=EUREKA, state="ok", scope=("team-*",), caseless=True).covers("TEAM-A")
    assert not RegistrySight(name=CONSUL, state="ok", scope=("team-*",)).covers("TEAM-A")
