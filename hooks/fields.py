"""The fields of one registration: a bad required one rejects it, a bad optional one is dropped and reported."""

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from sys import intern
from typing import TypeGuard

from state import shared
from state.addresses import is_plain

PROTOCOLS = frozenset(("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS", "TCP", "MONGO", "REDIS", "MYSQL"))
LARGEST_PORT = 65535
LARGEST_WEIGHT = 2**32 - 1  # Istio's weight is a uint32
LOCALITY_SEGMENTS = 3  # region/zone/subzone
SHOWN = 80  # characters of a value in a message

_PORT = re.compile(r"[1-9][0-9]{0,4}")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_LABEL = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_SURROGATE = re.compile("[\ud800-\udfff]")

Pairs = tuple[tuple[str, str], ...]


def shown(value: object) -> str:
    """Return a value as a message shows it: short, on one line, and nested ones by their kind only."""
    if isinstance(value, str):
        return repr(value) if len(value) <= SHOWN else f"{value[:SHOWN]!r}..."
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return repr(value)
    return "a list" if isinstance(value, list) else "an object"


def is_text(value: object) -> TypeGuard[str]:
    """Tell whether a value is text that can be written as UTF-8."""
    return isinstance(value, str) and (value.isascii() or _SURROGATE.search(value) is None)


def canonical_ip(value: object) -> tuple[str, str]:
    """Return an address in canonical text, or "" and why other machines cannot reach it; IPv4 in IPv6 becomes IPv4."""
    if not value:
        return "", "is empty"
    if not isinstance(value, str):
        return "", "is not text"
    if is_plain(value):
        return value, ""
    try:
        ip = ip_address(value)
    except ValueError:
        return "", "is not an IP address"
    if isinstance(ip, IPv6Address):
        if ip.scope_id is not None:
            return "", "has a zone, which means nothing on other machines"
        ip = ip.ipv4_mapped or ip
    if ip.is_loopback:
        return "", (
            "is a loopback address, as a development agent's node address is: "
            "register the service with an address that other machines can reach"
        )
    for unfit, kind in (
        (ip.is_link_local, "a link-local"),
        (ip.is_unspecified, "the unspecified"),
        (ip.is_multicast, "a multicast"),
    ):
        if unfit:
            return "", f"is {kind} address"
    return str(ip), ""


def port_problem(value: object) -> str:
    """Tell why a value is no port, or "" when it is one."""
    if isinstance(value, str):
        return "is text, not a number"
    if isinstance(value, bool) or not isinstance(value, int):
        return "is not a number"
    return "" if 1 <= value <= LARGEST_PORT else f"is not from 1 to {LARGEST_PORT}"


def tags_of(value: object, dropped: list[str]) -> tuple[str, ...]:
    """Return the tags that are text, each once and in order."""
    if value is None:
        return ()
    if not isinstance(value, list):
        dropped.append(f"Service.Tags {shown(value)} is not a list")
        return ()
    tags = set()
    for tag in value:
        if is_text(tag):
            tags.add(tag)
        else:
            dropped.append(f"tag {shown(tag)} is not text")
    return shared.words(tuple(sorted(tags)))


def metadata_of(value: object, dropped: list[str]) -> Pairs:
    """Return the pairs of metadata that are text, in order."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        dropped.append(f"Service.Meta {shown(value)} is not an object")
        return ()
    pairs = []
    for key, word in value.items():
        if is_text(key) and is_text(word):
            pairs.append((key, word))
        else:
            dropped.append(f"metadata {shown(key)} {shown(word)} is not text")
    return shared.pairs(tuple(sorted(pairs)))


def service_port_of(
    metadata: Mapping[str, str], prefix: str, tags: tuple[str, ...], dropped: list[str]
) -> tuple[int, str]:
    """Return the port by which clients call the service, and its origin: metadata ``port``, else a tag ``port=NUMBER``.

    Returns 0 and "" when there is none.
    """
    key = f"{prefix}port"
    if key in metadata:
        if _is_port(metadata[key]):
            return int(metadata[key]), intern(f"metadata {key}")
        dropped.append(f"metadata {key} {shown(metadata[key])} is not a number from 1 to {LARGEST_PORT}")
    numbers = set()
    for tag in tags:
        if tag.startswith("port="):
            if _is_port(tag[5:]):
                numbers.add(int(tag[5:]))
            else:
                dropped.append(f"tag {shown(tag)} does not name a number from 1 to {LARGEST_PORT}")
    if not numbers:
        return 0, ""
    if len(numbers) > 1:
        dropped.append(f"tags name several ports ({', '.join(map(str, sorted(numbers)))}): the smallest counts")
    return min(numbers), intern(f"tag port={min(numbers)}")


def protocol_of(metadata: Mapping[str, str], prefix: str, dropped: list[str]) -> str:
    """Return the protocol in metadata, as Istio's word in upper case."""
    word = metadata.get(f"{prefix}protocol", "")
    if not word or word.upper() in PROTOCOLS:
        return intern(word.upper())
    dropped.append(f"metadata {prefix}protocol {shown(word)} is none of {', '.join(sorted(PROTOCOLS))}")
    return ""


def version_of(metadata: Mapping[str, str], prefix: str, dropped: list[str]) -> str:
    """Return the version in metadata; it becomes a label's value."""
    word = metadata.get(f"{prefix}version", "")
    if not word or _LABEL.fullmatch(word):
        return intern(word)
    dropped.append(f"metadata {prefix}version {shown(word)} is not valid as a label's value")
    return ""


def locality_of(region: object, metadata: Mapping[str, str], prefix: str, dropped: list[str]) -> str:
    """Return the region with the zone in metadata, whose segments are spelt as a node's zone label would be."""
    if not is_text(region):
        dropped.append(f"Node.Datacenter {shown(region)} is not text")
        region = ""
    zone = metadata.get(f"{prefix}zone", "")
    if not zone:
        return intern(region)
    locality = f"{region}/{zone}"
    if region and locality.count("/") < LOCALITY_SEGMENTS and all(map(_LABEL.fullmatch, zone.split("/"))):
        return intern(locality)
    dropped.append(f"metadata {prefix}zone {shown(zone)} does not make a locality with region {shown(region)}")
    return intern(region)


def weight_of(weights: object, state: str, dropped: list[str]) -> int:
    """Return the weight for a state, ``Passing`` or ``Warning``; 1 when there is none."""
    if weights is None:
        return 1
    if not isinstance(weights, Mapping):
        dropped.append(f"Service.Weights {shown(weights)} is not an object")
        return 1
    weight = weights.get(state, 1)
    if isinstance(weight, int) and not isinstance(weight, bool) and 0 <= weight <= LARGEST_WEIGHT:
        return weight
    dropped.append(f"Service.Weights.{state} {shown(weight)} is not a number from 0 to {LARGEST_WEIGHT}")
    return 1


def created_of(index: object, dropped: list[str]) -> int:
    """Return the index of the registration; 0 when there is none."""
    if isinstance(index, int) and not isinstance(index, bool) and index >= 0:
        return index
    dropped.append(f"Service.CreateIndex {shown(index)} is not an index")
    return 0


def _is_port(word: str) -> bool:
    return _PORT.fullmatch(word) is not None and int(word) <= LARGEST_PORT
