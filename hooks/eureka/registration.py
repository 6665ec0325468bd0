"""From one instance of Eureka's JSON to ours: a bad required field rejects it, a bad optional one is dropped.

Source: https://github.com/Netflix/eureka/blob/master/eureka-client/src/main/java/com/netflix/appinfo/InstanceInfo.java.
"""

import re
from collections.abc import Mapping
from sys import intern
from typing import NamedTuple

from hooks.eureka.settings import EurekaSettings
from hooks.fields import (
    LARGEST_WEIGHT,
    canonical_ip,
    is_text,
    locality_of,
    metadata_of,
    port_problem,
    protocol_of,
    service_port_of,
    shown,
    version_of,
)
from state import shared
from state.model import Absence, Instance, InstanceKey

UP = "UP"
LONGEST_VALUE = 4096  # characters of one key or value of metadata: rules compare words, not documents
MOST_PAIRS = 256

_ABSENCES = {word.value: word for word in (Absence.DOWN, Absence.OUT_OF_SERVICE, Absence.STARTING, Absence.UNKNOWN)}
_CLASS = "@class"  # how Jackson names a Java type
_NUMBER = re.compile(r"-?[0-9]{1,10}")
_AVAILABILITY_ZONE = re.compile(r"(.+[0-9])[a-z]")  # us-east-1a

_Object = Mapping[str, object]


class _Port(NamedTuple):
    """A port that is enabled: its number, or the ``flaw`` of one that is not; 0 and "" when disabled."""

    number: int = 0
    flaw: str = ""


def instance(
    settings: EurekaSettings, key: InstanceKey, registered: _Object, status: str, dropped: list[str]
) -> Instance:
    """Return a registration in our terms; ``status`` is its word, ``dropped`` gains what is optional and invalid."""
    prefix = settings.metadata_prefix
    address, address_flaw = _address(settings.address, registered)
    port, secure, ports_flaw = _ports(registered, dropped)
    rejected = "; ".join(filter(None, (address_flaw, ports_flaw)))
    metadata = metadata_of(_metadata(registered.get("metadata"), dropped), dropped)
    values = dict(metadata)
    service_port, origin = service_port_of(values, prefix, (), dropped)
    absence = Absence.NONE if status == UP else _ABSENCES.get(status, Absence.UNKNOWN)
    return Instance(
        key=key,
        address="" if rejected else address,
        port=port or secure,
        absent_because=Absence.REJECTED if rejected and absence is Absence.NONE else absence,
        metadata=metadata,
        locality=_locality(settings, registered, values, dropped),
        weight=_weight(values, prefix, dropped),
        version=version_of(values, prefix, dropped),
        service_port=service_port,
        service_port_from=origin,
        protocol=protocol_of(values, prefix, dropped),
        secure_port=secure if port else 0,
        proven="HTTP" if port else "HTTPS" if secure else "",
        proven_secure="HTTPS" if port and secure else "",
        registered=_registered(registered.get("leaseInfo"), dropped),
        rejected=rejected,
        dropped=shared.words(tuple(dropped)),  # what is wrong with one is so with many
    )


def amazon(registered: _Object) -> _Object:
    """Return what Amazon tells of the machine; empty elsewhere."""
    center = registered.get("dataCenterInfo")
    told = center.get("metadata") if isinstance(center, Mapping) and center.get("name") == "Amazon" else None
    return told if isinstance(told, Mapping) else {}


def long_of(value: object) -> int | None:
    """Return a number that Java may have written as text; None when it is none."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _address(field: str, registered: _Object) -> tuple[str, str]:
    """Return the address, or why there is none."""
    name = "ipAddr" if field == "ip" else "hostName"
    value = registered.get(name)
    address, flaw = canonical_ip(value)
    if not flaw:
        return address, ""
    if flaw == "is not an IP address":
        flaw = "is not an IP address but a name, which Istio would not look up: " + (
            "let the instance register its IP address"
            if field == "ip"
            else 'set "address: ip" for this registry, or eureka.instance.hostname to an IP address'
        )
    return "", f"{name} {shown(value)} {flaw}"


def _ports(registered: _Object, dropped: list[str]) -> tuple[int, int, str]:
    """Return the number of the plain port and of the secure one, each 0 unless enabled, and why there is neither."""
    plain = _port("port", registered.get("port"), True, dropped)
    secure = _port("securePort", registered.get("securePort"), False, dropped)
    if plain.flaw:
        return 0, 0, plain.flaw
    if not plain.number and secure.flaw:
        return 0, 0, secure.flaw
    if not plain.number and not secure.number:
        return 0, 0, "neither port nor securePort is enabled"
    if secure.flaw:
        dropped.append(secure.flaw)
    return plain.number, secure.number, ""


def _port(field: str, value: object, enabled: bool, dropped: list[str]) -> _Port:
    """Return ``{"$": 8080, "@enabled": "true"}``, in which numbers and truth may be text, or a plain number."""
    if isinstance(value, Mapping):
        enabled = _truth(field, value.get("@enabled"), enabled, dropped)
        value = value.get("$", 0)
    if not enabled or value is None:
        return _Port()
    number = int(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
    flaw = port_problem(number)
    return _Port(flaw=f"{field} {shown(value)} {flaw}") if flaw or not isinstance(number, int) else _Port(number)


def _truth(field: str, value: object, otherwise: bool, dropped: list[str]) -> bool:
    if value is None or isinstance(value, bool):
        return otherwise if value is None else value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    dropped.append(f"{field}.@enabled {shown(value)} is neither true nor false")
    return otherwise


def _metadata(value: object, dropped: list[str]) -> object:
    """Return metadata without what only Java needs, as text, and without what is too long to be a word."""
    if value is None or value == "":
        return None
    if not isinstance(value, Mapping):
        dropped.append(f"metadata {shown(value)} is not an object")
        return None
    kept: dict[str, object] = {}
    for key, word in value.items():
        text = _plain(word)
        if key == _CLASS:
            continue
        if len(key) > LONGEST_VALUE or (isinstance(text, str) and len(text) > LONGEST_VALUE):
            dropped.append(f"metadata {shown(key)} is longer than {LONGEST_VALUE} characters")
        elif len(kept) == MOST_PAIRS:
            dropped.append(f"metadata has {len(value)} pairs: all but {MOST_PAIRS} are left out")
            break
        else:
            kept[key] = text
    return kept


def _plain(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int | float) else value


def _locality(settings: EurekaSettings, registered: _Object, values: Mapping[str, str], dropped: list[str]) -> str:
    region, prefix = settings.region, settings.metadata_prefix
    zone = amazon(registered).get("availability-zone")
    if zone is None or zone == "":
        return locality_of(region, values, prefix, dropped)
    if not is_text(zone):
        dropped.append(f"availability-zone {shown(zone)} is not text")
        return intern(region)
    of_amazon = _AVAILABILITY_ZONE.fullmatch(zone)
    if not region and of_amazon:
        region = of_amazon[1]
    return locality_of(region, {f"{prefix}zone": zone}, prefix, dropped)


def _weight(values: Mapping[str, str], prefix: str, dropped: list[str]) -> int:
    """Return the weight in metadata; 1 when there is none."""
    word = values.get(f"{prefix}weight", "")
    if not word:
        return 1
    if _NUMBER.fullmatch(word) and 0 <= int(word) <= LARGEST_WEIGHT:
        return int(word)
    dropped.append(f"metadata {prefix}weight {shown(word)} is not a number from 0 to {LARGEST_WEIGHT}")
    return 1


def _registered(lease: object, dropped: list[str]) -> int:
    """Return when the server took the registration, in ms of its clock; it only orders, 0 when unknown."""
    value = lease.get("registrationTimestamp", 0) if isinstance(lease, Mapping) else 0
    number = long_of(value)
    if number is not None and (isinstance(value, str) or 0 <= number < 2**63):
        return number
    dropped.append(f"leaseInfo.registrationTimestamp {shown(value)} is not a time")
    return 0
