"""``isthmus adopt``."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import click

from agent.cli.consent import agreed
from agent.cli.estates import known_owners, show_done, show_estate
from agent.cli.logs import set_up_logging
from agent.cli.opening import alone, clusters_of, state_file
from agent.cli.options import Options, Verb
from agent.cli.pause import require_cluster
from agent.clusters.open import open_cluster
from agent.config import Config, load
from agent.daemon import Agent, remembering
from agent.estate import Estate, adoptable
from agent.gate import instances_of
from agent.inheritance import Done, claim, namespaces_of
from agent.words import count
from state.checkpoint import Carried, Checkpoint
from state.errors import ClusterError


@click.command(cls=Verb)
@click.argument("cluster")
@click.option("--owner", required=True, help="Whose objects are taken over.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(options: Options, cluster: str, owner: str, yes: bool) -> int:
    """Take over what another owner has in CLUSTER.

    Such as this agent's own objects under a former name. Every object stays where it is: only the label, or
    annotation, that names its owner is written. What that owner's registries list and this configuration does not hear
    of is left. The agent must be stopped meanwhile, and so must that of the other owner.

    When an owner was renamed, adopt every cluster; the state file goes over to the new name with the last one.
    """
    set_up_logging(options)
    config = load(options.config)
    require_cluster(config, cluster)
    if owner == config.owner:
        raise click.UsageError(f"{owner!r} is the owner in the configuration: name the one before, or another")
    with _state(config, owner) as checkpoint:
        with closing(open_cluster(config.clusters[cluster], config.limits)) as opened:
            objects = opened.read(_namespaces(config, checkpoint, cluster))
            estate = adoptable(objects, owner, config.registries)
            show_estate(options, cluster, estate, "~")
            if not estate.objects:
                done, sentence = Done(left=list(estate.left)), f"{owner} has nothing in {cluster} to take over."
                sentence = f"{sentence} {known_owners(objects)}"
            elif not agreed(f"Take over {count(len(estate.objects), 'object')} of {owner} in {cluster}?", yes):
                return show_done(options, "Everything stays as it is.", Done())
            else:
                _prepare(config, checkpoint, cluster, estate)
                done = claim(opened, owner, config.owner, estate)
                sentence = f"{cluster}: {count(done.objects, 'object')} of {owner} taken over."
        if not done.failures:
            sentence += _inherit(config, checkpoint, owner)
    return show_done(options, sentence, done)


@contextmanager
def _state(config: Config, owner: str) -> Iterator[Checkpoint]:
    """Give the state file of either owner; StateError while an agent has it."""
    with alone(state_file(config), lambda error: f"{error}: stop the agent, adopt, and start it again") as checkpoint:
        if checkpoint.owner != owner:
            remembering(config, checkpoint)
        yield checkpoint


def _namespaces(config: Config, checkpoint: Checkpoint, cluster: str) -> frozenset[str]:
    return namespaces_of(config) | {key.namespace for key in checkpoint.applied(cluster)}


def _prepare(config: Config, checkpoint: Checkpoint, cluster: str, estate: Estate) -> None:
    """Make sure that the next agent deletes nothing hastily of what it has not written itself.

    What no registry has listed is held, as after the loss of the state file; and much of what a registry lists and the
    rules do not want is withheld, as after a change of configuration.
    """
    agent = Agent(replace(config, clusters={}), checkpoint, clusters_of(config))
    try:
        agent.view.adopt(instances_of(estate.objects))
        if checkpoint.carried(cluster) is not None:
            checkpoint.set_carried(cluster, Carried())
    finally:
        agent.stop()


def _inherit(config: Config, checkpoint: Checkpoint, owner: str) -> str:
    """Let the state file go over from a former owner when no cluster has anything of that one; tell how that is."""
    if checkpoint.owner != owner:
        return ""
    for name in config.clusters:
        try:
            with closing(clusters_of(config)(name)) as opened:
                objects = opened.read(_namespaces(config, checkpoint, name))
                rest = adoptable(objects, owner, config.registries).objects
        except ClusterError as error:
            return f" The state file stays {owner}'s until cluster {name} can be read: {error}"
        if rest:
            return f" The state file stays {owner}'s until {name} is adopted: isthmus adopt {name} --owner {owner}"
    checkpoint.set_owner(config.owner)
    return f" The state file is {config.owner}'s now."
