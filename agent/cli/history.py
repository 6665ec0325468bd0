"""``isthmus history``."""

import json
from contextlib import closing
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import click
from rich.console import Console

from agent.chronicle import MOST, chronicle
from agent.cli.asking import NoAgentError, ask_ours, copy_of_state
from agent.cli.logs import set_up_logging
from agent.cli.options import Options, Verb
from agent.cli.tables import console, table
from agent.config import Config, load
from agent.daemon import remembering
from agent.report import identity
from agent.words import count, plain, span

Report = dict[str, Any]


@click.command(cls=Verb)
@click.argument("host", default="")
@click.option("--most", default=50, show_default=True, type=click.IntRange(1, MOST), help="How many writes to show.")
@click.pass_obj
def command(options: Options, host: str, most: int) -> int:
    """Show what was written to clusters: when, why, by whose word, and how late.

    HOST is one host, such as orders.mesh.internal; without it all of them are shown. The newest write comes first.
    """
    set_up_logging(options)
    config = load(options.config)
    try:
        report, silence = ask_ours(config, f"/v1/history?{urlencode({'host': host, 'most': most})}"), ""
    except NoAgentError as error:
        report, silence = _remembered(config, host, most, error), str(error)
    if options.json:
        click.echo(json.dumps(report, indent=2))
    else:
        _show(console(), report, silence)
    return 0


def _remembered(config: Config, host: str, most: int, silence: NoAgentError) -> Report:
    with closing(copy_of_state(config, silence)) as checkpoint:
        return {**identity(config), "running": False, **chronicle(remembering(config, checkpoint), host, most)}


def _show(output: Console, report: Report, silence: str) -> None:
    if silence:
        output.print(f"{plain(silence)}. This is what {plain(report['state'])} remembers:")
    events, of = report["events"], f" of {plain(report['host'])}" if report["host"] else ""
    if not events:
        output.print(f"No write{of} is remembered.{' `isthmus explain` tells why a host is as it is.' if of else ''}")
        return
    output.print(f"The last {count(len(events), 'write')}{of}, the newest first:")
    columns = ("WHEN", "CLUSTER", "WRITE", "OBJECT", "WHY", "BY THE WORD OF", "LAG")
    output.print(table(columns, [_cells(event) for event in events]))


def _cells(event: Report) -> tuple[str, ...]:
    when = datetime.fromisoformat(event["at"]).astimezone()
    return (
        when.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
        event["cluster"],
        event["action"],
        f"{event['kind']} {event['namespace']}/{event['name']}",
        event["why"],
        event["registry"] or "-",
        "-" if event["lag_seconds"] is None else span(event["lag_seconds"]),
    )
