"""What was believed and what was applied, remembered over restarts.

One connection behind one lock: whoever writes waits for the disk, so whatever
follows a call may rely on it. Losing the file is safe; it never precedes the
cluster's word. Monotonic times become elapsed seconds in the file and go on
from there after a restart.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import IO, Any, NamedTuple

from sqlite_utils import Database

from state import codec, shared, waiting_row
from state.errors import StateError
from state.model import SERVICE_ENTRY, Count, InstanceKey, Observed, ResourceKey, Standing, Waiting
from state.schema import HISTORY
from state.store import copy_database, lock, open_database


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a cluster acknowledged for one object.

    ``unneeded`` counts the seconds for which a ServiceEntry had no need and no
    WorkloadEntry, None while it has.
    """

    key: ResourceKey
    digest: str
    uid: str
    generation: int
    resource_version: str
    labels: tuple[str, ...] = ()
    unneeded: float | None = None


class Forsaken(NamedTuple):
    """For how many seconds another owner's ServiceEntry was seen without a WorkloadEntry of its author."""

    key: ResourceKey
    uid: str
    author: str
    seconds: float


class Carried(NamedTuple):
    """Under which configuration and version a cluster's last whole plan was carried out.

    ``accepted`` is the configuration whose deletions an operator accepted.
    """

    configuration: str = ""
    version: str = ""
    accepted: str = ""


class Event(NamedTuple):
    """One line of history; ``at`` in seconds since 1970, ``lag`` in seconds.

    ``registry`` is the one whose word led to it, "" when none did.
    """

    at: float
    cluster: str
    action: str
    key: ResourceKey
    why: str
    lag: float | None
    host: str = ""
    registry: str = ""


class Remembered(NamedTuple):
    """One registry as the file remembers it; ``standing`` is None if it does not."""

    services: tuple[Observed, ...]
    waiting: tuple[Waiting, ...]
    standing: Standing | None
    configuration: str


class Checkpoint:
    """The state file of one agent; every method raises StateError when it fails."""

    def __init__(self, database: Database, new: bool, file: IO[str] | None = None, where: str = "") -> None:
        self.new = new
        self._database = database
        self._file = file
        self._where = where
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """Lock and open a state file, creating it if need be."""
        file = lock(path)
        try:
            return cls(*open_database(path), file, str(path))
        except BaseException:
            file.close()
            raise

    @classmethod
    def copy(cls, path: Path) -> "Checkpoint":
        """Return a copy in memory; the file is only read, and need not exist."""
        return cls(*copy_database(path), None, str(path))

    def close(self) -> None:
        """Close the file and give up its lock."""
        with self._lock:
            self._database.conn.close()
            if self._file:
                self._file.close()

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """Carry out what is written inside as one, or nothing of it."""
        with self._lock:
            try:
                with self._database.atomic():
                    yield self._database
            except sqlite3.Error as error:
                raise StateError(f"state file {self._where}: {error}") from error

    @contextmanager
    def _rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Iterable[Any]]:
        """Give rows one by one: all of a large table at once would leave holes in the memory."""
        with self._lock:
            try:
                yield self._database.conn.execute(sql, parameters)
            except sqlite3.Error as error:
                raise StateError(f"state file {self._where}: {error}") from error

    def _read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._rows(sql, parameters) as rows:
            return list(rows)

    # Owner

    @property
    def owner(self) -> str:
        """Return the owner that the file was written under, or nothing."""
        rows = self._read("SELECT value FROM meta WHERE key = 'owner'")
        return str(rows[0][0]) if rows else ""

    def set_owner(self, owner: str) -> None:
        """Remember under which owner this file writes."""
        with self.transaction() as database:
            database.table("meta").upsert({"key": "owner", "value": owner}, pk="key")

    # Registries

    def registry(self, name: str, now: float) -> Remembered:
        """Return what is remembered of a registry; ``now`` is monotonic."""
        sql = "SELECT service, instances, epoch, consul_index FROM observed WHERE registry = ?"
        with self._rows(sql, [name]) as rows:
            services = tuple(
                Observed(intern(service), codec.load(text), epoch, int(index)) for service, text, epoch, index in rows
            )
        sql = "SELECT service, node, id, reason, word, waited, proofs, proved_ago FROM waiting WHERE registry = ?"
        waiting = tuple(waiting_row.load(row, now) for row in self._read(sql, [name]))
        columns = "epoch, epoch_age, minutes, counted_ago, configuration, consul_index, versions"
        sql = f"SELECT {columns} FROM registry WHERE name = ?"
        for epoch, age, minutes, ago, configuration, index, versions in self._read(sql, [name]):
            standing = Standing(
                minutes=tuple(Count(*count) for count in json.loads(minutes)),
                epoch=epoch,
                epoch_began=None if age is None else now - age,
                counted=now - ago,
                index=int(index),
                versions=tuple((url, version) for url, version in json.loads(versions)),
            )
            return Remembered(services, waiting, standing, configuration)
        return Remembered(services, waiting, None, "")

    def registries(self) -> tuple[str, ...]:
        """Return the names of all registries that are remembered."""
        return tuple(name for (name,) in self._read("SELECT name FROM registry ORDER BY name"))

    def observe(
        self,
        registry: str,
        *,
        services: Iterable[Observed] = (),
        waits: Iterable[Waiting] = (),
        ended: Iterable[InstanceKey] = (),
        standing: Standing,
        configuration: str,
        now: float,
    ) -> None:
        """Remember a verdict as one step; services without instances are forgotten."""
        with self.transaction() as database:
            execute = database.conn.execute
            for observed in services:
                if observed.instances:
                    row = [registry, observed.service, codec.dump(observed.instances), observed.epoch]
                    execute("INSERT OR REPLACE INTO observed VALUES (?, ?, ?, ?, ?)", [*row, str(observed.index)])
                else:
                    execute("DELETE FROM observed WHERE registry = ? AND service = ?", [registry, observed.service])
            for waiting in waits:
                marks = "?, ?, ?, ?, ?, ?, ?, ?, ?"
                execute(f"INSERT OR REPLACE INTO waiting VALUES ({marks})", waiting_row.dump(registry, waiting, now))
            for key in ended:
                where = "registry = ? AND service = ? AND node = ? AND id = ?"
                execute(f"DELETE FROM waiting WHERE {where}", [registry, *key])
            began = standing.epoch_began
            row = [registry, standing.epoch, None if began is None else now - began, json.dumps(standing.minutes)]
            execute(
                "INSERT OR REPLACE INTO registry VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    *row,
                    max(0.0, now - standing.counted),
                    configuration,
                    str(standing.index),
                    json.dumps(standing.versions),
                ],
            )

    # Clusters

    def clusters(self) -> tuple[str, ...]:
        """Return the names of all clusters that are remembered to hold anything."""
        return tuple(name for (name,) in self._read("SELECT DISTINCT cluster FROM applied ORDER BY cluster"))

    def applied(self, cluster: str) -> dict[ResourceKey, Applied]:
        """Return what a cluster acknowledged."""
        columns = "kind, namespace, name, digest, uid, generation, resource_version, labels, unneeded"
        found = {}
        with self._rows(f"SELECT {columns} FROM applied WHERE cluster = ?", [cluster]) as rows:
            for kind, namespace, name, digest, uid, generation, version, labels, unneeded in rows:
                key = ResourceKey(intern(kind), intern(namespace), name)
                found[key] = Applied(
                    key=key,
                    digest=digest,
                    uid=uid,
                    generation=generation,
                    resource_version=version,
                    labels=_labels(labels),
                    unneeded=unneeded,
                )
        return found

    def apply(
        self, cluster: str, applied: Iterable[Applied], gone: Iterable[ResourceKey] = (), events: Iterable[Event] = ()
    ) -> None:
        """Remember what a cluster has acknowledged, and the history of it, as one step."""
        rows = [
            [cluster, *a.key, a.digest, a.uid, a.generation, a.resource_version, json.dumps(a.labels), a.unneeded]
            for a in applied
        ]
        with self.transaction() as database:
            database.conn.executemany("INSERT OR REPLACE INTO applied VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            where = "cluster = ? AND kind = ? AND namespace = ? AND name = ?"
            database.conn.executemany(f"DELETE FROM applied WHERE {where}", [[cluster, *key] for key in gone])
            database.conn.executemany(
                "INSERT INTO history (at, cluster, action, kind, namespace, name, why, lag, host, registry)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [[e.at, e.cluster, e.action, *e.key, e.why, e.lag, e.host, e.registry] for e in events],
            )

    def forsaken(self, cluster: str) -> list[Forsaken]:
        """Return the ServiceEntries whose authors had left their hosts, and for how long."""
        sql = "SELECT namespace, name, uid, author, seconds FROM forsaken WHERE cluster = ? ORDER BY namespace, name"
        return [
            Forsaken(ResourceKey(SERVICE_ENTRY, namespace, name), uid, author, seconds)
            for namespace, name, uid, author, seconds in self._read(sql, [cluster])
        ]

    def set_forsaken(self, cluster: str, rows: Iterable[Forsaken]) -> None:
        """Remember these ServiceEntries of a cluster whose authors have left their hosts, and no others."""
        with self.transaction() as database:
            database.conn.execute("DELETE FROM forsaken WHERE cluster = ?", [cluster])
            database.conn.executemany(
                "INSERT INTO forsaken VALUES (?, ?, ?, ?, ?, ?)",
                [[cluster, row.key.namespace, row.key.name, row.uid, row.author, row.seconds] for row in rows],
            )

    def carried(self, cluster: str) -> Carried | None:
        """Return under what a cluster's last whole plan was carried out, None before the first."""
        rows = self._read("SELECT configuration, version, accepted FROM cluster WHERE name = ?", [cluster])
        return Carried(*rows[0]) if rows else None

    def set_carried(self, cluster: str, carried: Carried) -> None:
        """Remember under what a cluster's last whole plan was carried out."""
        with self.transaction() as database:
            database.table("cluster").upsert({"name": cluster, **carried._asdict()}, pk="name")

    def history(self, host: str = "", most: int = 100) -> list[Event]:
        """Return what was written last, the newest first, of one host or of all."""
        where, parameters = (" WHERE host = ?", [host]) if host else ("", [])
        columns = "at, cluster, action, kind, namespace, name, why, lag, host, registry"
        rows = self._read(f"SELECT {columns} FROM history{where} ORDER BY id DESC LIMIT ?", [*parameters, most])
        return [
            Event(at, cluster, action, ResourceKey(kind, namespace, name), why, lag, of, registry)
            for at, cluster, action, kind, namespace, name, why, lag, of, registry in rows
        ]

    def paused(self) -> frozenset[str]:
        """Return the clusters that an operator has paused."""
        return frozenset(name for (name,) in self._read("SELECT cluster FROM paused"))

    def set_paused(self, cluster: str, *, paused: bool) -> None:
        """Remember that an operator has paused a cluster, or resumed it."""
        sql = "INSERT OR IGNORE INTO paused VALUES (?)" if paused else "DELETE FROM paused WHERE cluster = ?"
        with self.transaction() as database:
            database.conn.execute(sql, [cluster])

    def trim(self) -> None:
        """Keep the history bounded."""
        with self.transaction() as database:
            database.conn.execute(
                "DELETE FROM history WHERE id <= (SELECT COALESCE(MAX(id), 0) FROM history) - ?", [HISTORY]
            )


@lru_cache(shared.LATELY)
def _labels(text: str) -> tuple[str, ...]:
    return shared.words(tuple(json.loads(text)))
