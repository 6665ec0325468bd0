"""The command line: one verb a module, imported only when it is asked for."""

from importlib import import_module
from typing import Any

import click

from agent.cli.exits import CONFIGURATION, FAILED, STATE
from agent.cli.options import shared_options
from state.errors import ConfigurationError, IsthmusError, StateError

VERBS = {
    "run": "Keep every cluster true until stopped.",
    "once": "Read every registry, bring every cluster up to date, and end.",
    "plan": "Show what `once` would do, and change nothing.",
    "check": "Tell what is wrong with the configuration, registries and clusters, and what mends it.",
    "status": "Show how it is with every registry and cluster.",
    "holds": "Show which removals wait, why, and how that ends.",
    "accept": "Let held removals be carried out.",
    "explain": "Tell why an endpoint is in service or is not, and where each of its values comes from.",
    "history": "Show what was written to clusters: when, why, by whose word, and how late.",
    "pause": "Write nothing to CLUSTER until it is resumed.",
    "resume": "Write to CLUSTER again, from the changes on that have waited.",
    "purge": "Delete everything that an owner has left in CLUSTER.",
    "adopt": "Take over what another owner has in CLUSTER.",
    "export": "Print the objects that CLUSTER should hold.",
    "watch-config": "Print the watches that tell the agent of changes, for Consul's configuration.",
    "rbac": "Print the least that isthmus must be allowed to do in CLUSTER.",
    "demo": "Play a story on an embedded registry and two directories.",
    "schema": "Print the JSON schema of the configuration file.",
}


class Verbs(click.Group):
    """The verbs by name; a verb's module is ``agent.cli.NAME``, its command ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import the verb that is asked for."""
        if cmd_name not in VERBS:
            return None
        command = import_module(f"agent.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the verbs without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Carry out a verb; what can be foreseen to fail ends with a sentence and its exit code."""
        try:
            code = super().invoke(ctx)
        except ConfigurationError as error:
            code = _fail([*error.problems, *filter(None, [error.remedy])], CONFIGURATION)
        except StateError as error:
            code = _fail([str(error)], STATE)
        except IsthmusError as error:
            code = _fail([str(error)], FAILED)
        ctx.exit(code or 0)


def _fail(lines: list[str], code: int) -> int:
    for line in lines:
        click.echo(line, err=True)
    return code


@click.group(name="isthmus", cls=Verbs, params=shared_options())
def main() -> None:
    """Mirror the services of registries into every mesh."""
