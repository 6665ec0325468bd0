"""``isthmus holds``."""

import json
from contextlib import closing
from typing import Any

import click

from agent.cli.asking import NoAgentError, ask_ours, copy_of_state
from agent.cli.logs import set_up_logging
from agent.cli.options import Options, Verb
from agent.cli.tables import console, show_holds
from agent.config import Config, load
from agent.holds import holds
from agent.report import asleep, identity
from agent.words import plain


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
        show_holds(output, answer["holds"])
    else:
        output.print("Nothing waits.")
    return 0


def _remembered(config: Config, silence: NoAgentError) -> dict[str, Any]:
    with closing(copy_of_state(config, silence)) as checkpoint:
        rows = holds(asleep(config, checkpoint))
        return {**identity(config), "running": False, "holds": rows}
