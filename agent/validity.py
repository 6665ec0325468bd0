"""What may be written into Istio's objects: the stricter of its webhook and its CRD, and stricter still.

Istio takes loopback and unspecified addresses, and its CRD alone takes any text as
an address; an endpoint that cannot work is then silently absent. Sources:
https://github.com/istio/istio/blob/master/pkg/config/validation/validation.go
https://github.com/istio/istio/blob/master/manifests/charts/base/files/crd-all.gen.yaml
Every function returns what is wrong, with the value, or "" when nothing is.
"""

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from agent.naming import LABEL_LENGTH, NAME_LENGTH, is_dns_label
from state.addresses import is_plain
from state.model import MANAGED_BY

PROTOCOLS = frozenset(
    ("GRPC", "GRPC-WEB", "HTTP", "HTTP2", "HTTPS", "HTTP_PROXY", "MONGO", "MYSQL", "REDIS", "TCP", "TLS", "UDP")
)
LARGEST_PORT = 65535
LARGEST_WEIGHT = 2**32 - 1
LOCALITY_LENGTH = 2048
LOCALITY_SEGMENTS = 3

_NAME = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def address_problem(address: str) -> str:
    """Tell why a text is no address of an endpoint: an IP, canonical, that other machines can reach."""
    if is_plain(address):
        return ""
    try:
        ip = ip_address(address)
    except ValueError:
        return f"address {address!r} is no IP address"
    if "%" in address:
        return f"address {address!r} has a zone"
    plain = (ip.ipv4_mapped if isinstance(ip, IPv6Address) else None) or ip
    if str(plain) != address:
        return f"address {address!r} is not written as {plain}"
    for unfit, word in (
        (ip.is_loopback, "a loopback"),
        (ip.is_link_local, "a link-local"),
        (ip.is_unspecified, "the unspecified"),
    ):
        if unfit:
            return f"address {address!r} is {word} address"
    return ""


def port_problem(port: int) -> str:
    """Tell why a number is no port."""
    return "" if 1 <= port <= LARGEST_PORT else f"port {port} is not in 1..{LARGEST_PORT}"


def protocol_problem(protocol: str) -> str:
    """Tell why a word is no protocol of Istio's."""
    return "" if protocol.upper() in PROTOCOLS else f"protocol {protocol!r} is none of Istio's"


def weight_problem(weight: int) -> str:
    """Tell why a number is no weight."""
    return "" if 1 <= weight <= LARGEST_WEIGHT else f"weight {weight} is not in 1..{LARGEST_WEIGHT}"


@lru_cache(maxsize=4096)
def locality_problem(locality: str) -> str:
    """Tell why a text is no locality; Envoy groups by the whole text, but reads three segments only."""
    if len(locality) > LOCALITY_LENGTH:
        return f"locality {locality[:LABEL_LENGTH]!r}... is longer than {LOCALITY_LENGTH}"
    segments = locality.split("/")
    if len(segments) > LOCALITY_SEGMENTS or not all(segments):
        return f"locality {locality!r} is not 1 to {LOCALITY_SEGMENTS} segments"
    return ""


def namespace_problem(namespace: str) -> str:
    """Tell why a text is no name of a Kubernetes namespace."""
    return "" if is_dns_label(namespace) else f"namespace {namespace!r} is no DNS label"


def export_problem(namespace: str) -> str:
    """Tell why a text is no place that a ServiceEntry can be exported to."""
    if namespace in (".", "*") or is_dns_label(namespace):
        return ""
    return f'exportTo {namespace!r} is no namespace, nor "." or "*"'


@lru_cache(maxsize=4096)
def account_problem(account: str) -> str:
    """Tell why a text is no name of a Kubernetes service account."""
    return "" if _is_subdomain(account) else f"service account {account[:NAME_LENGTH]!r} is no DNS name"


@lru_cache(maxsize=16384)
def label_problem(key: str, value: str) -> str:
    """Tell why a pair is no label (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/)."""
    prefix, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and not _is_subdomain(prefix)):
        return f"label {key!r} is no valid key"
    if value and not _NAME.fullmatch(value):
        return f"label {key}: {value!r} is no valid value"
    return ""


@lru_cache(maxsize=4096)
def is_reserved(key: str) -> bool:
    """Tell whether a label is ours or Istio's: nobody else's word may set it."""
    domain, slash, _ = key.rpartition("/")
    if not slash:
        return key == "istio-locality"
    return key == MANAGED_BY or domain in ("isthmus.mesh", "istio.io") or domain.endswith(".istio.io")


def _is_subdomain(text: str) -> bool:
    return len(text) <= NAME_LENGTH and all(map(is_dns_label, text.split(".")))
