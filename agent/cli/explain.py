"""``isthmus explain``."""

import json
from collections.abc import Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import click
from rich.console import Console
from rich.table import Table

from agent.cli.asking import NoAgentError, ask_ours, copy_of_state
from agent.cli.logs import set_up_logging
from agent.cli.options import Options, Verb
from agent.cli.tables import console, lines, table
from agent.config import Config, load
from agent.explain import recall
from agent.words import plain

Report = dict[str, Any]
WHOLE = 12  # endpoints of one host that are shown in full; of more, those that are as they should be get a line


@click.command(cls=Verb)
@click.argument("what")
@click.pass_obj
def command(options: Options, what: str) -> int:
    """Tell why an endpoint is in service or is not, and where each of its values comes from.

    WHAT is a service as a registry names it, a host, or an endpoint as ADDRESS:PORT.

    Asks the agent through its control socket; when none answers, what its state file remembers is shown, which knows
    what each cluster took, not what it holds.
    """
    set_up_logging(options)
    config = load(options.config)
    try:
        report, silence = ask_ours(config, f"/v1/explain?{urlencode({'what': what})}"), ""
    except NoAgentError as error:
        report, silence = _remembered(config, what, error), str(error)
    if options.json:
        click.echo(json.dumps(report, indent=2))
    else:
        _show(console(), report, silence)
    return 0


def _remembered(config: Config, what: str, silence: NoAgentError) -> Report:
    with closing(copy_of_state(config, silence)) as checkpoint:
        return recall(config, checkpoint, what)


def _show(output: Console, report: Report, silence: str) -> None:
    if silence:
        output.print(f"{plain(silence)}. This is what {plain(report['state'])} remembers:\n")
    if report["verdict"]:
        output.print(plain(report["verdict"]))
    for host in report["hosts"]:
        if report["asked"] == "endpoint":
            _show_endpoints(output, host)
        _show_host(output, host)
        if report["asked"] != "endpoint":
            _show_endpoints(output, host)
    for registry in report["registries"]:
        output.print(plain(registry["verdict"]))


def _show_host(output: Console, host: Report) -> None:
    output.print(plain(host["verdict"]))
    _show_values(output, host["values"], "  ")
    lines(output, "left out, or in disagreement", host["troubles"])
    _show_objects(output, host["clusters"], "  ")
    output.print()


def _show_endpoints(output: Console, host: Report) -> None:
    """Print the endpoints that were asked for, first what is not as one would wish."""
    many = len(host["endpoints"]) > WHOLE
    for one in sorted(host["endpoints"], key=lambda one: one["state"] == "in service" and _is_right(one)):
        output.print(plain(one["verdict"]))
        if not (many and one["state"] == "in service" and _is_right(one)):
            _show_endpoint(output, one)
    if many:
        output.print()


def _is_right(one: Report) -> bool:
    return all(row["right"] for row in one["clusters"])


def _show_endpoint(output: Console, one: Report) -> None:
    for voice in one["voices"]:
        output.print(f"  {plain(_voice(voice))}")
        for note in voice["notes"]:
            output.print(f"    {plain(note)}")
    _show_values(output, one["values"], "  ")
    _show_objects(output, one["clusters"], "  ")
    output.print()


def _voice(voice: Report) -> str:
    """Return what one registration says of an endpoint, and whether that counts."""
    name = "/".join(part for part in (voice["registry"], voice["service"], voice["node"], voice["id"]) if part)
    told = f"{name}: {voice['against'] or 'carries traffic'}"
    if voice["overruled"]:
        told += f"; does not count, as {voice['overruled']}"
    if voice["waits"]:
        told += f"; {voice['waits']}"
    return told


def _show_values(output: Console, values: list[Report], indent: str) -> None:
    """Print values with their sources, in columns of their own width."""
    if values:
        rows = [(indent + one["name"], one["value"], f"from {one['source']}") for one in values]
        output.print(_without_head(rows))


def _show_objects(output: Console, rows: list[Report], indent: str) -> None:
    told = [(indent + row["cluster"], row["object"], row["state"], row["why"]) for row in rows]
    if told:
        output.print(_without_head(told))


def _without_head(rows: Sequence[Sequence[str]]) -> Table:
    found = table(("",) * len(rows[0]), rows)
    found.show_header = False
    return found
