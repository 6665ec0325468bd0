"""The options that every verb takes, before the verb or after it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import click

CONFIGURATION = Path("/etc/isthmus/isthmus.yaml")


@dataclass(slots=True)
class Options:
    """What was given; an empty ``log_level`` leaves it to the verb."""

    config: Path = CONFIGURATION
    output: str = "table"
    log_level: str = ""
    log_format: str = "text"

    @property
    def json(self) -> bool:
        """Tell whether the answer is to be JSON."""
        return self.output == "json"


class Verb(click.Command):
    """A command that takes the shared options as well as its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(shared_options())


def shared_options() -> list[click.Parameter]:
    """Return the options, which put what they are given into the context's ``Options``."""
    return [
        _option(
            ["--config"],
            "config",
            type=click.Path(path_type=Path, readable=False),  # what is wrong with the file is for `load` to say
            help=f"The configuration file.  [default: {CONFIGURATION}]",
        ),
        _option(
            ["-o", "--output"],
            "output",
            type=click.Choice(["table", "json"]),
            help="Whether people or programs read the answer.  [default: table]",
        ),
        _option(
            ["--log-level"],
            "log_level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            help="What is logged to standard error.  [default: info for run, else error]",
        ),
        _option(
            ["--log-format"],
            "log_format",
            type=click.Choice(["text", "json"]),
            help="The form of a log line.  [default: text]",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version and exit.",
        ),
    ]


def _option(names: list[str], field: str, **given: Any) -> click.Option:
    return click.Option([*names, field], expose_value=False, callback=_keep(field), **given)


def _keep(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        options = context.ensure_object(Options)
        if value is not None:
            setattr(options, field, value)

    return keep


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        # Half of the time that `isthmus --help` takes would be its import.
        click.echo(f"isthmus {import_module('importlib.metadata').version('isthmus')}")
        context.exit()
