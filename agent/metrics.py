"""What Prometheus scrapes: how writes ended, counted as they end, and what the reports say, asked for at a scrape.

What a report counts begins anew with a reload, which Prometheus takes for a reset.
Names and units follow https://prometheus.io/docs/practices/naming/.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client import Counter as Count
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from agent.daemon import VERSION, Agent
from agent.plan import Action
from agent.report import CLUSTER_STATES, Glance, cluster_state, glances
from agent.serving import LaneReport, Wrote
from hooks.loop import LoopReport
from hooks.receiver import ReceiverReport
from state.errors import Fault
from state.model import Reason

LAGS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)  # seconds

Rows = Iterable[tuple[tuple[str, ...], float]]  # the labels' values, and the sample's

disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series, and Prometheus knows when it first saw one


class Metrics:
    """Counts how writes end, through every reload; for any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._lag = Histogram(
            "isthmus_write_lag_seconds",
            "From a registry's word to the cluster's answer; registry is empty where none told, as for a repair.",
            ("registry", "cluster"),
            buckets=LAGS,
            registry=self._registry,
        )
        self._writes = Count(
            "isthmus_writes",
            "Writes that ended.",
            ("cluster", "action", "result"),
            registry=self._registry,
        )
        self._errors = Count(
            "isthmus_api_errors",
            "Writes that a cluster did not take, by what that means for what comes next.",
            ("cluster", "fault"),
            registry=self._registry,
        )

    def tell(self, wrote: Wrote) -> None:
        """Count how a write ended."""
        result = "taken" if wrote.fault is None else "failed"
        self._writes.labels(wrote.cluster, wrote.action.name.lower(), result).inc()
        if wrote.fault is not None:
            self._errors.labels(wrote.cluster, str(wrote.fault)).inc()
        else:
            self._lag.labels(wrote.registry, wrote.cluster).observe(wrote.lag)

    def exposition(self, agent: Agent, receiver: ReceiverReport | None, now: float) -> bytes:
        """Return everything in Prometheus' text format 0.0.4; ``now`` is in monotonic seconds."""
        self._begin(agent)
        return generate_latest(self._registry) + generate_latest(_Reports(agent, receiver, now))

    def _begin(self, agent: Agent) -> None:
        """Have every series begin with 0: an increase is seen only of one that was there before."""
        for cluster in agent.lanes:
            for action in Action:
                for result in ("taken", "failed"):
                    self._writes.labels(cluster, action.name.lower(), result)
            for fault in Fault:
                self._errors.labels(cluster, str(fault))
            for registry in agent.loops:
                self._lag.labels(registry, cluster)


class _Reports(Collector):
    """What the reports of one moment say."""

    def __init__(self, agent: Agent, receiver: ReceiverReport | None, now: float) -> None:
        self._agent = agent
        self._receiver = receiver
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Give one family after the other."""
        agent = self._agent
        loops = {name: loop.report() for name, loop in agent.loops.items()}
        lanes = {name: lane.report() for name, lane in agent.lanes.items()}
        build = (VERSION, agent.config.owner)
        yield _gauge("isthmus_build_info", "Version and owner.", ("version", "owner"), [(build, 1)])
        unsaved = [((), bool(agent.view.unsaved))]
        yield _gauge("isthmus_unsaved", "Whether what is believed cannot be saved now.", (), unsaved)
        yield from _reading(loops, self._now)
        yield from _finding(loops)
        yield from _parking(loops)
        yield from _polling(loops)
        yield from _believing(glances(agent))
        yield from _serving(lanes, self._now)
        if self._receiver is not None:
            yield from _receiving(self._receiver)


def _gauge(name: str, about: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _counter(name: str, about: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _reading(loops: Mapping[str, LoopReport], now: float) -> Iterator[Metric]:
    of = ("registry",)
    failing = [((name,), bool(loop.error)) for name, loop in loops.items()]
    yield _gauge("isthmus_registry_failing", "Whether a registry cannot be read now.", of, failing)
    ages = [((name,), max(0.0, now - at)) for name, loop in loops.items() if (at := loop.last_read) is not None]
    yield _gauge("isthmus_registry_last_read_age_seconds", "Since something was last read.", of, ages)
    unreadable = [((name,), len(loop.unreadable)) for name, loop in loops.items()]
    yield _gauge("isthmus_registry_unreadable_services", "Services that cannot be read now.", of, unreadable)
    passes = [((name,), loop.passes) for name, loop in loops.items()]
    yield _counter("isthmus_passes", "Complete readings of a registry.", of, passes)
    seconds = [((name,), loop.pass_seconds) for name, loop in loops.items()]
    yield _gauge("isthmus_pass_seconds", "Duration of the last pass.", of, seconds)
    rereads = [((name,), loop.rereads) for name, loop in loops.items()]
    yield _counter("isthmus_rereads", "Comparisons of all services' indexes with what was read.", of, rereads)
    repairs = [((name,), loop.repairs) for name, loop in loops.items()]
    yield _counter("isthmus_sweep_repairs", "Changes that only a sweep found.", of, repairs)


def _finding(loops: Mapping[str, LoopReport]) -> Iterator[Metric]:
    of = ("registry", "source")
    rows = [((name, str(source)), one) for name, loop in loops.items() for source, one in loop.found.items()]
    wakeups = [(values, one.wakeups) for values, one in rows]
    yield _counter("isthmus_wakeups", "Services that a source was the first to mark as changed.", of, wakeups)
    changes = [(values, one.changes) for values, one in rows]
    yield _counter("isthmus_changes", "Services whose content had changed when they were read.", of, changes)
    late = SummaryMetricFamily(
        "isthmus_change_lateness_seconds", "From the first sign of a change to its delivery.", labels=of
    )
    for values, one in rows:
        late.add_metric(values, one.changes, one.seconds)
    yield late
    longest = [(values, one.longest) for values, one in rows]
    yield _gauge("isthmus_change_lateness_longest_seconds", "The longest of them since the start.", of, longest)


def _parking(loops: Mapping[str, LoopReport]) -> Iterator[Metric]:
    of = ("registry",)
    rows = [((name,), loop.parked) for name, loop in loops.items() if loop.parked is not None]
    parked = [(values, one.parked) for values, one in rows]
    yield _gauge("isthmus_parked_services", "Services whose own query waits now.", of, parked)
    budgets = [(values, one.budget) for values, one in rows]
    yield _gauge("isthmus_parked_budget", "How many may wait at most, now.", of, budgets)
    wakeups = [(values, one.wakeups) for values, one in rows]
    yield _counter("isthmus_parked_wakeups", "Parked queries that told of a change.", of, wakeups)
    reconnects = [(values, one.reconnects) for values, one in rows]
    yield _counter("isthmus_parked_reconnects", "Connections of parked queries made anew.", of, reconnects)


def _polling(loops: Mapping[str, LoopReport]) -> Iterator[Metric]:
    rows = [((name,), loop.eureka) for name, loop in loops.items() if loop.eureka is not None]
    if not rows:
        return
    of = ("registry",)
    polls = [(values, one.polls) for values, one in rows]
    yield _counter("isthmus_eureka_polls", "Deltas that were read.", of, polls)
    full = [((*values, why), number) for values, one in rows for why, number in sorted(one.full_reads.items())]
    yield _counter("isthmus_eureka_full_reads", "Full reads, by why they were made.", (*of, "why"), full)
    mismatches = [(values, one.mismatches) for values, one in rows]
    yield _counter("isthmus_eureka_mismatches", "Deltas after which the hashes differed.", of, mismatches)
    confirmations = [(values, one.confirmations) for values, one in rows]
    yield _counter("isthmus_eureka_confirmations", "Uncached reads of single instances.", of, confirmations)
    overlay = [(values, one.overlay) for values, one in rows]
    yield _gauge("isthmus_eureka_overlay", "Instances of which we know more than the server's cache.", of, overlay)


def _believing(seen: Mapping[str, Glance]) -> Iterator[Metric]:
    of = ("registry",)
    services = [((name,), one.services) for name, one in seen.items()]
    yield _gauge("isthmus_services", "Services with an instance.", of, services)
    instances = [((name,), len(one.instances)) for name, one in seen.items()]
    yield _gauge("isthmus_endpoints", "Instances, whatever their health.", of, instances)
    present = [((name,), one.standing.left.present) for name, one in seen.items()]
    yield _gauge("isthmus_endpoints_present", "Instances that do not wait and whose node is there.", of, present)
    in_service = [((name,), one.standing.left.in_service) for name, one in seen.items()]
    yield _gauge("isthmus_endpoints_in_service", "Instances that do not wait and carry traffic.", of, in_service)
    rejected = [((name,), sum(1 for one in glance.instances if one.rejected)) for name, glance in seen.items()]
    yield _gauge("isthmus_rejected", "Instances that cannot be used as they are.", of, rejected)
    counted = {name: Counter(row.reason for row in one.waiting) for name, one in seen.items()}
    waiting = [((name, str(reason)), reasons[reason]) for name, reasons in counted.items() for reason in Reason]
    yield _gauge("isthmus_waiting", "Removals that wait, by why.", ("registry", "reason"), waiting)


def _serving(lanes: Mapping[str, LaneReport], now: float) -> Iterator[Metric]:
    of = ("cluster",)
    states = [((name, state), state == cluster_state(lane)) for name, lane in lanes.items() for state in CLUSTER_STATES]
    yield _gauge("isthmus_cluster_state", "1 for the state that a cluster is in.", ("cluster", "state"), states)
    objects = [((name,), lane.objects) for name, lane in lanes.items()]
    yield _gauge("isthmus_objects", "Objects that a cluster holds.", of, objects)
    pending = [((name,), lane.pending) for name, lane in lanes.items()]
    yield _gauge("isthmus_pending", "Changes that a cluster has not taken yet.", of, pending)
    oldest = [((name,), 0.0 if lane.oldest is None else max(0.0, now - lane.oldest)) for name, lane in lanes.items()]
    yield _gauge("isthmus_oldest_pending_seconds", "For how long the oldest of them waits; 0 for none.", of, oldest)
    repairs = [((name,), lane.repairs) for name, lane in lanes.items()]
    yield _counter("isthmus_repairs", "Objects put back as they had been applied.", of, repairs)
    withheld = [((name,), len(lane.withheld)) for name, lane in lanes.items()]
    yield _gauge("isthmus_withheld", "Deletions held as perhaps our own mistake.", of, withheld)
    parked = [((name,), len(lane.parked)) for name, lane in lanes.items()]
    yield _gauge("isthmus_left_alone", "Objects that are not written as they should be.", of, parked)
    troubles = [((name,), len(lane.troubles)) for name, lane in lanes.items()]
    yield _gauge("isthmus_troubles", "Objects rejected before they were sent, and disagreements.", of, troubles)


def _receiving(receiver: ReceiverReport) -> Iterator[Metric]:
    of = ("registry", "kind", "result")
    calls = [((called.registry, called.kind, str(called.result)), n) for called, n in receiver.calls.items()]
    yield _counter("isthmus_receiver_calls", "Calls of watch handlers; a refused one is of no registry.", of, calls)
    size = [((), receiver.body_bytes)]
    yield _counter("isthmus_receiver_body_bytes", "Bytes of bodies, all of them dropped.", (), size)
    faults = [((), len(receiver.faults))]
    yield _gauge("isthmus_receiver_faults", "Sockets and ports that it could not have.", (), faults)
