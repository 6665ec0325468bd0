"""Instances as JSON for the state file; a field that has its default is left out."""

from dataclasses import MISSING, fields
from json import JSONEncoder, loads
from operator import attrgetter
from sys import intern
from typing import Any

from state import shared
from state.model import Absence, Instance, InstanceKey

_encode = JSONEncoder(separators=(",", ":")).encode
_DEFAULTS = {
    field.name: field.default for field in fields(Instance) if field.default is not MISSING and field.name != "key"
}
_optional = attrgetter(*_DEFAULTS)


def encode(instance: Instance) -> dict[str, Any]:
    """Return an instance as a JSON object."""
    key = instance.key
    record: dict[str, Any] = {
        "service": key.service,
        "node": key.node,
        "id": key.id,
        "address": instance.address,
        "port": instance.port,
    }
    for (name, default), value in zip(_DEFAULTS.items(), _optional(instance), strict=True):
        if value != default:
            record[name] = value
    return record


def decode(record: dict[str, Any]) -> Instance:
    """Return the instance that ``encode`` was given; KeyError or TypeError for anything else."""
    given = {name: record[name] for name in _DEFAULTS if name in record}
    for name in ("tags", "dropped"):
        if name in given:
            given[name] = shared.words(tuple(given[name]))
    if "metadata" in given:
        given["metadata"] = shared.pairs(tuple((key, value) for key, value in given["metadata"]))
    for name in ("locality", "version", "service_port_from", "protocol", "proven", "proven_secure"):
        if name in given:
            given[name] = intern(given[name])
    if "absent_because" in given:
        given["absent_because"] = Absence(given["absent_because"])
    key = InstanceKey(intern(record["service"]), intern(record["node"]), record["id"])
    return Instance(key=key, address=record["address"], port=record["port"], **given)


def dump(instances: tuple[Instance, ...]) -> str:
    """Return instances as one JSON text."""
    return _encode([encode(instance) for instance in instances])


def load(text: str) -> tuple[Instance, ...]:
    """Return the instances of one JSON text."""
    return tuple(decode(record) for record in loads(text))
