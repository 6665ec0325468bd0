"""``isthmus status``."""

import json
from contextlib import closing
from typing import Any

import click
from rich.console import Console

from agent.cli.asking import NoAgentError, ask_ours, copy_of_state
from agent.cli.logs import set_up_logging
from agent.cli.options import Options, Verb
from agent.cli.tables import ago, console, lines, named, table
from agent.config import Config, load
from agent.report import remembered
from agent.words import count, plain, span

Report = dict[str, Any]


@click.command(cls=Verb)
@click.pass_obj
def command(options: Options) -> int:
    """Show how it is with every registry and cluster.

    Asks the agent through its control socket; when none answers, what its state file remembers is shown.
    """
    set_up_logging(options)
    config = load(options.config)
    try:
        report, silence = ask_ours(config, "/v1/status"), ""
    except NoAgentError as error:
        report, silence = _remembered(config, error), str(error)
    if options.json:
        click.echo(json.dumps(report, indent=2))
    else:
        _show(report, silence)
    return 0


def _remembered(config: Config, silence: NoAgentError) -> Report:
    with closing(copy_of_state(config, silence)) as checkpoint:
        return remembered(config, checkpoint)


def _show(report: Report, silence: str) -> None:
    output = console()
    if silence:
        output.print(f"{plain(silence)}. This is what {plain(report['state'])} remembers:")
    else:
        output.print(f"isthmus {report['version']}, owner {report['owner']}, state file {plain(report['state'])}")
    if report["unsaved"]:
        output.print(f"What is believed cannot be saved, and is kept in memory: {plain(report['unsaved'])}")
    _show_registries(output, report["registries"])
    _show_found(output, report["registries"])
    _show_clusters(output, report["clusters"])
    if report.get("receiver"):
        _show_receiver(output, report["receiver"])


def _show_registries(output: Console, registries: Report) -> None:
    columns = ("REGISTRY", "STATE", "READ", "SERVICES", "INSTANCES", "PRESENT", "IN SERVICE", "WAITING")
    output.print()
    output.print(table(columns, [_registry(name, one) for name, one in registries.items()]))
    for name, one in registries.items():
        output.print(f"{name}: {_reading(one)}")
        if one["error"]:
            since = one["failing_seconds"]
            output.print(f"  failing{'' if since is None else f' for {span(since)}'}: {plain(one['error'])}")
        lines(output, "cannot be read", [f"{row['service']}: {row['reason']}" for row in one["unreadable"]])
        lines(output, "rejected", [_named(row) for row in one["rejected"]])
        lines(output, "ignored values", [_named(row) for row in one["dropped"]])


def _registry(name: str, one: Report) -> tuple[str, ...]:
    waiting = ", ".join(f"{number} {reason}" for reason, number in one["waiting"].items())
    return (
        name,
        one["state"],
        ago(one["last_read_seconds"]),
        str(one["services"]),
        str(one["instances"]),
        _of(one["present"]),
        _of(one["in_service"]),
        waiting or "none",
    )


def _of(pair: Report) -> str:
    return f"{pair['now']} of {pair['baseline']}"


def _reading(one: Report) -> str:
    epoch = "" if one["epoch_seconds"] is None else f", begun {ago(one['epoch_seconds'])}"
    eureka = one["eureka"]
    found = f"{'index' if eureka is None else 'version'} {one['index']}, epoch {one['epoch']}{epoch}"
    if one["passes"]:
        found += f", {count(one['passes'], 'pass', 'passes')}, the last one in {span(one['pass_seconds'])}"
    found += f", {count(one['repairs'], 'repair')} by sweeps"
    if eureka is not None:
        return f"{found}, {_polled(eureka)}" if eureka["polls"] or eureka["full_reads"] else found
    parked = one["parked"]
    if not parked["budget"] or not one["passes"]:
        return found
    shrunk = f", fewer than configured: {plain(parked['shrunk'])}" if parked["shrunk"] else ""
    return f"{found}, {parked['parked']} services parked of {parked['budget']} at most{shrunk}"


def _polled(eureka: Report) -> str:
    """Return how a Eureka is polled; who answers comes first, as another server means another view."""
    server = f"asks {plain(eureka['server'])}" if eureka["server"] else "no server answers"
    shared = ", where several servers seem to answer at one address" if eureka["shared"] else ""
    why = ", ".join(f"{number} {reason}" for reason, number in eureka["full_reads"].items() if number)
    reads = count(sum(eureka["full_reads"].values()), "full read") + (f" ({why})" if why else "")
    told = [
        f"{count(eureka['polls'], 'poll')} of which {eureka['unchanged']} told nothing new",
        reads,
        count(eureka["mismatches"], "mismatch", "mismatches"),
        count(eureka["confirmations"], "confirmation"),
    ]
    if eureka["overlay"]:
        told.append(f"{count(eureka['overlay'], 'instance')} known better than from the server's cache")
    return f"{server}{shared}: {', '.join(told)}"


def _named(row: Report) -> str:
    return f"{named(row)}: {row['reason']}"


def _show_found(output: Console, registries: Report) -> None:
    """Print how changes were found, once one was."""
    rows = [
        (name, source, str(found["wakeups"]), str(found["changes"]), *_late(found))
        for name, one in registries.items()
        for source, found in one["found"].items()
        if found["wakeups"] or found["changes"]
    ]
    if rows:
        output.print()
        output.print(table(("REGISTRY", "FOUND BY", "WAKE-UPS", "CHANGES", "LATE ON AVERAGE", "AT MOST"), rows))


def _late(found: Report) -> tuple[str, str]:
    if not found["changes"]:
        return "-", "-"
    return span(found["mean_seconds"]), span(found["longest_seconds"])


def _show_clusters(output: Console, clusters: Report) -> None:
    columns = ("CLUSTER", "POLICY", "STATE", "OBJECTS", "PENDING", "OLDEST", "WRITES", "REPAIRS", "WITHHELD")
    output.print()
    output.print(table(columns, [_cluster(name, one) for name, one in clusters.items()]))
    for name, one in clusters.items():
        if written := _written(one):
            output.print(f"{name}: {written}")
        if any(one.get(key) for key in ("error", "parked", "troubles")):
            output.print(f"{name}: {plain(one['error']) or 'no error'}")
            lines(output, "left alone", [f"{row['object']}: {row['reason']}" for row in one["parked"]])
            lines(output, "rejected or in disagreement", one["troubles"])


def _cluster(name: str, one: Report) -> tuple[str, ...]:
    oldest = one.get("oldest_pending_seconds")
    numbers = [str(one.get(key, "-")) for key in ("writes", "repairs", "withheld")]
    pending = str(one.get("pending", "-"))
    old = "-" if oldest is None else span(oldest)
    return (name, one["policy"], one["state"], str(one["objects"]), pending, old, *numbers)


def _written(one: Report) -> str:
    """Return what writes came to, "" without any."""
    taken, failed = one.get("taken", {}), one.get("failed", {})
    told = [f"{number} {action}d" for action, number in taken.items() if number]
    told += [f"{number} failed ({fault})" for fault, number in failed.items()]
    return ", ".join(told)


def _show_receiver(output: Console, receiver: Report) -> None:
    columns = ("CALLED FOR", "TYPE", "RESULT", "CALLS", "LAST HINT")
    last = receiver["last_call_seconds"]
    output.print()
    rows = [
        (
            row["registry"] or "-",
            row["kind"] or "-",
            row["result"],
            str(row["calls"]),
            ago(last[row["registry"]]) if row["registry"] in last else "-",
        )
        for row in receiver["calls"]
    ]
    output.print(table(columns, rows) if rows else "receiver: nothing has called")
    lines(output, "served", receiver.get("served", []))
    lines(output, "not served", receiver["faults"])
