"""The kinds of values that the configuration holds: what is accepted, and what a mistake is told.

A validator raises UnfitError where what was written instead belongs into the sentence,
and ValueError with a whole sentence where it does not, above all where it may be a secret.
"""

import re
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, PlainValidator, WithJsonSchema

from agent.naming import LABEL_LENGTH, NAME_LENGTH, fill, host_problem, is_dns_label
from agent.validity import LARGEST_PORT, is_reserved, label_problem, locality_problem, namespace_problem
from state.model import MANAGED_BY

PROTOCOLS: Final = ("HTTP", "HTTP2", "GRPC", "GRPC-Web", "HTTPS", "TLS", "TCP", "MONGO", "REDIS", "MYSQL")
MOST_PARKED = 10000
SHORTEST = 0.001  # seconds
LONGEST_ACCOUNT = NAME_LENGTH
LONGEST = 30 * 24 * 3600.0  # seconds; far more would overflow the waits of Python's threads

_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_NAME_RULE = f"1 to {LABEL_LENGTH} lower-case letters, digits, inner hyphens and inner dots"
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_META_KEY = re.compile(r"[-A-Za-z0-9_]*")
_ANY_CASE = "".join(f"[{sign.upper()}{sign.lower()}]" if sign.isalpha() else sign for sign in "|".join(PROTOCOLS))
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?\.?")


class UnfitError(ValueError):
    """A value that does not do: "must be ...", to which what it is instead is added."""


class UnfitKeyError(ValueError):
    """A key that does not do, as a whole sentence."""


def _name(text: str) -> str:
    if len(text) > LABEL_LENGTH or not re.fullmatch(_NAME, text):
        raise UnfitError(f"must be {_NAME_RULE}")
    return text


def _name_key(text: str) -> str:
    if len(text) > LABEL_LENGTH or not re.fullmatch(_NAME, text):
        raise UnfitKeyError(f"is no valid name: names are {_NAME_RULE}")
    return text


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise UnfitError("must be text, not empty and without control characters")
    return text


def _word(text: str) -> str:
    if not text or not text.isprintable() or " " in text:
        raise UnfitError("must be one word, without spaces and control characters")
    return text


def _glob(text: str) -> str:
    if not text or not text.isprintable():
        raise UnfitError('must be a glob such as "orders*", not empty and without control characters')
    return text


def _file(text: str) -> str:
    # A token pasted in the place of its file must not reach a log.
    if not text or not text.isprintable():
        raise ValueError("must be the path of a file, not empty and without control characters")
    if text.startswith("~"):
        raise ValueError("must be a path that is written out: ~ has no meaning to a daemon")
    return text


def _prefix(text: str) -> str:
    if not _META_KEY.fullmatch(text):
        raise UnfitError("must be the beginning of a Consul metadata key: letters, digits, - and _")
    return text


def _region(text: str) -> str:
    if locality_problem(_word(text)):
        raise UnfitError("must be REGION, REGION/ZONE or REGION/ZONE/SUBZONE")
    return text


def _namespace(text: str) -> str:
    if namespace_problem(text):
        raise UnfitError(f"must be a namespace: 1 to {LABEL_LENGTH} lower-case letters, digits and inner hyphens")
    return text


def _domain(text: str) -> str:
    problem = host_problem(text) or host_problem(f"orders.{text}")
    if problem:
        raise UnfitError(f"must be a domain for hosts ({problem})")
    return text


def _host(template: str) -> str:
    if re.search(r"[{}]", template.replace("{service}", "").replace("{domain}", "")):
        raise UnfitError("can hold the placeholders {service} and {domain} only")
    host = fill(template, "orders", "mesh.internal")
    if problem := host_problem(host):
        raise ValueError(f"makes no valid host: {host!r:.300} for the service orders in mesh.internal ({problem})")
    return template


def _label_key(key: str) -> str:
    if is_reserved(key):
        prefix = key.rpartition("/")[0]
        whose = key if key == MANAGED_BY or not prefix else prefix
        raise UnfitKeyError(f"is reserved: no rule may set a label of {whose}")
    if label_problem(key, ""):
        raise UnfitKeyError("is no valid key of a Kubernetes label")
    return key


def _label_value(value: str) -> str:
    if label_problem("key", value):
        raise UnfitError(
            f"must be a label's value: at most {LABEL_LENGTH} letters, digits and inner hyphens, dots or _"
        )
    return value


def _port(value: object) -> int | Literal["instance"]:
    if value == "instance":
        return "instance"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_PORT:
        return value
    raise UnfitError(f"must be a number from 1 to {LARGEST_PORT}, without quotes, or the word instance")


def _parked(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_PARKED:
        return value
    raise UnfitError(f"must be a number from 0 to {MOST_PARKED}")


def _protocol(text: str) -> str:
    if text.upper() not in map(str.upper, PROTOCOLS):
        raise UnfitError(f"must be one of {', '.join(PROTOCOLS)}")
    return text.upper()


def _duration(value: object) -> float:
    seconds = 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        seconds = float(match[1]) * _SECONDS[match[2]]
    if not SHORTEST <= seconds <= LONGEST:
        raise UnfitError("must be a duration such as 250ms, 5s, 2m or 1h, or a number of seconds, from 1ms to 720h")
    return seconds


def _consul_url(text: str) -> str:
    parts = _url(text, ("http", "https"))
    if parts.path not in ("", "/"):
        raise UnfitError("must have no path: Consul's API is at the root of its server")
    return f"{parts.scheme}://{parts.netloc}"


def _eureka_url(text: str) -> str:
    parts = _url(text, ("http", "https"), "password_file")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _export_to(text: str) -> str:
    if text not in (".", "*") and namespace_problem(text):
        raise UnfitError('must be a namespace, "." (the object\'s own) or "*" (every one)')
    return text


def _account(text: str) -> str:
    if len(text) > LONGEST_ACCOUNT or not all(map(is_dns_label, text.split("."))):
        raise UnfitError("must be the name of a Kubernetes service account: lower-case letters, digits, - and dots")
    return text


def _server_url(text: str) -> str:
    parts = _url(text, ("https",))
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _listen(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        address = None
    if not address or not address.is_loopback or not re.fullmatch("[1-9][0-9]{0,4}", port) or int(port) > LARGEST_PORT:
        raise UnfitError('must be a loopback address and a port, such as "127.0.0.1:9411"')
    return str(address), int(port)


def _url(text: str, schemes: tuple[str, ...], secret_file: str = "token_file") -> SplitResult:
    """Take a URL apart; one that may hold a secret is not repeated."""
    for mark, part in (("@", "user or password"), ("?", "query"), ("#", "fragment")):
        if mark in text:
            raise ValueError(f"must have no {part}: a secret belongs into a file that {secret_file} names")
    shape = f"must be {' or '.join(f'{scheme}://HOST[:PORT]' for scheme in schemes)}"
    if not text.isascii() or not text.isprintable() or " " in text:
        raise UnfitError(shape)
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
        if ":" in host:
            IPv6Address(host)
    except ValueError:
        raise UnfitError(shape) from None
    if parts.scheme not in schemes or port == 0 or parts.netloc.endswith(":"):
        raise UnfitError(shape)
    if ":" not in host and not _HOST.fullmatch(host):
        raise UnfitError(shape)
    return parts


Text = Annotated[str, AfterValidator(_text), WithJsonSchema({"type": "string", "minLength": 1})]
Word = Annotated[str, AfterValidator(_word), WithJsonSchema({"type": "string", "pattern": r"^\S+$"})]
Glob = Annotated[str, AfterValidator(_glob), WithJsonSchema({"type": "string", "minLength": 1})]
FileName = Annotated[str, AfterValidator(_file), WithJsonSchema({"type": "string", "pattern": "^[^~]"})]
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": _NAME, "maxLength": 63})]
NameKey = Annotated[
    str, AfterValidator(_name_key), WithJsonSchema({"type": "string", "pattern": _NAME, "maxLength": 63})
]
Prefix = Annotated[str, AfterValidator(_prefix), WithJsonSchema({"type": "string", "pattern": "^[-A-Za-z0-9_]*$"})]
Region = Annotated[
    str, AfterValidator(_region), WithJsonSchema({"type": "string", "pattern": r"^[^\s/]+(/[^\s/]+){0,2}$"})
]
Namespace = Annotated[
    str,
    AfterValidator(_namespace),
    WithJsonSchema({"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}),
]
Domain = Annotated[str, AfterValidator(_domain), WithJsonSchema({"type": "string", "format": "hostname"})]
HostTemplate = Annotated[str, AfterValidator(_host), WithJsonSchema({"type": "string", "minLength": 1})]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value), WithJsonSchema({"type": "string", "maxLength": 63})]
Port = Annotated[
    int | Literal["instance"],
    PlainValidator(_port),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": LARGEST_PORT}, {"const": "instance"}]}),
]
Parked = Annotated[
    int, PlainValidator(_parked), WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MOST_PARKED})
]
Protocol = Annotated[
    str,
    AfterValidator(_protocol),
    WithJsonSchema({"type": "string", "pattern": f"^({_ANY_CASE})$", "examples": list(PROTOCOLS)}),
]
Duration = Annotated[
    float,
    PlainValidator(_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": SHORTEST, "maximum": LONGEST},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"},
            ]
        }
    ),
]
Listen = Annotated[
    str, AfterValidator(_listen), WithJsonSchema({"type": "string", "pattern": r"^(127\.[0-9.]+|\[::1\]):[0-9]+$"})
]
ConsulUrl = Annotated[str, AfterValidator(_consul_url), WithJsonSchema({"type": "string", "pattern": "^https?://"})]
EurekaUrl = Annotated[str, AfterValidator(_eureka_url), WithJsonSchema({"type": "string", "pattern": "^https?://"})]
ExportTo = Annotated[
    str,
    AfterValidator(_export_to),
    WithJsonSchema({"type": "string", "pattern": r"^(\.|\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$"}),
]
Account = Annotated[
    str, AfterValidator(_account), WithJsonSchema({"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"})
]
ServerUrl = Annotated[str, AfterValidator(_server_url), WithJsonSchema({"type": "string", "pattern": "^https://"})]
