"""What an operator asks an agent: how it is with every registry and every cluster.

Values are JSON; durations are in seconds, counted back from now, and null where
there is nothing to count from. JSON keys are those of the answer at ``/v1/status``.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from agent.belief import Belief
from agent.clusters import Cluster
from agent.config import Config
from agent.daemon import VERSION, Agent, remembering
from agent.plan import Action
from agent.serving import LaneReport
from hooks.eureka.report import EurekaReport
from hooks.found import Found
from hooks.loop import LoopReport
from hooks.receiver import ReceiverReport
from state.checkpoint import Checkpoint
from state.errors import StateError
from state.model import Instance, InstanceKey, Standing, Waiting

Report = dict[str, Any]
NOT_RUNNING = "not running"
CLUSTER_STATES = ("starting", "ok", "paused", "failing", "unreadable")


def identity(config: Config) -> Report:
    """Return what tells one isthmus from another: its owner and its state file."""
    return {"owner": config.owner, "state": str(config.state.resolve()), "version": VERSION}


@dataclass(frozen=True, slots=True)
class Glance:
    """What is believed of one registry, at one moment."""

    services: int
    instances: tuple[Instance, ...]
    waiting: tuple[Waiting, ...]
    standing: Standing
    index: int


def glance(belief: Belief) -> Glance:
    """Copy what is believed, and count nothing: this is done under the view's lock, which holds up every change."""
    return Glance(
        services=len(belief.services),
        instances=tuple(chain.from_iterable([service.values() for service in belief.services.values()])),
        waiting=tuple(belief.waiting.values()),
        standing=belief.standing,
        index=max(belief.indexes.values(), default=0),
    )


def glances(agent: Agent) -> Mapping[str, Glance]:
    """Return what an agent believes of every registry."""
    with agent.view.lock:
        return {name: glance(belief) for name, belief in agent.view.beliefs.items()}


def status(agent: Agent, receiver: ReceiverReport | None = None) -> Report:
    """Return how an agent that runs is doing, and its receiver, if there is one."""
    now = time.monotonic()
    return {
        **identity(agent.config),
        "running": True,
        "unsaved": agent.view.unsaved,
        "registries": _registries(agent, lambda name, loop: _registry_state(agent, name, loop), now),
        "clusters": {name: _cluster(lane.report(), now) for name, lane in agent.lanes.items()},
        "receiver": None if receiver is None else _receiver(receiver, now),
    }


def asleep(config: Config, checkpoint: Checkpoint) -> Agent:
    """Return an agent without clusters that never starts: what a copy of the state file remembers.

    Raises ConfigurationError when the file is another owner's.
    """
    return Agent(replace(config, clusters={}), remembering(config, checkpoint), _no_cluster)


def remembered(config: Config, checkpoint: Checkpoint) -> Report:
    """Return what the state file alone can tell, no agent being there to ask."""
    agent, paused = asleep(config, checkpoint), checkpoint.paused()
    return {
        **identity(config),
        "running": False,
        "unsaved": "",
        "registries": _registries(agent, lambda _name, _loop: NOT_RUNNING, time.monotonic()),
        "clusters": {
            name: {
                "policy": settings.policy,
                "paused": name in paused,
                "state": NOT_RUNNING,
                "objects": len(checkpoint.applied(name)),
            }
            for name, settings in config.clusters.items()
        },
    }


def _no_cluster(name: str) -> Cluster:
    raise StateError(f"cluster {name} is not asked")


def _registries(agent: Agent, state: Callable[[str, LoopReport], str], now: float) -> Report:
    found = {}
    for name, seen in glances(agent).items():
        loop = agent.loops[name].report()
        found[name] = {"state": state(name, loop), **_reading(loop, seen, now), **_believed(seen, now)}
    return found


def _registry_state(agent: Agent, name: str, loop: LoopReport) -> str:
    if loop.error:
        return "unreadable"
    return "ok" if agent.view.passed(name) else "starting"


def _reading(loop: LoopReport, seen: Glance, now: float) -> Report:
    return {
        "error": loop.error,
        "failing_seconds": _since(loop.failing_since, now),
        "last_read_seconds": _since(loop.last_read, now),
        "index": loop.index or seen.index,
        "passes": loop.passes,
        "pass_seconds": round(loop.pass_seconds, 3),
        "rereads": loop.rereads,
        "repairs": loop.repairs,
        "unreadable": [{"service": name, "reason": why} for name, why in sorted(loop.unreadable.items())],
        "found": {str(source): _found(one) for source, one in loop.found.items()},
        "parked": None if loop.parked is None else asdict(loop.parked),
        "eureka": None if loop.eureka is None else _eureka(loop.eureka),
    }


def _eureka(eureka: EurekaReport) -> Report:
    return {**asdict(eureka), "full_reads": dict(sorted(eureka.full_reads.items()))}


def _found(one: Found) -> Report:
    return {
        "wakeups": one.wakeups,
        "changes": one.changes,
        "mean_seconds": round(one.seconds / one.changes, 6) if one.changes else None,
        "longest_seconds": round(one.longest, 6) if one.changes else None,
    }


def _believed(seen: Glance, now: float) -> Report:
    left, baseline = seen.standing.left, seen.standing.baseline
    return {
        "epoch": seen.standing.epoch,
        "epoch_seconds": _since(seen.standing.epoch_began, now),
        "services": seen.services,
        "instances": len(seen.instances),
        "present": {"now": left.present, "baseline": baseline.present},
        "in_service": {"now": left.in_service, "baseline": baseline.in_service},
        "waiting": dict(sorted(Counter(str(row.reason) for row in seen.waiting).items())),
        "rejected": _named(seen.instances, lambda instance: (instance.rejected,) if instance.rejected else ()),
        "dropped": _named(seen.instances, lambda instance: instance.dropped),
    }


def _named(instances: Iterable[Instance], reasons: Callable[[Instance], tuple[str, ...]]) -> list[Report]:
    pairs = sorted((instance.key, why) for instance in instances for why in reasons(instance))
    return [{**_key(key), "reason": why} for key, why in pairs]


def _key(key: InstanceKey) -> Report:
    return {"service": key.service, "node": key.node, "id": key.id}


def _cluster(lane: LaneReport, now: float) -> Report:
    return {
        "policy": lane.policy,
        "paused": lane.paused,
        "state": cluster_state(lane),
        "error": lane.error,
        "objects": lane.objects,
        "pending": lane.pending,
        "oldest_pending_seconds": _since(lane.oldest, now),
        "writes": lane.writes,
        "taken": {action.name.lower(): lane.taken.get(action, 0) for action in Action},
        "failed": {str(fault): number for fault, number in sorted(lane.failed.items())},
        "repairs": lane.repairs,
        "withheld": len(lane.withheld),
        "parked": [{"object": str(key), "reason": why} for key, why in lane.parked],
        "troubles": list(lane.troubles),
    }


def cluster_state(lane: LaneReport) -> str:
    """Return one word; a cluster that was read once and fails now is still served as soon as it can be."""
    if lane.error:
        return "failing" if lane.read else "unreadable"
    if not lane.read:
        return "starting"
    return "paused" if lane.is_paused else "ok"


def _receiver(receiver: ReceiverReport, now: float) -> Report:
    """Return what was called; no call that was refused is counted for the registry and type that it named."""
    return {
        "calls": [{**called._asdict(), "calls": number} for called, number in sorted(receiver.calls.items())],
        "last_call_seconds": {registry: _since(at, now) for registry, at in sorted(receiver.last.items())},
        "body_bytes": receiver.body_bytes,
        "served": list(receiver.served),
        "faults": list(receiver.faults),
    }


def _since(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)
