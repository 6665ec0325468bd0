"""Instances as JSON for the state file; a field that has its default is left out."""

from dataclasses import MISSING, fields
from json import dumps, loads
from sys import intern
from typing import Any

from state.model import Absence, Instance, InstanceKey

_DEFAULTS = {
    field.name: field.default for field in fields(Instance) if field.default is not MISSING and field.name != "key"
}


def encode(instance: Instance) -> dict[str, Any]:
    """Return an instance as a JSON object."""
    record: dict[str, Any] = {
        "service": instance.key.service,
        "node": instance.key.node,
        "id": instance.key.id,
        "address": instance.address,
        "port": instance.port,
    }
    for name, default in _DEFAULTS.items():
        value = getattr(instance, name)
        if value != default:
            record[name] = value
    return record


def decode(record: dict[str, Any]) -> Instance:
    """Return the instance that ``encode`` was given; KeyError or TypeError for anything else."""
    given = {name: record[name] for name in _DEFAULTS if name in record}
    for name in ("tags", "dropped"):
        if name in given:
            given[name] = tuple(map(intern, given[name]))
    if "metadata" in given:
        given["metadata"] = tuple((intern(key), intern(value)) for key, value in given["metadata"])
    if "absent_because" in given:
        given["absent_because"] = Absence(given["absent_because"])
    key = InstanceKey(intern(record["service"]), intern(record["node"]), record["id"])
    return Instance(key=key, address=record["address"], port=record["port"], **given)


def dump(instances: tuple[Instance, ...]) -> str:
    """Return instances as one JSON text."""
    return dumps([encode(instance) for instance in instances], separators=(",", ":"), ensure_ascii=True)


def load(text: str) -> tuple[Instance, ...]:
    """Return the instances of one JSON text."""
    return tuple(decode(record) for record in loads(text))
