"""``isthmus check``."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict

import click

from agent.check.finding import CONFIGURATION, STATE, Finding, Level, error
from agent.check.survey import Survey, survey
from agent.cli import exits
from agent.cli.asking import NoAgentError, ask_ours
from agent.cli.logs import set_up_logging
from agent.cli.options import Options, Verb
from agent.cli.tables import console, table
from agent.config import Config, load
from agent.installation import manual
from agent.words import count
from state.errors import ConfigurationError


@click.command(cls=Verb)
@click.option("--config-only", is_flag=True, help="Ask no registry and no cluster.")
@click.pass_obj
def command(options: Options, config_only: bool) -> int:
    """Tell what is wrong with the configuration, registries and clusters, and what mends it.

    Nothing is written, and an agent may run meanwhile. Also prints the policy that Consul's token needs. Exits with 1
    when a registry or cluster cannot be reached or used, with 10 for the configuration, and with 11 for the state file.
    """
    set_up_logging(options)
    try:
        config = load(options.config)
    except ConfigurationError as problem:
        mend = problem.remedy or f"mend the file: {manual()} has every key"
        found = Survey(tuple(error(CONFIGURATION, line, mend) for line in problem.problems), {})
    else:
        found = survey(config, running=_runs(config), config_only=config_only)
    if options.json:
        findings = [asdict(finding) for finding in found.findings]
        click.echo(json.dumps({"findings": findings, "policies": dict(found.policies)}, indent=2))
    else:
        _show(found.findings, found.policies)
    return exits.largest(*(_code(finding) for finding in found.findings))


def _runs(config: Config) -> bool:
    try:
        ask_ours(config, "/v1/status")
    except NoAgentError:
        return False
    return True


def _code(finding: Finding) -> int:
    if finding.level is not Level.ERROR:
        return 0
    return {CONFIGURATION: exits.CONFIGURATION, STATE: exits.STATE}.get(finding.place, exits.FAILED)


def _show(findings: Iterable[Finding], policies: Mapping[str, str]) -> None:
    output = console()
    rows: list[tuple[str, str, str]] = []
    for finding in findings:
        rows.append((finding.level, finding.place, finding.seen))
        if finding.remedy:
            rows.append(("", "", f"-> {finding.remedy}"))
    output.print(table(("LEVEL", "WHERE", "WHAT"), rows))
    for name, text in policies.items():
        output.print(f"\nThe policy that the token of registry {name} needs:\n")
        output.print(text, end="")
    found = Counter(finding.level for finding in findings)
    told = [count(found[level], level) for level in (Level.ERROR, Level.WARNING, Level.NOTE) if found[level]]
    output.print(f"\n{', '.join(told) or 'all is well'}")
