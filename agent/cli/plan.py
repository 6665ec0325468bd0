"""``isthmus plan``."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import click

from agent.cli.exits import CHANGES, FAILED, HELD, largest
from agent.cli.logs import set_up_logging
from agent.cli.opening import rehearsing
from agent.cli.options import Options, Verb
from agent.cli.tables import console, show_holds
from agent.config import load
from agent.daemon import Planned
from agent.holds import Row, removals, withheld
from agent.plan import Action, Change
from agent.words import count, plain

NAMES = {Action.CREATE: "create", Action.UPDATE: "update", Action.DELETE: "delete"}
COLOURS = {Action.CREATE: "green", Action.UPDATE: "yellow", Action.DELETE: "red"}


@click.command(cls=Verb)
@click.option("--detailed-exitcode", is_flag=True, help="Exit with 3 when there are changes.")
@click.pass_obj
def command(options: Options, detailed_exitcode: bool) -> int:
    """Show what `once` would do, and change nothing.

    Reads every registry and cluster, and judges on a copy of the state file; nothing is written to disk. Exits with 1
    when a registry or cluster could not be read, and with 12 when removals would be held.
    """
    set_up_logging(options)
    with rehearsing(load(options.config)) as agent:
        planned, failures, held = agent.plan()
        rows = [*removals(agent), *withheld({one.cluster: one.withheld for one in planned})]
    failures = (*failures, *(f"cluster {one.cluster}: {one.error}" for one in planned if one.error))
    if options.json:
        click.echo(json.dumps(_as_json(planned, failures, rows), indent=2))
    else:
        _show(planned, rows)
    for one in planned:
        if one.paused:
            click.echo(f"{one.cluster} is paused: {count(one.waiting, 'change')} would wait.", err=True)
    for failure in failures:
        click.echo(plain(failure), err=True)
    changes = any(one.changes for one in planned)
    return largest(FAILED if failures else 0, CHANGES if changes and detailed_exitcode else 0, HELD if held else 0)


def _as_json(planned: Iterable[Planned], failures: Iterable[str], rows: list[Row]) -> dict[str, Any]:
    changes = [(one.cluster, change) for one in planned for change in one.changes]
    return {
        "changes": [
            {
                "action": NAMES[change.action],
                "cluster": cluster,
                "kind": change.key.kind,
                "namespace": change.key.namespace,
                "name": change.key.name,
                "why": change.why,
            }
            for cluster, change in changes
        ],
        "totals": _totals(change for _, change in changes),
        "held": rows,
        "paused": {one.cluster: one.waiting for one in planned if one.paused},
        "failures": list(failures),
    }


def _totals(changes: Iterable[Change]) -> dict[str, int]:
    found = Counter(change.action for change in changes)
    return {NAMES[action]: found[action] for action in Action}


def _show(planned: tuple[Planned, ...], rows: list[Row]) -> None:
    for one in planned:
        for change in one.changes:
            line = plain(f"{change.action} {one.cluster} {change.key}  ({change.why})")
            click.secho(line, fg=COLOURS[change.action])
    if rows:
        show_holds(console(), rows)
    readable = [one for one in planned if not one.error]
    if len(planned) > 1:
        for one in readable:
            click.echo(f"{one.cluster}: {_sentence(one.changes)}")
    click.echo(_sentence(change for one in readable for change in one.changes))


def _sentence(changes: Iterable[Change]) -> str:
    return ", ".join(f"{number} to {name}" for name, number in _totals(changes).items())
