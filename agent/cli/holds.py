"""``isthmus holds``."""

import json
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from typing import Any

import click
from rich.console import Console

from agent.cli.asking import NoAgentError, ask_ours, copy_of_state
from agent.cli.logs import set_up_logging
from agent.cli.options import Options, Verb
from agent.cli.tables import console, table
from agent.config import Config, load
from agent.holds import holds
from agent.report import asleep, identity
from agent.words import count, plain, span

Row = dict[str, Any]

REASONS = {
    "look": "looked at once",
    "hold": "held",
    "panic": "held, as too few would be left in service",
    "grace": "in grace",
}


@click.command(cls=Verb)
@click.pass_obj
def command(options: Options) -> int:
    """Show which removals wait, why, and how that ends.

    Asks the agent through its control socket; when none answers, what its state file remembers is shown, which knows
    nothing of deletions that a cluster withholds.
    """
    set_up_logging(options)
    config = load(options.config)
    try:
        answer, silence = ask_ours(config, "/v1/holds"), ""
    except NoAgentError as error:
        answer, silence = _remembered(config, error), str(error)
    if options.json:
        click.echo(json.dumps(answer, indent=2))
        return 0
    output = console()
    if silence:
        output.print(f"{plain(silence)}. This is what {plain(answer['state'])} remembers:")
    if answer["holds"]:
        show(output, answer["holds"])
    else:
        output.print("Nothing waits.")
    return 0


def _remembered(config: Config, silence: NoAgentError) -> Row:
    with closing(copy_of_state(config, silence)) as checkpoint:
        rows = holds(asleep(config, checkpoint))
        return {**identity(config), "running": False, "holds": rows}


def show(output: Console, rows: Sequence[Row]) -> None:
    """Print what waits, together what ends in the same way."""
    for (name, reason), group in groupby(rows, lambda row: (row["name"], row["reason"])):
        found = list(group)
        if reason == "deletions":
            for row in found:
                _show_deletions(output, row)
            continue
        output.print(f"{name}: {count(len(found), 'removal')} {REASONS.get(reason, reason)}")
        columns = ("HOLD", "INSTANCE", "ENDPOINT", "HOST", "WAITED", "PROOFS")
        output.print(table(columns, [_cells(row) for row in found]))
        for sentence in dict.fromkeys(row["ends"] for row in found):
            output.print(f"  {plain(sentence)}")
        output.print()


def _cells(row: Row) -> tuple[str, ...]:
    instance = f"{row['service']}/{row['node']}/{row['id']}"
    port = f":{row['port']}" if row["port"] else ""
    address = f"[{row['address']}]" if ":" in row["address"] and port else row["address"]
    return (row["hold"] or "-", instance, address + port, row["host"], span(row["waited_seconds"]), str(row["proofs"]))


def _show_deletions(output: Console, row: Row) -> None:
    output.print(f"{row['name']}: {count(len(row['objects']), 'deletion')} withheld (hold {row['hold']})")
    for name in row["objects"]:
        output.print(f"  {plain(name)}")
    output.print(f"  {plain(row['ends'])}")
    output.print()
