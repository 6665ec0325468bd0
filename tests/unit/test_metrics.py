import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.daemon import VERSION, Agent
from agent.demo.registry import EmbeddedRegistry, Trouble
from agent.holds import holds
from agent.metrics import LAGS, Metrics
from agent.plan import Action
from agent.report import CLUSTER_STATES, status
from agent.serving import Wrote
from hooks.found import CONSUL_SOURCES
from hooks.receiver import Called, ReceiverReport, Result
from state.errors import Fault
from state.model import WORKLOAD_ENTRY, Reason, ResourceKey
from tests.dc import REGISTRY
from tests.testbed.processes import wait_until
from tests.unit.live import agent_on, start, wipe

KEY = ResourceKey(WORKLOAD_ENTRY, "legacy", "one")


class Scrape:
    """The samples of one scrape, by name and labels."""

    def __init__(self, metrics: Metrics, agent: Agent, receiver: ReceiverReport | None = None) -> None:
        text = metrics.exposition(agent, receiver, time.monotonic()).decode()
        self.families = list(text_string_to_metric_families(text))
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.samples.get((f"isthmus_{name}", frozenset(labels.items())))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def agent(registry: EmbeddedRegistry, metrics: Metrics, tmp_path: Path) -> Iterator[Agent]:
    """One that has not been started."""
    with agent_on(tmp_path, registry, metrics.tell) as agent:
        yield agent


def test_every_family_is_of_isthmus_explained_and_told_once(agent: Agent, metrics: Metrics) -> None:
    start(agent)
    families = Scrape(metrics, agent).families
    names = [family.name for family in families]
    assert all(name.startswith("isthmus_") for name in names)
    assert len(set(names)) == len(names)
    assert all(family.documentation.endswith(".") and family.type != "unknown" for family in families)
    assert not any(name.endswith("_created") for name in names)


def test_what_a_cluster_took_is_counted_by_action_and_timed(agent: Agent, metrics: Metrics) -> None:
    start(agent)
    found = Scrape(metrics, agent)
    for cluster in ("east", "west"):
        assert found("writes_total", cluster=cluster, action="create", result="taken") == 15
        assert found("write_lag_seconds_count", cluster=cluster, registry=REGISTRY) == 15
        assert found("write_lag_seconds_bucket", cluster=cluster, registry=REGISTRY, le="+Inf") == 15


def test_what_a_cluster_did_not_take_is_counted_by_fault_and_not_timed(agent: Agent, metrics: Metrics) -> None:
    metrics.tell(Wrote("east", REGISTRY, Action.UPDATE, KEY, 0.5, Fault.CONFLICT))
    found = Scrape(metrics, agent)
    assert found("writes_total", cluster="east", action="update", result="failed") == 1
    assert found("writes_total", cluster="east", action="update", result="taken") == 0
    assert found("api_errors_total", cluster="east", fault="conflict") == 1
    assert found("write_lag_seconds_count", cluster="east", registry=REGISTRY) == 0


@pytest.mark.parametrize("lag", [0.0, 0.001, 0.02, 60.0, 61.0])
def test_a_lag_is_in_every_bucket_that_it_does_not_exceed(agent: Agent, metrics: Metrics, lag: float) -> None:
    metrics.tell(Wrote("east", "", Action.CREATE, KEY, lag, None))
    found = Scrape(metrics, agent)
    for edge in LAGS:
        told = found("write_lag_seconds_bucket", cluster="east", registry="", le=str(edge))
        assert told == (lag <= edge)
    assert found("write_lag_seconds_sum", cluster="east", registry="") == lag


def test_every_series_is_there_before_anything_happens(agent: Agent, metrics: Metrics) -> None:
    found = Scrape(metrics, agent)
    for fault in Fault:
        assert found("api_errors_total", cluster="east", fault=str(fault)) == 0
    for source in CONSUL_SOURCES:
        assert found("wakeups_total", registry=REGISTRY, source=str(source)) == 0
        assert found("change_lateness_seconds_count", registry=REGISTRY, source=str(source)) == 0
    for reason in Reason:
        assert found("waiting", registry=REGISTRY, reason=str(reason)) == 0
    assert found("registry_last_read_age_seconds", registry=REGISTRY) is None
    assert found("oldest_pending_seconds", cluster="east") == 0
    assert found("build_info", version=VERSION, owner="dc1") == 1
    assert found("unsaved") == 0


def test_what_is_believed_and_held_is_told_of_every_registry_and_cluster(
    agent: Agent, registry: EmbeddedRegistry, metrics: Metrics
) -> None:
    start(agent)
    found = Scrape(metrics, agent)
    assert found("services", registry=REGISTRY) == 3
    assert found("endpoints", registry=REGISTRY) == 13
    assert found("endpoints_present", registry=REGISTRY) == found("endpoints_in_service", registry=REGISTRY) == 12
    assert found("rejected", registry=REGISTRY) == 1
    assert found("objects", cluster="east") == 15
    assert found("pending", cluster="east") == 0
    wipe(agent, registry)
    found = Scrape(metrics, agent)
    held = [row for row in holds(agent) if row["reason"] == "hold"]
    assert found("waiting", registry=REGISTRY, reason="hold") == len(held) == 12
    assert found("endpoints_present", registry=REGISTRY) == 0


def test_a_cluster_is_in_one_state(agent: Agent, metrics: Metrics) -> None:
    def states() -> list[str]:
        found = Scrape(metrics, agent)
        return [state for state in CLUSTER_STATES if found("cluster_state", cluster="east", state=state)]

    assert states() == ["starting"]
    start(agent)
    assert states() == ["ok"]


def test_a_change_is_counted_by_what_found_it(agent: Agent, registry: EmbeddedRegistry, metrics: Metrics) -> None:
    start(agent)
    before = Scrape(metrics, agent)
    registry.register("late", "late-1", "node-1", 80, address="10.9.0.1")
    wait_until(lambda: status(agent)["registries"][REGISTRY]["services"] == 4, "it is found")
    after = Scrape(metrics, agent)

    def grown(name: str) -> float:
        sources = [{"registry": REGISTRY, "source": str(source)} for source in CONSUL_SOURCES]
        return sum((after(name, **labels) or 0) - (before(name, **labels) or 0) for labels in sources)

    assert grown("wakeups_total") >= 1
    assert grown("changes_total") == grown("change_lateness_seconds_count") == 1
    assert grown("change_lateness_seconds_sum") > 0


def test_a_registry_that_fails_is_told(agent: Agent, registry: EmbeddedRegistry, metrics: Metrics) -> None:
    start(agent)
    assert Scrape(metrics, agent)("registry_failing", registry=REGISTRY) == 0
    registry.trouble("*", Trouble.ERROR)
    wait_until(lambda: Scrape(metrics, agent)("registry_failing", registry=REGISTRY) == 1, "it fails")
    age = Scrape(metrics, agent)("registry_last_read_age_seconds", registry=REGISTRY)
    assert age is not None
    assert age >= 0


def test_calls_of_watch_handlers_are_told_when_there_is_a_receiver(agent: Agent, metrics: Metrics) -> None:
    assert not any("receiver" in name for name, _ in Scrape(metrics, agent).samples)
    calls = {Called("dc1", "service", Result.HEARD): 3, Called("", "", Result.UNAUTHORISED): 2}
    report = ReceiverReport(calls=calls, last={"dc1": 1.0}, body_bytes=7, faults=("port 1: no",))
    found = Scrape(metrics, agent, report)
    assert found("receiver_calls_total", registry="dc1", kind="service", result="heard") == 3
    assert found("receiver_calls_total", registry="", kind="", result="unauthorised") == 2
    assert (found("receiver_body_bytes_total"), found("receiver_faults")) == (7, 1)


def test_what_was_written_before_a_reload_still_counts(
    registry: EmbeddedRegistry, metrics: Metrics, tmp_path: Path
) -> None:
    with agent_on(tmp_path, registry, metrics.tell) as agent:
        start(agent)
    with agent_on(tmp_path, registry, metrics.tell) as agent:
        start(agent)
        found = Scrape(metrics, agent)
    assert found("writes_total", cluster="east", action="create", result="taken") == 15
    assert found("objects", cluster="east") == 15
