"""``isthmus resume``."""

import click

from agent.cli.options import Options, Verb
from agent.cli.pause import order


@click.command(cls=Verb)
@click.argument("cluster")
@click.pass_obj
def command(options: Options, cluster: str) -> int:
    """Write to CLUSTER again, from the changes on that have waited.

    Ends what `isthmus pause` began. A cluster whose policy in the configuration is `paused` stays so.
    """
    return order(options, cluster, paused=False)
