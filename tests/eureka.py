"""Eureka's JSON as servers write it, for tests of what reads it."""

import json
from collections import Counter
from typing import Any

from hooks.eureka.parse import hashcode
from hooks.eureka.settings import EurekaSettings


def settings(**fields: Any) -> EurekaSettings:
    return EurekaSettings(name="eureka-dc1", urls=("http://127.0.0.1:8761/eureka",), **fields)


def registered(id: str = "h1:orders:8080", app: str = "ORDERS", **fields: object) -> dict[str, Any]:
    """Return one instance as Jackson writes it, with its mixture of numbers, text and truth."""
    return {
        "instanceId": id,
        "hostName": "h1.example",
        "app": app,
        "ipAddr": "10.1.2.3",
        "status": "UP",
        "overriddenStatus": "UNKNOWN",
        "port": {"$": 8080, "@enabled": "true"},
        "securePort": {"$": 443, "@enabled": "false"},
        "countryId": 1,
        "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
        "leaseInfo": {"renewalIntervalInSecs": 30, "durationInSecs": 90, "registrationTimestamp": 1533017016000},
        "metadata": {"@class": "java.util.Collections$EmptyMap"},
        "vipAddress": "orders",
        "isCoordinatingDiscoveryServer": "false",
        "lastUpdatedTimestamp": "1533017018000",
        "lastDirtyTimestamp": "1533017017000",
        "actionType": "ADDED",
        **fields,
    }


def answer(*instances: dict[str, Any], version: object = "1", **fields: object) -> dict[str, Any]:
    """Return an answer of ``apps`` or ``apps/delta``, whose hash is of these instances."""
    apps: dict[str, list[object]] = {}
    for one in instances:
        apps.setdefault(one["app"], []).append(one)
    counts = Counter(str(one.get("status")) for one in instances)
    application = [{"name": name, "instance": members} for name, members in apps.items()]
    body = {"versions__delta": version, "apps__hashcode": hashcode(counts), "application": application, **fields}
    return {"applications": body}


def written(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
