"""The reference of the configuration, made from its schema: `python -m tests.reference`, or `make docs`."""

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.config import schema
from state.limits import Limits

REFERENCE = Path(__file__).parents[1] / "docs" / "configuration.md"
HEAD = """\
# Configuration

One YAML file, `/etc/isthmus/isthmus.yaml` unless `--config` names another. This page is made from its schema, which
`isthmus schema` prints for editors; `make docs` makes it anew.

An unknown or a repeated key is an error. All mistakes are told at once, each with its line, and nothing is started.
Secrets are read from files only, and read again when they change; a relative path is looked up in
`$CREDENTIALS_DIRECTORY` first where it names a credential, then beside the configuration. A duration is `250ms`, `5s`,
`2m`, `1h` or a number of seconds.

A running agent takes a changed file on `SIGHUP`, or refuses all of it and goes on with what it has. `owner`, `state`,
`control`, `receiver` and `status` need a restart.
"""
TITLES = {
    "ConsulPart": "A registry of type consul",
    "EurekaPart": "A registry of type eureka",
    "KubeconfigPart": "A cluster by kubeconfig",
    "ServerPart": "A cluster by URL, CA and token",
    "DirectoryPart": "A cluster that is a directory",
    "RulePart": "A rule",
    "MatchPart": "`match` of a rule",
    "IdentityPart": "`identity` of a rule",
    "ReceiverPart": "`receiver`",
}
Schema = Mapping[str, Any]


def reference() -> str:
    """Return the reference in Markdown."""
    whole = schema()
    parts = [HEAD, "## The file\n", *_table(whole)]
    for name, title in TITLES.items():
        part = whole["$defs"][name]
        parts += [f"\n## {title}\n", f"{part['description']}\n", *_table(part)]
    parts += ["\n## `limits`\n", "Every time limit; rarely needed.\n", *_limits()]
    return "\n".join(parts) + "\n"


def _table(part: Schema) -> Iterator[str]:
    yield "| key | value | default | what it is |"
    yield "| --- | --- | --- | --- |"
    required = part.get("required", ())
    for key, value in part["properties"].items():
        default = "required" if key in required else _default(value)
        yield f"| `{key}` | {_kind(value)} | {default} | {value.get('description', '')} |"


def _default(value: Schema) -> str:
    default = value.get("default")
    if default in (None, [], {}, ""):
        return ""
    return f"`{str(default).replace(chr(39), chr(34))}`"


def _kind(value: Schema) -> str:
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "$ref" in value:
        return _link(value["$ref"])
    if "anyOf" in value or "oneOf" in value:
        return " or ".join(dict.fromkeys(_kind(one) for one in value.get("anyOf", value.get("oneOf"))))
    if value.get("type") == "array":
        return f"list of {_kind(value['items'])}"
    if value.get("type") == "object":
        named = [_kind(one) for one in value.get("patternProperties", {}).values()]
        return f"mapping of names to {named[0]}" if named else "mapping of texts"
    return {"string": "text", "integer": "number", "number": "number", "boolean": "`true`, `false`"}[value["type"]]


def _link(target: str) -> str:
    name = target.rpartition("/")[2]
    if name not in TITLES:
        return "[mapping](#limits)"
    title = TITLES[name]
    anchor = re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
    return f"[{title.replace('`', '')}](#{anchor})"


def _limits() -> Iterator[str]:
    yield "| key | default | what it is |"
    yield "| --- | --- | --- |"
    for name, default, comment in re.findall(
        r"^    (\w+): [^=]+ = ([^#\n]+?)(?:  # (.*))?$", inspect.getsource(Limits), re.MULTILINE
    ):
        shown = ", ".join(_seconds(one) for one in re.findall(r"[0-9.]+", default))
        yield f"| `{name}` | {shown} | {comment} |"


def _seconds(text: str) -> str:
    number = float(text)
    return f"{number:g} s" if number < 1 or number % 60 else f"{number / 60:g} min"


if __name__ == "__main__":
    REFERENCE.write_text(reference())
