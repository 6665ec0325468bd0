"""``isthmus purge``."""

from contextlib import closing

import click

from agent.cli.asking import NoAgentError, ask_ours
from agent.cli.consent import agreed
from agent.cli.estates import known_owners, show_done, show_estate
from agent.cli.logs import set_up_logging
from agent.cli.opening import clusters_of, remembered_alone
from agent.cli.options import Options, Verb
from agent.cli.pause import require_cluster
from agent.config import Config, load
from agent.estate import purgeable
from agent.inheritance import Done, namespaces_of, purge
from agent.words import count


@click.command(cls=Verb)
@click.argument("cluster")
@click.option("--owner", required=True, help="Whose objects are deleted.")
@click.option("--namespace", "more", multiple=True, help="A further namespace, which the configuration does not name.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(options: Options, cluster: str, owner: str, more: tuple[str, ...], yes: bool) -> int:
    """Delete everything that an owner has left in CLUSTER.

    For an owner that is gone for good: one that still runs writes it all again. What will go is listed first. A
    ServiceEntry that selects WorkloadEntries of another owner is left, as that owner's clients call it.

    One's own objects can be purged only while the cluster is paused, since they would be written again else.
    """
    set_up_logging(options)
    config = load(options.config)
    require_cluster(config, cluster)
    if owner == config.owner:
        _require_pause(config, cluster)
    namespaces = namespaces_of(config) | set(more)
    with closing(clusters_of(config)(cluster)) as opened:
        objects = opened.read(namespaces)
        estate = purgeable(objects, owner)
        show_estate(options, cluster, estate, "-")
        if not estate.objects:
            return show_done(options, f"{owner} has nothing in {cluster} to delete. {known_owners(objects)}", Done())
        if not agreed(f"Delete {count(len(estate.objects), 'object')} of {owner} from {cluster}?", yes):
            return show_done(options, "Everything stays as it is.", Done())
        done = purge(opened, namespaces, owner, estate)
    return show_done(options, f"{cluster}: {count(done.objects, 'object')} of {owner} deleted.", done)


def _require_pause(config: Config, cluster: str) -> None:
    """Raise UsageError unless a cluster is paused: else an agent would write again what is purged."""
    try:  # an agent that runs may have another configuration than the one in the file
        report = ask_ours(config, "/v1/status")["clusters"].get(cluster, {})
        paused = bool(report.get("paused")) or report.get("policy") == "paused"
    except NoAgentError as silence:
        with remembered_alone(config, silence) as checkpoint:
            paused = cluster in checkpoint.paused() or config.clusters[cluster].policy == "paused"
    if not paused:
        raise click.UsageError(
            f"{config.owner!r} is the owner in the configuration, so all of it would be written again: "
            f"first `isthmus pause {cluster}`"
        )
