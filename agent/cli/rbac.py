"""``isthmus rbac``."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import click
import yaml

from agent.check.rights import GROUP, RESOURCES, namespaces, verbs
from agent.cli.logs import set_up_logging
from agent.cli.options import Options, Verb
from agent.clusters.settings import KubernetesSettings
from agent.config import Config, load
from state.model import PRODUCT

RBAC = "rbac.authorization.k8s.io"
Object = Mapping[str, Any]

OPTIONAL = """\
# Optional, and read by `isthmus check` alone: whether the namespaces are there, and whether a Kubernetes Service would
# take the endpoints. Remove the first two characters of each line to grant it.
"""


class Account(click.ParamType[tuple[str, str]]):
    """``NAMESPACE/NAME`` of a service account."""

    name = "NAMESPACE/NAME"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[str, str]:
        """Return the two parts."""
        namespace, slash, name = str(value).partition("/")
        if not (namespace and slash and name) or "/" in name:
            self.fail(f"{value!r} is not NAMESPACE/NAME", param, context)
        return namespace, name


@click.command(cls=Verb)
@click.argument("cluster")
@click.option(
    "--service-account",
    "account",
    type=Account(),
    help="Who is allowed.  [default: isthmus, in the cluster's namespace]",
)
@click.pass_obj
def command(options: Options, cluster: str, account: tuple[str, str] | None) -> None:
    """Print the least that isthmus must be allowed to do in CLUSTER.

    A Role and a RoleBinding for each namespace that the configuration names, to be given to `kubectl apply -f -`. With
    `-o json` as one list, without the optional part that only `check` reads.
    """
    set_up_logging(options)
    config = load(options.config)
    settings = config.clusters.get(cluster)
    if settings is None:
        raise click.UsageError(f"There is no cluster {cluster!r}. Known are: {', '.join(config.clusters)}")
    if not isinstance(settings, KubernetesSettings):
        raise click.UsageError(f"{cluster} is a directory: all that is needed is to write in {settings.directory}")
    account = account or (settings.namespace, PRODUCT)
    objects = _needed(config, settings, account)
    if options.json:
        click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}, indent=2))
        return
    click.echo(_heading(settings, account), nl=False)
    click.echo(_yaml(objects), nl=False)
    optional = _yaml(_optional(config, settings, account))
    click.echo(OPTIONAL + "".join(f"# {line}\n" for line in optional.splitlines()), nl=False)


def _heading(settings: KubernetesSettings, account: tuple[str, str]) -> str:
    namespace, name = account
    policy = "" if settings.policy == "sync" else f", as its policy is {settings.policy}"
    return (
        f"# What isthmus needs in cluster {settings.name}{policy}. The account is not made here:\n"
        f"#   kubectl -n {namespace} create serviceaccount {name}\n"
    )


def _needed(config: Config, settings: KubernetesSettings, account: tuple[str, str]) -> list[Object]:
    rules: list[Object] = [{"apiGroups": [GROUP], "resources": list(RESOURCES), "verbs": list(verbs(settings.policy))}]
    return _granted(f"{PRODUCT}-{config.owner}", namespaces(config, settings.name), rules, account)


def _optional(config: Config, settings: KubernetesSettings, account: tuple[str, str]) -> list[Object]:
    rules: list[Object] = [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]},
    ]
    return _granted(f"{PRODUCT}-{config.owner}-check", namespaces(config, settings.name), rules, account)


def _granted(name: str, where: Iterable[str], rules: list[Object], account: tuple[str, str]) -> list[Object]:
    """Return a Role and its RoleBinding for each namespace; a Role counts for a namespace's own object, too."""
    subject = {"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}
    objects: list[Object] = []
    for namespace in where:
        version, metadata = {"apiVersion": f"{RBAC}/v1"}, {"metadata": {"name": name, "namespace": namespace}}
        reference = {"apiGroup": RBAC, "kind": "Role", "name": name}
        objects.append({**version, "kind": "Role", **metadata, "rules": rules})
        objects.append({**version, "kind": "RoleBinding", **metadata, "roleRef": reference, "subjects": [subject]})
    return objects


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - yaml's signature
        """Write out what is used twice."""
        return True


def _yaml(objects: Iterable[Object]) -> str:
    return "".join(
        f"---\n{yaml.dump(dict(one), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)}"
        for one in objects
    )
