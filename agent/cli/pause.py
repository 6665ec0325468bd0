"""``isthmus pause``, and what it has in common with ``resume``."""

import json
from typing import Any

import click

from agent.cli.asking import NoAgentError, ask, ask_ours, show_refusal
from agent.cli.logs import set_up_logging
from agent.cli.opening import remembered_alone
from agent.cli.options import Options, Verb
from agent.config import Config, load
from agent.words import count


@click.command(cls=Verb)
@click.argument("cluster")
@click.pass_obj
def command(options: Options, cluster: str) -> int:
    """Write nothing to CLUSTER until it is resumed.

    At once: what is being written ends, nothing else begins. The agent goes on to read registries and the cluster, and
    tells how many changes wait. It is remembered over restarts; the other clusters are served as ever.

    Goes through the control socket of the agent that runs. Without an agent the next one obeys.
    """
    return order(options, cluster, paused=True)


def order(options: Options, cluster: str, *, paused: bool) -> int:
    """Let a cluster be paused, or be served again; return the exit code."""
    set_up_logging(options)
    config = load(options.config)
    require_cluster(config, cluster)
    try:
        ask_ours(config, "/v1/status")
    except NoAgentError as silence:
        with remembered_alone(config, silence) as checkpoint:
            checkpoint.set_paused(cluster, paused=paused)
        answer: dict[str, Any] = {"paused": paused, "running": False}
    else:
        told = ask(config, "/v1/pause" if paused else "/v1/resume", {"name": cluster})
        if told.error:
            return show_refusal(told)
        answer = {**told.content, "running": True}
    if options.json:
        click.echo(json.dumps(answer))
    else:
        click.echo(_sentence(cluster, answer, config.clusters[cluster].policy == "paused"))
    return 0


def require_cluster(config: Config, name: str) -> None:
    """Raise UsageError unless a configuration has a cluster of this name."""
    if name not in config.clusters:
        raise click.UsageError(f"There is no cluster {name!r}. Known are: {', '.join(config.clusters)}")


def _sentence(cluster: str, answer: dict[str, Any], configured: bool) -> str:
    waiting = answer.get("pending", 0)
    if not answer["paused"]:
        if configured:
            return f"{cluster} is resumed, but its policy in the configuration is paused: nothing is written to it."
        if not answer["running"]:
            return f"{cluster} is resumed: the next agent writes to it."
        return f"{cluster} is resumed, {count(waiting, 'change')} to write."
    until = f"until `isthmus resume {cluster}`"
    if not answer["running"]:
        return f"{cluster} is paused: no agent runs, and the next one writes nothing to it {until}."
    if answer["writing"]:
        return f"{cluster} is paused, but {count(answer['writing'], 'write')} had begun and may still be taken."
    return f"{cluster} is paused: nothing is written to it {until}, {count(waiting, 'change')} waiting."
