"""``isthmus schema``."""

import json

import click

from agent.cli.options import Verb
from agent.config import schema


@click.command(cls=Verb)
def command() -> None:
    """Print the JSON schema of the configuration file.

    Editors complete and check by it, for example with a first line
    `# yaml-language-server: $schema=isthmus.schema.json`.
    """
    click.echo(json.dumps(schema(), indent=2))
