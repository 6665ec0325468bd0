"""Asking the agent that runs, through its control socket."""

import os
import socket
from typing import Any, NamedTuple

import click
import httpx

from agent.cli.exits import FAILED, USAGE
from agent.config import Config
from agent.installation import allowed
from agent.words import plain
from state.checkpoint import Checkpoint
from state.errors import IsthmusError, StateError

UNKNOWN = 404  # what was named
CONNECT = 2.0  # seconds
READ = 10.0
ACCEPT = 600.0  # it may take a whole pass


class NoAgentError(IsthmusError):
    """No agent of this configuration answers; the text says why."""


class Answer(NamedTuple):
    """What an agent answered."""

    code: int
    content: dict[str, Any]

    @property
    def error(self) -> str:
        """Return what was wrong with the request, or nothing."""
        return str(self.content.get("error", "")) if self.code >= 400 else ""


def show_refusal(answer: Answer) -> int:
    """Print why an agent refused what it was asked for; return the exit code."""
    click.echo(plain(answer.error), err=True)
    return USAGE if answer.code == UNKNOWN else FAILED


def ask(config: Config, path: str, send: dict[str, str] | None = None) -> Answer:
    """Return the agent's answer to a GET, or to a POST of what is to be sent; NoAgentError when there is none."""
    _knock(config)
    transport = httpx.HTTPTransport(uds=str(config.control), verify=False, trust_env=False)
    timeout = httpx.Timeout(READ if send is None else ACCEPT, connect=CONNECT)
    try:
        with httpx.Client(transport=transport, timeout=timeout, base_url="http://isthmus", trust_env=False) as client:
            response = client.get(path) if send is None else client.post(path, json=send)
            content = response.json()
    except (httpx.TransportError, httpx.DecodingError, OSError, ValueError) as error:
        raise NoAgentError(f"no agent answers at {config.control}: {str(error) or type(error).__name__}") from error
    if not isinstance(content, dict):
        raise NoAgentError(f"what answers at {config.control} is no isthmus")
    return Answer(response.status_code, content)


def ask_ours(config: Config, path: str) -> dict[str, Any]:
    """Return the answer to a GET; NoAgentError unless it is of the same owner and state file."""
    code, content = ask(config, path)
    if code != 200:
        raise NoAgentError(f"the agent at {config.control} answered {code}: {content.get('error', 'no reason given')}")
    theirs = (content.get("owner"), content.get("state"))
    if theirs != (config.owner, str(config.state.resolve())):
        raise NoAgentError(
            f"the agent at {config.control} is another one: its owner is {theirs[0]}, its state file {theirs[1]}"
        )
    return content


def copy_of_state(config: Config, silence: NoAgentError) -> Checkpoint:
    """Return a copy of the state file, to be read instead of asking; StateError that says what to do."""
    advice = "Start an agent with `isthmus run`, or ask as root or as the user of the service."
    try:
        os.stat(config.state)
        return Checkpoint.copy(config.state)
    except FileNotFoundError as error:
        raise StateError(f"{silence}; and there is no state file {config.state}. {advice}") from error
    except OSError as error:
        raise StateError(f"{silence}; and state file {config.state}: {error.strerror}. {advice}") from error
    except StateError as error:
        raise StateError(f"{silence}; and {error}. {advice}") from error


def _knock(config: Config) -> None:
    """Raise NoAgentError, in the words of the operating system, when nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT)
        try:
            probe.connect(str(config.control))
        except OSError as error:
            why = error.strerror or str(error)
            if isinstance(error, PermissionError):
                why += f": {allowed(config.control)} ask there"
            raise NoAgentError(f"no agent answers at {config.control}: {why}") from error
