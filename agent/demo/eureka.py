"""An embedded registry that speaks the part of Eureka's HTTP protocol that isthmus uses. It is not Eureka.

It is there for the demo: full reads, deltas and single instances, without a cache, on
loopback, in this process. Nobody has to renew, and it forgets everything at the end.
https://github.com/Netflix/eureka/wiki/Eureka-REST-operations
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from agent.demo.server import EmbeddedHandler, EmbeddedServer

BASE = "/eureka"
RETENTION = 180.0  # seconds for which a change is in every delta

_Instance = dict[str, Any]


class EmbeddedEureka:
    """A registry on a free port of loopback, inside ``with``.

    Each change returns the monotonic time, in seconds, from which it can be read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._instances: dict[tuple[str, str], _Instance] = {}
        self._changes: list[tuple[float, _Instance]] = []
        self._version = 0
        self._updated = 0
        self._server = EmbeddedServer(self, _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="embedded-eureka")
        self.url = f"http://127.0.0.1:{self._server.server_port}{BASE}"

    def register(self, app: str, id_: str, address: str, port: int, *, meta: Mapping[str, str] | None = None) -> float:
        """Add an instance that is UP, or change it."""
        instance = {
            "instanceId": id_,
            "app": app,
            "hostName": address,
            "ipAddr": address,
            "status": "UP",
            "overriddenStatus": "UNKNOWN",
            "port": {"$": port, "@enabled": "true"},
            "securePort": {"$": 443, "@enabled": "false"},
            "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
            "leaseInfo": {"registrationTimestamp": int(time.time() * 1000)},
            "metadata": dict(meta or {}),
        }
        with self._lock:
            self._instances[app, id_] = self._changed(instance, "ADDED")
        return time.monotonic()

    def cancel(self, app: str, id_: str) -> float:
        """Remove an instance; KeyError when it is not there."""
        with self._lock:
            self._changed(self._instances.pop((app, id_)), "DELETED")
        return time.monotonic()

    def _changed(self, instance: _Instance, action: str) -> _Instance:
        self._version += 1
        self._updated = max(self._updated + 1, int(time.time() * 1000))
        instance = {**instance, "actionType": action, "lastUpdatedTimestamp": str(self._updated)}
        self._changes.append((time.monotonic(), instance))
        return instance

    def read(self, path: str) -> object:
        """Return the body of a path below the base; KeyError for one that is not there."""
        with self._lock:
            match [unquote(part) for part in path.strip("/").split("/")]:
                case ["apps"]:
                    return self._applications(1, self._instances.values())
                case ["apps", "delta"]:
                    since = time.monotonic() - RETENTION
                    self._changes = [(at, instance) for at, instance in self._changes if at >= since]
                    return self._applications(self._version, [instance for _, instance in self._changes])
                case ["apps", app, id_]:
                    return {"instance": self._instances[app, id_]}
        raise KeyError(path)

    def _applications(self, version: int, instances: Iterable[_Instance]) -> object:
        by_app: dict[str, list[_Instance]] = {}
        for instance in instances:
            by_app.setdefault(instance["app"], []).append(instance)
        counts = Counter(instance["status"] for instance in self._instances.values())
        return {
            "applications": {
                "versions__delta": str(version),
                "apps__hashcode": "".join(f"{status}_{counts[status]}_" for status in sorted(counts)),
                "application": [{"name": app, "instance": found} for app, found in sorted(by_app.items())],
            }
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.disconnect()
        self._server.server_close()


class _Handler(EmbeddedHandler):
    server: EmbeddedServer[EmbeddedEureka]

    def do_GET(self) -> None:
        """Answer one query."""
        path = self.path.partition("?")[0]
        try:
            status, body = 200, json.dumps(self.server.registry.read(path.removeprefix(BASE))).encode()
        except KeyError:
            status, body = 404, b""
        self.send(status, "application/json", body, {})
