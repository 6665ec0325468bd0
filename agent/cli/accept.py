"""``isthmus accept``."""

import json

import click

from agent.cli.asking import Answer, NoAgentError, ask, ask_ours, show_refusal
from agent.cli.consent import agreed
from agent.cli.exits import HELD
from agent.cli.logs import set_up_logging
from agent.cli.once import show as show_outcome
from agent.cli.opening import alone, rehearsing, unasked, working
from agent.cli.options import Options, Verb
from agent.cli.tables import console, show_holds
from agent.config import Config, load
from agent.holds import Row, accepts, removals, shown, withheld
from agent.words import count
from state.errors import ClusterError, Fault


@click.command(cls=Verb)
@click.argument("name")
@click.argument("hold", default="")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def command(options: Options, name: str, hold: str, yes: bool) -> int:
    """Let held removals be carried out.

    NAME is a registry, which is read first: only what is still missing goes. Or it is a cluster that withholds
    deletions after a change of configuration or version. HOLD is the short name of one removal, as `isthmus holds`
    shows it.

    Goes through the control socket of the agent that runs. Without an agent it is a run of `once` that accepts what an
    earlier run has held.
    """
    set_up_logging(options)
    config = load(options.config)
    if name not in config.registries and name not in config.clusters:
        known = ", ".join([*config.registries, *config.clusters])
        raise click.UsageError(f"There is no registry or cluster {name!r}. Known are: {known}")
    try:
        rows = ask_ours(config, "/v1/holds")["holds"]
    except NoAgentError as silence:
        return _accept_alone(options, config, name, hold, yes, silence)
    if not _agreed(options, rows, name, hold, yes):
        return 0
    # While a person thinks, more may come to be held: what was not shown is not agreed to.
    agreed_to = "" if yes else shown(row for row in rows if _is_asked(row, name, hold))
    return _show(options, name, ask(config, "/v1/accept", {"name": name, "hold": hold, "shown": agreed_to}))


def _accept_alone(options: Options, config: Config, name: str, hold: str, yes: bool, silence: NoAgentError) -> int:
    """Accept in a single run, which has the state file to itself."""
    with alone(working(config), unasked(silence)) as agent:
        if name in config.registries:
            rows = removals(agent)
        else:
            with rehearsing(config) as rehearsal:
                planned = {one.cluster: one for one in rehearsal.plan()[0]}
            if planned[name].error:
                raise ClusterError(Fault.CLUSTER, f"cluster {name}: {planned[name].error}")
            rows = withheld({name: planned[name].withheld})
        if not _agreed(options, rows, name, hold, yes):
            return 0
        return show_outcome(options, agent, agent.once(accept=(name, hold)))


def _agreed(options: Options, rows: list[Row], name: str, hold: str, yes: bool) -> bool:
    """List what would go and ask; False when that is nothing, or not wanted. UsageError for an unknown hold."""
    held = {row["hold"]: row for row in rows if row["name"] == name and accepts(row)}
    if not held:
        _say(options, f"Nothing of {name} is held.", accepted=0, still_held=0)
        return False
    if hold and hold not in held:
        raise click.UsageError(f"{name} has no hold {hold!r}. Known are: {', '.join(sorted(held))}")
    show_holds(console(stderr=options.json), [held[hold]] if hold else list(held.values()))
    if agreed("Let this go?", yes):
        return True
    _say(options, "Everything stays as it is.", accepted=0, still_held=len(held))
    return False


def _is_asked(row: Row, name: str, hold: str) -> bool:
    return row["name"] == name and accepts(row) and hold in ("", row["hold"])


def _show(options: Options, name: str, answer: Answer) -> int:
    """Print what an agent answered; return the exit code."""
    if answer.error:
        return show_refusal(answer)
    accepted, still = answer.content["accepted"], answer.content["still_held"]
    sentence = f"{name}: {count(accepted, 'removal')} accepted"
    _say(options, f"{sentence}, {still} still held." if still else f"{sentence}.", accepted=accepted, still_held=still)
    return HELD if still else 0


def _say(options: Options, sentence: str, **numbers: int) -> None:
    click.echo(json.dumps(numbers) if options.json else sentence)
