"""``isthmus watch-config``."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from agent.cli.consul_files import FOLDER, SUFFIX, file_in, install
from agent.cli.logs import set_up_logging
from agent.cli.options import Options, Verb
from agent.config import Config, load
from agent.consul_user import Caller, caller, hindrance
from agent.installation import HOOK, HOOK_SOCKET, is_packaged
from agent.words import count, plain
from hooks import send
from hooks.consul.client import ConsulClient, unaskable
from hooks.consul.settings import ConsulSettings
from hooks.settings import ReceiverSettings
from hooks.tokens import read_tokens
from state.errors import ConfigurationError
from state.limits import Limits

TIMEOUT = "2s"  # of a call over HTTP: until it ends, Consul keeps that watch's next one waiting
MANY = 100  # watches; each is one of the 200 connections that Consul grants a client address by default

Handler = Callable[..., Mapping[str, Any]]  # of a call's parts: the type, and perhaps a service


@click.command(cls=Verb)
@click.argument("registry")
@click.option("--handler", type=click.Choice(["script", "http"]), required=True, help="How Consul calls the agent.")
@click.option(
    "--service", "globs", metavar="GLOB", multiple=True, help="Services to watch one by one, as they are now."
)
@click.option(
    "--install",
    "place",
    metavar="[FILE]",
    is_flag=False,
    flag_value=str(FOLDER),
    type=click.Path(path_type=Path),
    help=f"Write them, into {FOLDER}/isthmus-REGISTRY{SUFFIX} unless another file or folder is named.",
)
@click.pass_obj
def command(options: Options, registry: str, handler: str, globs: tuple[str, ...], place: Path | None) -> None:
    """Print the watches that tell the agent of changes, for Consul's configuration.

    The JSON belongs into a file in the configuration folder of the Consul agent on this machine, which then needs
    `consul reload`; `--install` puts it there, and replaces nothing but what it has put there before. REGISTRY is the
    registry that the calls are about. Nothing depends on them: isthmus only looks sooner.

    With `script`, Consul's user starts `isthmus-hook`, which it has to be able to read, and needs the group of
    `receiver.socket`. With `http` the output contains the token from `receiver.token_file`.

    The watches read under Consul's default token, as a token of their own would have to stand in them. Each `--service`
    that matches reads the services' names from the registry now, takes those in its scope, and holds one connection
    in Consul for each.
    """
    set_up_logging(options)
    config = load(options.config)
    if registry not in config.registries:
        raise click.UsageError(f"There is no registry {registry!r}. Known are: {', '.join(config.registries)}")
    settings = config.registries[registry]
    if not isinstance(settings, ConsulSettings):
        raise click.UsageError(
            f"Registry {registry!r} is a Eureka, which has no watches: it is polled, every {settings.poll:g} s. "
            "Watches are for registries of type consul."
        )
    call = _handler(options.config, config.receiver, registry, handler)
    names = _names(settings, config.limits, globs) if globs else []
    watches = _watches(settings.datacenter, names, call)
    text = json.dumps({"watches": watches}, indent=2) + "\n"
    if place is None:
        click.echo(text, nl=False)
    notes = [*_notes(config, settings, handler, len(watches))]
    if place is not None:
        who = caller()
        _install(place, text, registry, who, secret=handler == "http")
        if handler == "script":
            notes += filter(None, [hindrance(_socket(config.receiver) or HOOK_SOCKET, who)])
    for note in notes:
        click.echo(plain(note), err=True)


def _install(place: Path, text: str, registry: str, who: Caller | None, *, secret: bool) -> None:
    path = file_in(place.absolute(), registry)
    if install(path, text, registry, secret=secret, caller=who):
        click.echo(f"{path} is written. Consul reads it at the next `consul reload`.")
    else:
        click.echo(f"{path} holds these watches already.")


def _socket(receiver: ReceiverSettings | None) -> Path | None:
    """Return where scripts deliver: as configured, or where the package's isthmus.socket listens anyhow."""
    configured = None if receiver is None else receiver.socket
    return HOOK_SOCKET if configured is None and is_packaged() else configured


def _handler(file: Path, receiver: ReceiverSettings | None, registry: str, handler: str) -> Handler:
    """Return what makes a watch's handler; ConfigurationError when the receiver does not serve that kind."""
    if handler == "script":
        socket = _socket(receiver)
        if socket is None:
            raise ConfigurationError([f"{file}: receiver.socket: is required for --handler script"])
        return _script(socket, registry)
    if receiver is None or receiver.http is None or receiver.token_file is None:
        raise ConfigurationError([f"{file}: receiver.http: is required for --handler http, and token_file beside it"])
    # The first of several: a new one is added above the old, which stays until Consul has read this.
    return _http(receiver.http, read_tokens(receiver.token_file)[0].decode("ascii"), registry)


def _script(socket: Path, registry: str) -> Handler:
    """Return what starts `isthmus-hook`, by a name that an upgrade of the package does not change.

    Without a package that is the fastest way, which no command that an environment has can be.
    """
    hook = [str(HOOK)] if is_packaged() else [sys.executable, "-I", "-S", str(Path(send.__file__).absolute())]
    return lambda *called: {
        "handler_type": "script",
        "args": [*hook, "--socket", str(socket.absolute()), registry, *called],
    }


def _http(listen: tuple[str, int], token: str, registry: str) -> Handler:
    host, port = listen
    base = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1/consul"

    def call(*called: str) -> Mapping[str, Any]:
        request = {
            "path": "/".join((base, *(quote(part, safe="") for part in (registry, *called)))),
            "method": "POST",
            "header": {"Authorization": [f"Bearer {token}"]},
            "timeout": TIMEOUT,
        }
        return {"handler_type": "http", "http_handler_config": request}

    return call


def _names(settings: ConsulSettings, limits: Limits, globs: Iterable[str]) -> list[str]:
    """Return the services in scope that match; says which globs match none, and leaves out what no URL can ask for."""
    with closing(ConsulClient(settings, limits)) as client:
        names = client.services().body
    found: set[str] = set()
    for glob in globs:
        matched = {name for name in names if fnmatchcase(name, glob)}
        if not matched:
            click.echo(f"no service of {settings.name} that is in scope matches {glob!r}", err=True)
        found |= matched
    for name in sorted(filter(unaskable, found)):
        click.echo(f"service {name!r} is left out: {unaskable(name)}", err=True)
    return sorted(name for name in found if not unaskable(name))


def _watches(datacenter: str, names: Iterable[str], call: Handler) -> list[Mapping[str, Any]]:
    where = {"datacenter": datacenter} if datacenter else {}
    return [
        {"type": "services", **where, **call("services")},
        {"type": "nodes", **where, **call("nodes")},
        # Any state would hand over every check of the registry each time.
        *({"type": "checks", "state": state, **where, **call("checks")} for state in ("critical", "warning")),
        *({"type": "service", "service": name, **where, **call("service", name)} for name in names),
    ]


def _notes(config: Config, settings: ConsulSettings, handler: str, watches: int) -> Iterable[str]:
    """Yield what whoever uses the output should know."""
    if handler == "http" and config.receiver is not None:
        yield f"This contains the token from {config.receiver.token_file}: nobody but Consul should be able to read it."
    if settings.token_file is not None:
        yield (
            f"These watches do not use {settings.token_file}: Consul runs them under acl.tokens.default, which has to "
            "be able to read the nodes, and the services that they are about."
        )
    if watches > MANY:
        yield (
            f"These are {count(watches, 'watch', 'watches')}, and each holds one of the connections that Consul grants "
            "its own address: limits.http_max_conns_per_client, 200 by default."
        )
