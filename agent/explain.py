"""What an operator asks at night: why an endpoint is in service, or is not.

JSON keys are those of the answer at ``/v1/explain``, whose parts are the values of
``agent.explaining.sights``. The first thing that each part says is its verdict.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from re import compile as compiled
from re import escape
from typing import Any

from agent.aliases import uncontested
from agent.authorship import stated
from agent.config import Config
from agent.daemon import Agent
from agent.explaining.asked import held, listed, near, parse
from agent.explaining.hosts import Case, Here, answer
from agent.explaining.sights import ASLEEP, OK, STARTING, UNREADABLE, ClusterSight, RegistrySight, Sights
from agent.explaining.unknown import not_found, unheard
from agent.holds import Situation, ending
from agent.hosts import Place
from agent.lane import Lane
from agent.merge import HostKey, merge
from agent.naming import host_label
from agent.report import asleep, identity
from agent.rules import Rules
from agent.translate import translate
from agent.view import View
from hooks.eureka.settings import EurekaSettings
from state.checkpoint import Checkpoint
from state.model import Instance

Report = dict[str, Any]


def explain(agent: Agent, what: str) -> Report:
    """Return why all is as it is that a service, host or ADDRESS:PORT names, as an agent that runs sees it."""
    clusters = {name: _cluster(agent.config, name, lane) for name, lane in agent.lanes.items()}
    return {**identity(agent.config), "running": True, **_explained(agent, clusters, what, running=True)}


def recall(config: Config, checkpoint: Checkpoint, what: str) -> Report:
    """Return the same from a copy of the state file alone, which knows what clusters took, not what they hold.

    Raises ConfigurationError when the file is another owner's.
    """
    agent = asleep(config, checkpoint)
    paused = checkpoint.paused()
    clusters = {
        name: ClusterSight(
            name=name,
            namespace=settings.namespace,
            owner=config.owner,
            policy=settings.policy,
            state=ASLEEP,
            halt=_halt(name, settings.policy, name in paused),
            applied=checkpoint.applied(name),
            grace=config.limits.service_entry_grace,
        )
        for name, settings in config.clusters.items()
    }
    return {**identity(config), "running": False, **_explained(agent, clusters, what, running=False)}


def _explained(agent: Agent, clusters: Mapping[str, ClusterSight], what: str, *, running: bool) -> Report:
    asked, view = parse(what), agent.view
    sights = Sights(registries=_registries(agent, running=running), clusters=clusters)
    instances = _instances(view)
    rules = next((belief.rules for belief in view.beliefs.values()), Rules())  # one and the same for all
    wanted = (asked.address, asked.port) if asked.address else None
    cases = [_case(agent, key, sights) for key in sorted(listed(asked, instances, rules))]
    desired = {name: {key for case in cases for key in case.here[name].resources} for name in clusters}
    cases += [_case(agent, key, sights) for key in sorted(held(asked, sights, [case.key for case in cases], desired))]
    hosts = [answer(case, sights, view, wanted) for case in cases]
    names = {instance.key.service for _, instance in instances} | {key.host for key in view.hosts()}
    services = {one.key.service for _, one in instances if asked.name == one.key.service.lower()}
    silent = unheard(asked, sights, services, agent.config.domain, known=bool(hosts))
    return {
        "what": asked.text,
        "asked": "endpoint" if asked.address else "name",
        "found": bool(hosts),
        "verdict": "" if hosts else not_found(asked, sights, near(asked, names)),
        "registries": [{"registry": name, "verdict": verdict} for name, verdict in silent],
        "hosts": [asdict(host) for host in hosts],
    }


def _instances(view: View) -> list[tuple[str, Instance]]:
    """Copy what is believed: the view's lock holds up every change."""
    with view.lock:
        copies = {
            name: list(chain.from_iterable([service.values() for service in belief.services.values()]))
            for name, belief in view.beliefs.items()
        }
    return [(name, instance) for name, instances in copies.items() for instance in instances]


def _case(agent: Agent, key: HostKey, sights: Sights) -> Case:
    view = agent.view
    rank = {name: place for place, name in enumerate(view.order)}
    with view.lock:
        registrations = sorted(
            view.registrations([key]), key=lambda one: (rank[one.registry], one.registry, one.instance.key)
        )
    return Case(
        key=key,
        registrations=tuple(registrations),
        host=merge(key, registrations, view.order),
        here={name: _here(view, key, sight) for name, sight in sights.clusters.items()},
    )


def _here(view: View, key: HostKey, sight: ClusterSight) -> Here:
    """Return a host as one cluster should have it, as its lane sees it."""
    is_about = compiled(rf"(?<![\w.-]){escape(key.host)}(?![\w-]|\.\w)").search
    troubles = tuple(text for text in sight.troubles if is_about(text))
    host = view.host(Place(key.namespace or sight.namespace, host_label(key.host)), sight.namespace)
    if host is None:
        return Here(troubles=troubles)
    translation = translate(host, owner=sight.owner, cluster=sight.name, namespace=sight.namespace)
    resources, contested = uncontested(host, translation.resources, view, cluster=sight.name, own=sight.namespace)
    return Here(
        resources={one.key: one for one in resources},
        aliases=host.aliases if resources else (),
        rules=stated(host),
        rejected=translation.rejected,
        contested=contested,
        troubles=troubles,
    )


def _registries(agent: Agent, *, running: bool) -> dict[str, RegistrySight]:
    now, found = time.monotonic(), {}
    for name, belief in agent.view.beliefs.items():
        settings, loop = agent.config.registries[name], agent.loops[name].report()
        situation = Situation(name, belief.standing, agent.config.limits, not loop.error, now)
        with agent.view.lock:
            waiting = dict(belief.waiting)
        state = UNREADABLE if loop.error else OK if agent.view.passed(name) else STARTING
        found[name] = RegistrySight(
            name=name,
            state=state if running else ASLEEP,
            error=loop.error,
            failing=None if loop.failing_since is None else max(0.0, now - loop.failing_since),
            scope=settings.services,
            caseless=isinstance(settings, EurekaSettings),
            unreadable=loop.unreadable,
            waiting=waiting,
            ends={key: ending(row, situation) for key, row in waiting.items()},
        )
    return found


def _cluster(config: Config, name: str, lane: Lane) -> ClusterSight:
    report, proposer, now = lane.report(), lane.proposer, time.monotonic()
    lingering = {row.key: row.unneeded for row in proposer.authors.lingering(now) if row.unneeded is not None}
    forsaken = {row.key: row.seconds for row in proposer.authors.forsaken(now)}
    return ClusterSight(
        name=name,
        namespace=config.clusters[name].namespace,
        owner=config.owner,
        policy=report.policy,
        state=OK if report.read else UNREADABLE if report.error else STARTING,
        error=report.error,
        halt=_halt(name, report.policy, report.paused),
        objects=dict(proposer.mirror.objects),
        applied=dict(proposer.applied.rows),
        failures=dict(report.parked),
        withheld=frozenset(one.key for one in report.withheld),
        lingering=lingering,
        forsaken=forsaken,
        grace=config.limits.service_entry_grace,
        troubles=report.troubles,
    )


def _halt(name: str, policy: str, paused: bool) -> str:
    """Return who has paused a cluster and how that ends, "" when nobody has."""
    if paused:
        return f"cluster {name} is paused by an operator until `isthmus resume {name}`"
    return f"cluster {name} is paused by its policy in the configuration" if policy == "paused" else ""
