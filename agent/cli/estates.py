"""What `purge` and `adopt` have in common: showing an owner's objects, and what became of them."""

import json
from collections.abc import Mapping

import click

from agent.cli.exits import FAILED
from agent.cli.options import Options
from agent.estate import Estate, Left, owners
from agent.inheritance import Done
from agent.words import plain
from state.model import Held, ResourceKey


def show_estate(options: Options, cluster: str, estate: Estate, mark: str) -> None:
    """List what will be written or deleted, as `isthmus plan` does, and what is left; in front of an answer in JSON."""
    for held in estate.objects:
        click.echo(plain(f"{mark} {cluster} {held.key}"), err=options.json)
    for one in estate.left:
        click.echo(plain(f"  {cluster} {one.held.key} is left: {one.why}"), err=options.json)


def show_done(options: Options, sentence: str, done: Done) -> int:
    """Print how it ended; return the exit code."""
    if options.json:
        content = {"objects": done.objects, "left": [_row(one) for one in done.left], "failures": done.failures}
        click.echo(json.dumps({**content, "sentence": sentence}, indent=2))
    else:
        click.echo(plain(sentence))
    for failure in done.failures:
        click.echo(plain(failure), err=True)
    return FAILED if done.failures else 0


def _row(one: Left) -> dict[str, str]:
    return {**one.held.key._asdict(), "why": one.why}


def known_owners(objects: Mapping[ResourceKey, Held]) -> str:
    """Return a sentence that names everybody who has something there."""
    return f"Owners there: {', '.join(owners(objects.values())) or 'none'}."
