"""``isthmus once``."""

import json

import click

from agent.cli.exits import FAILED, HELD, largest
from agent.cli.logs import set_up_logging
from agent.cli.opening import working
from agent.cli.options import Options, Verb
from agent.config import load
from agent.daemon import Agent, Outcome
from agent.serving import LaneReport
from agent.words import count, plain


@click.command(cls=Verb)
@click.pass_obj
def command(options: Options) -> int:
    """Read every registry, bring every cluster up to date, and end.

    Exits with 1 when a registry or cluster failed, and with 12 when removals are held. Beside an agent that runs it is
    refused: the state file is that agent's.
    """
    set_up_logging(options)
    with working(load(options.config)) as agent:
        outcome = agent.once()
        return show(options, agent, outcome)


def show(options: Options, agent: Agent, outcome: Outcome) -> int:
    """Print how a single run ended; return the exit code."""
    reports = {name: lane.report() for name, lane in agent.lanes.items()}
    if options.json:
        clusters = {
            name: {
                "policy": report.policy,
                "paused": report.paused,
                "error": report.error,
                "objects": report.objects,
                "writes": report.writes,
                "pending": report.pending,
                "withheld": len(report.withheld),
            }
            for name, report in reports.items()
        }
        found = {"clusters": clusters, "failures": list(outcome.failures), "held": outcome.held}
        click.echo(json.dumps(found, indent=2))
    else:
        for name, report in reports.items():
            click.echo(f"{name}: {_summary(report)}")
    for failure in outcome.failures:
        click.echo(plain(failure), err=True)
    if outcome.held:
        click.echo(f"{count(outcome.held, 'removal')} held: see `isthmus holds`", err=True)
    return largest(FAILED if outcome.failures else 0, HELD if outcome.held else 0)


def _summary(report: LaneReport) -> str:
    if not report.read:
        return "could not be read"
    parts = [count(report.objects, "object"), count(report.writes, "write")]
    if report.is_paused:
        parts.append(f"paused, {report.pending} waiting")
    elif report.pending:
        parts.append(f"{report.pending} not written")
    if report.withheld:
        parts.append(f"{count(len(report.withheld), 'deletion')} withheld")
    return ", ".join(parts)
