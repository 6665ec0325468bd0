"""``isthmus demo``."""

from importlib import import_module
from pathlib import Path

import click

from agent.cli.logs import set_up_logging
from agent.cli.options import Options, Verb


@click.command(cls=Verb)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/demo"),
    show_default=True,
    help="The folder in which everything happens.",
)
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=40.0, show_default=True, help="How long the story takes."
)
@click.pass_obj
def command(options: Options, out: Path, seconds: float) -> int:
    """Play a story on an embedded registry and two directories.

    It needs no Consul and no cluster. The agent is the real one; the registry only speaks the part of Consul's protocol
    that the agent uses. Ends with 1 when a cluster is not as it must be.
    """
    set_up_logging(options)
    # The demo is no part of the agent: nothing else pays for importing it.
    return int(import_module("agent.demo.play").play(out, seconds))
