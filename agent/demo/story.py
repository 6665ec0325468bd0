"""The story of the demo: what happens in a data centre, chapter by chapter, and what must follow in every cluster."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from agent.demo.estate import IN_EUREKA, MOVES, SKIPPED
from agent.demo.folder import REGISTRY
from agent.demo.stage import Stage
from agent.words import count

HELD = ("hold", "panic")
GRACE = "grace"
SHOWN = 3  # holds of many

NEW_VERSION, NEW_PORT = "2.4.0", 8140
DRAINED = "node-b2"
LAST = "reports-1"


def first_sync(stage: Stage) -> None:
    """Register the whole estate, then start the agent."""
    estate, narrator = stage.estate, stage.narrator
    for node in estate.nodes.values():
        stage.scene.registry.set_node(node.name, node.address)
    for one in estate.running.values():
        stage.register(one)
        stage.chapters[-1].moves += 1
    stage.begin()
    others = [one.id for one in estate.running.values() if one.in_eureka]
    narrator.note(narrator.began, "eureka", f"lists {', '.join(others)}")
    services, instances = len(estate.services()) - len(IN_EUREKA), len(estate.listed())
    text = f"lists {services} services with {instances} instances on {len(estate.nodes)} nodes; the agent starts now"
    narrator.note(narrator.began, "registry", text)
    stage.settle()
    for name in stage.clusters:
        written = [write for write in stage.chapters[-1].writes if write.cluster == name]
        hosts = sum(1 for write in written if not write.fact.place.endpoint)
        first, last = (f"{1000 * (write.at - narrator.began):.0f} ms" for write in (written[0], written[-1]))
        text = f"+ {hosts} hosts and {len(written) - hosts} endpoints, the first after {first}, the last after {last}"
        narrator.note(written[-1].at, name, text, "green")
    skipped = ", ".join(sorted(name for name in estate.services() if name.startswith(SKIPPED)))
    ill = ", ".join(one.id for one in estate.running.values() if one.status == "critical")
    narrator.say(f"Not there: {skipped}, which a rule skips, and {ill}, whose check is critical.", narrator.indent)


def scale_out(stage: Stage) -> None:
    """Start two more instances of one service."""
    for _ in range(2):
        stage.pause(0.04)
        others = stage.estate.of("storefront")
        node = stage.estate.node_for("storefront")
        one = stage.estate.put(replace(others[0], id=f"storefront-{len(others) + 1}", node=node))
        stage.move(f"{one.id} starts on {node.name}, at {one.endpoint}", partial(stage.register, one))


def failing_check(stage: Stage) -> None:
    """Let one instance fail, and recover."""
    registry, one = stage.scene.registry, stage.estate.running["cart-2"]
    for status, text in (("critical", "the check of cart-2 is critical"), ("passing", "it passes again")):
        stage.pause(0.06)
        stage.estate.put(replace(one, status=status))
        stage.move(text, partial(registry.set_status, one.node.name, one.id, status))


def rolling_deployment(stage: Stage) -> None:
    """Replace the instances of one service by those of a new version, the first one carefully."""
    old = stage.estate.of("checkout")
    for number, one in enumerate(old, start=1):
        stage.pause(0.02)
        new = replace(one, id=f"checkout-{len(old) + number}", port=NEW_PORT, version=NEW_VERSION)
        if number == 1:
            canary = stage.estate.put(replace(new, weight=1))
            stage.move(f"{new.id}, version {NEW_VERSION}, starts with weight 1", partial(stage.register, canary))
            stage.pause(0.04)
            stage.estate.put(new)
            stage.move(f"it does well: its weight is {new.weight} now", partial(stage.register, new))
        else:
            stage.estate.put(new)
            stage.move(f"{new.id}, version {NEW_VERSION}, starts", partial(stage.register, new))
        stage.pause(0.02)
        del stage.estate.running[one.id]
        stage.move(
            f"{one.id}, version {one.version}, ends",
            partial(stage.scene.registry.deregister, one.node.name, one.id),
        )


def drained_host(stage: Stage) -> None:
    """Put a node into maintenance, and take it out again."""
    registry, drained = stage.scene.registry, stage.estate.drained
    stage.pause(0.05)
    drained.add(DRAINED)
    number = count(len(stage.estate.on(DRAINED)), "instance")
    stage.move(f"{DRAINED}, with {number}, is in maintenance", partial(registry.maintenance, DRAINED, on=True))
    stage.pause(0.07)
    drained.remove(DRAINED)
    stage.move(f"{DRAINED} is back", partial(registry.maintenance, DRAINED, on=False))


def moved_service(stage: Stage) -> None:
    """Let a service move from Eureka to Consul, instance by instance, and look all the time at what a client gets."""
    looks = 0
    for one in stage.estate.of(MOVES):
        stage.pause(0.02)
        here = stage.estate.put(replace(one, in_eureka=False))
        looks += _change_source(stage, "registry", f"has {one.id} too", partial(stage.register, here))
        cancel = partial(stage.scene.eureka.cancel, one.app, one.id)
        looks += _change_source(stage, "eureka", f"{one.id} is cancelled", cancel)
    number = count(len(stage.estate.of(MOVES)), "endpoint")
    text = f"have had all {number} of {MOVES} each of the {looks} times that they were read back"
    stage.narrator.note(stage.now(), "clusters", text, "green")


def _change_source(stage: Stage, who: str, text: str, change: Callable[[], float]) -> int:
    """Change who lists an endpoint, which changes nothing else of it; return how often all was read back meanwhile."""
    written = len(stage.chapters[-1].writes) + len(stage.clusters)
    stage.act(text, change, who=who)
    looks = stage.look_on(0.01)
    stage.until(lambda: len(stage.chapters[-1].writes) >= written, "every cluster has the new source")
    return looks


def wiped_registry(stage: Stage) -> None:
    """Lose all of the registry's data while everything runs on, and register it all again."""
    narrator, estate, facts = stage.narrator, stage.estate, stage.estate.facts()
    stage.pause(0.05)
    stage.act("loses all its data: it answers, and lists nothing; the instances run on", stage.scene.registry.wipe)
    stage.until(lambda: len(stage.holds(*HELD)) == len(estate.listed()), "every removal is held")
    _show_holds(stage)
    looks = stage.look_on(0.1)
    endpoints = sum(1 for fact in facts if fact.place.endpoint)
    for name in stage.clusters:
        held = f"{len(facts) - endpoints} hosts and {endpoints} endpoints"
        narrator.note(stage.now(), name, f"holds {held} as before, read back {count(looks, 'time')} meanwhile", "green")
    narrator.note(stage.now(), "registry", "is filled again, one instance after the other")
    _refill(stage)
    stage.until(lambda: not stage.holds(*HELD), "nothing is held any more")
    stage.look()
    written = count(len(stage.chapters[-1].writes), "write")
    narrator.note(stage.now(), "guard", f"holds nothing any more, since every instance was seen again: {written}")


def _show_holds(stage: Stage) -> None:
    rows, narrator = stage.holds(*HELD), stage.narrator
    anew = stage.agent.view.beliefs[REGISTRY].standing.epoch_began is not None
    why = "the registry's index went back, so its data are new" if anew else "too much vanished at once"
    text = f"holds {count(len(rows), 'removal')}: {why}. `isthmus holds`:"
    narrator.note(stage.now(), "guard", text)
    for row in rows[:SHOWN]:
        instance = f"{row['service']}/{row['node']}/{row['id']}"
        narrator.verbatim(f"{row['hold']}  {instance:<40}  {row['address']}:{row['port']}")
    narrator.verbatim(f"... and {len(rows) - SHOWN} more")
    narrator.say(f"How that ends: {rows[0]['ends']}", narrator.indent)


def _refill(stage: Stage) -> None:
    """Register every node and instance again, over a share of the story's time."""
    for node in stage.estate.nodes.values():
        stage.scene.registry.set_node(node.name, node.address)
    for one in stage.estate.listed():
        stage.register(one)
        stage.chapters[-1].moves += 1
        stage.pause(0.06 / len(stage.estate.listed()))


def last_instance(stage: Stage) -> None:
    """Let the only instance of a service go for good."""
    one = stage.estate.running[LAST]
    stage.pause(0.05)
    del stage.estate.running[LAST]
    deregister = partial(stage.scene.registry.deregister, one.node.name, one.id)
    stage.act(f"{LAST}, the only instance of its host, is gone for good", deregister, prompt=False)
    stage.until(lambda: bool(stage.holds(GRACE)) or stage.is_settled(), "its removal waits")
    for row in stage.holds(GRACE):
        stage.narrator.note(stage.now(), "guard", f"gives it a grace, as it may only restart. {row['ends']}")
    stage.settle()


CHAPTERS: tuple[tuple[str, str, Callable[[Stage], None]], ...] = (
    ("First sync", "", first_sync),
    (
        "Scale out",
        "A new instance alters no check, so a pass over the registry finds it. Passes rest between each other: most of "
        "these lags is that rest.",
        scale_out,
    ),
    ("A failing check", "A blocking query waits for changes of health, which are heard at once.", failing_check),
    ("A rolling deployment", "A new instance before each old one; the first with little weight.", rolling_deployment),
    ("A drained host", "Maintenance is an order: everything on the node leaves at once.", drained_host),
    (
        "From Eureka to Consul",
        "Both list the same endpoint for a while, which is one WorkloadEntry; only its sources change.",
        moved_service,
    ),
    (
        "A wiped registry",
        "Its data is lost, and everything that was registered runs on. Held beats wiped: nothing is deleted.",
        wiped_registry,
    ),
    (
        "The last instance",
        "A host's last endpoint that vanishes stays for a grace, and the host for another.",
        last_instance,
    ),
)
