"""``isthmus export``."""

import json
from dataclasses import replace

import click

from agent.cli.exits import FAILED, HELD, largest
from agent.cli.logs import set_up_logging
from agent.cli.opening import rehearsing
from agent.cli.options import Options, Verb
from agent.clusters.documents import document_of
from agent.config import ClusterSettings, Config, load
from agent.daemon import Agent
from agent.hosts import Place
from agent.naming import host_label
from agent.translate import translate
from agent.words import count, plain
from state.model import Resource

KEPT = "# Kept where it is: its removal waits.\n"


@click.command(cls=Verb)
@click.argument("cluster", required=False)
@click.pass_obj
def command(options: Options, cluster: str | None) -> int:
    """Print the objects that CLUSTER should hold.

    One YAML stream, or with `-o json` one list; CLUSTER may be left out when there is only one. Reads every registry
    and no cluster, and judges on a copy of the state file. An object that is only kept, since its removal waits,
    carries a comment. When a registry of which nothing is remembered cannot be read, nothing is printed rather than a
    part.
    """
    set_up_logging(options)
    config = load(options.config)
    settings = config.clusters[_chosen(config, cluster)]
    with rehearsing(replace(config, clusters={})) as agent:
        _, failures, held = agent.plan()
        whole = all(agent.view.passed(name) or belief.remembered for name, belief in agent.view.beliefs.items())
        resources, rejected = _desired(agent, settings)
    for failure in (*failures, *rejected):
        click.echo(plain(failure), err=True)
    if held:
        click.echo(f"{count(held, 'removal')} held: see `isthmus plan`", err=True)
    if whole:
        _print(resources, options.json)
    return largest(FAILED if failures else 0, HELD if held else 0)


def _chosen(config: Config, cluster: str | None) -> str:
    """Return the cluster that is meant; UsageError naming the known ones when that cannot be told."""
    known = ", ".join(config.clusters)
    if cluster is None and len(config.clusters) > 1:
        raise click.UsageError(f"There are several clusters. Choose one: {known}")
    if cluster is not None and cluster not in config.clusters:
        raise click.UsageError(f"There is no cluster {cluster!r}. Known are: {known}")
    return cluster or next(iter(config.clusters))


def _desired(agent: Agent, settings: ClusterSettings) -> tuple[list[Resource], list[str]]:
    """Return the objects of a cluster, hosts in the order of their places, and what was rejected."""
    own = settings.namespace
    places = {Place(host.namespace or own, host_label(host.host)) for host in agent.view.hosts()}
    resources: list[Resource] = []
    rejected: list[str] = []
    for place in sorted(places):
        host = agent.view.host(place, own)
        if host is not None:
            translation = translate(host, owner=agent.config.owner, cluster=settings.name, namespace=own)
            resources += translation.resources
            rejected += translation.rejected
    return resources, rejected


def _print(resources: list[Resource], as_json: bool) -> None:
    if as_json:
        items = [resource.manifest() for resource in resources]
        click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2))
        return
    documents = ((KEPT if resource.kept else "") + document_of(resource).text for resource in resources)
    click.echo("---\n".join(documents), nl=False)
