"""Where credentials come from, when they are fetched anew, and that no call is made without one.

The server is a few lines on loopback, since a real one cannot be made to refuse once and take the next call.
"""

import stat
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
import yaml
from kubernetes.client import Configuration

from agent.clusters.credentials import connect
from agent.clusters.kubernetes import KubernetesCluster
from agent.clusters.settings import KubernetesSettings
from state.errors import Fault
from state.limits import Limits
from tests.unit.loopback import Answer, Request, Server, as_json
from tests.unit.scene import KEY, LIMITS, SECRET, SPEC, error_of, scene, shown


def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    with scene(tmp_path, lambda _: as_json(shown(5, spec=SPEC))) as there:
        there.cluster.look(KEY)
        there.token_file.write_text("  another-token\n\n")
        there.cluster.look(KEY)
        assert [r.headers["Authorization"] for r in there.requests] == [f"Bearer {SECRET}", "Bearer another-token"]


@pytest.mark.parametrize("content", [None, b"", b" \n", b"s3cr3t-t0ken two", b"s3cr3t-t0ken\x00", b"s3cr3t-t0ken\xff"])
def test_without_a_usable_token_nothing_is_sent(tmp_path: Path, content: bytes | None) -> None:
    with scene(tmp_path, lambda _: as_json(shown(5, spec=SPEC))) as there:
        if content is None:
            there.token_file.unlink()
        else:
            there.token_file.write_bytes(content)
        error = error_of(lambda: there.cluster.look(KEY))
        assert error.fault is Fault.UNAUTHORISED
        assert str(there.token_file) in str(error)
        assert there.requests == []


@pytest.mark.parametrize(
    ("ca_file", "token_file", "told"),
    [(None, None, "no token file"), (Path("/nowhere/ca.pem"), Path("/dev/null"), "/nowhere/ca.pem")],
)
def test_what_is_missing_is_named_before_anything_is_sent(
    ca_file: Path | None, token_file: Path | None, told: str
) -> None:
    settings = KubernetesSettings(
        name="east", namespace="legacy", server="https://127.0.0.1:1", ca_file=ca_file, token_file=token_file
    )
    error = error_of(lambda: KubernetesCluster(settings, LIMITS).look(KEY))
    assert error.fault is Fault.UNAUTHORISED
    assert told in str(error)


def test_a_refused_credential_is_fetched_anew_once(tmp_path: Path) -> None:
    refuse = Event()
    refuse.set()

    def serve(_: Request) -> Answer:
        if refuse.is_set():
            there.token_file.write_text("fresh")
            refuse.clear()
            return Answer(401, b"Unauthorized")
        return as_json(shown(5, spec=SPEC))

    with scene(tmp_path, serve) as there:
        there.cluster.look(KEY)
        assert [r.headers["Authorization"] for r in there.requests] == [f"Bearer {SECRET}", "Bearer fresh"]


def test_a_credential_that_is_refused_twice_is_an_error(tmp_path: Path) -> None:
    with scene(tmp_path, lambda _: Answer(401, b"Unauthorized")) as there:
        assert error_of(lambda: there.cluster.look(KEY)).fault is Fault.UNAUTHORISED
        assert len(there.requests) == 2


EXEC = "client.authentication.k8s.io/v1"


def kubeconfig(folder: Path, url: str, user: dict[str, object], **cluster: object) -> Path:
    path = folder / "kubeconfig"
    content = {
        "clusters": [{"name": "c", "cluster": {"server": url, **cluster}}],
        "users": [{"name": "u", "user": user}, {"name": "other", "user": {"token": "other"}}],
        "contexts": [
            {"name": "first", "context": {"cluster": "c", "user": "other"}},
            {"name": "second", "context": {"cluster": "c", "user": "u"}},
        ],
        "current-context": "first",
    }
    path.write_text(yaml.safe_dump(content))
    return path


def by_kubeconfig(path: Path, context: str = "second", limits: Limits = LIMITS) -> KubernetesCluster:
    return KubernetesCluster(
        KubernetesSettings(name="east", namespace="legacy", kubeconfig=path, context=context), limits
    )


@contextmanager
def answering() -> Iterator[Server]:
    with Server(lambda _: as_json(shown(5, spec=SPEC))) as server:
        yield server


def credentials(server: Server) -> list[str]:
    return [request.headers["Authorization"] for request in server.requests]


def test_a_kubeconfigs_context_is_used_and_is_nobody_elses_default(tmp_path: Path) -> None:
    with answering() as server:
        path = kubeconfig(tmp_path, server.url, {"token": "mine\n"})
        by_kubeconfig(path).look(KEY)
        by_kubeconfig(path, context="").look(KEY)
        assert credentials(server) == ["Bearer mine", "Bearer other"]
        assert Configuration.get_default_copy().host != server.url


def test_a_password_is_sent_as_one(tmp_path: Path) -> None:
    with answering() as server:
        by_kubeconfig(kubeconfig(tmp_path, server.url, {"username": "a", "password": "b"})).look(KEY)
        assert credentials(server) == [f"Basic {b64encode(b'a:b').decode()}"]


def test_a_token_file_of_a_kubeconfig_wins_and_is_read_again(tmp_path: Path) -> None:
    with answering() as server:
        (tmp_path / "token").write_text("one\n")
        cluster = by_kubeconfig(kubeconfig(tmp_path, server.url, {"token": "fixed", "tokenFile": "token"}))
        cluster.look(KEY)
        (tmp_path / "token").write_text("two\n\n")
        cluster.look(KEY)
        assert credentials(server) == ["Bearer one", "Bearer two"]


def test_a_kubeconfig_is_read_again_when_it_changes(tmp_path: Path) -> None:
    with answering() as before, answering() as after:
        path = kubeconfig(tmp_path, before.url, {"token": "one"})
        cluster = by_kubeconfig(path)
        cluster.look(KEY)
        path.write_text("{ half a file")
        cluster.look(KEY)  # what is in use is still good
        kubeconfig(tmp_path, after.url, {"token": "three"})
        cluster.look(KEY)
        assert credentials(before) == ["Bearer one", "Bearer one"]
        assert credentials(after) == ["Bearer three"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file or directory"),
        ("", "not a kubeconfig"),
        (f"users: [{{token: {SECRET}", "line 1 no YAML"),
        (f"[{SECRET}]", "not a kubeconfig"),
        ("contexts: 3\ncurrent-context: second", "kubeconfig"),
        ("contexts: [{name: second, context: {cluster: nowhere}}]\nclusters: []", "nowhere"),
        ("contexts: [{name: second, context: {cluster: c}}]\nclusters: [{name: c, cluster: {}}]", "has no server"),
    ],
)
def test_an_unusable_kubeconfig_is_named_and_not_quoted(tmp_path: Path, content: str | None, told: str) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    error = error_of(lambda: by_kubeconfig(path).look(KEY))
    assert error.fault is Fault.UNAUTHORISED
    assert str(path) in str(error)
    assert told in str(error)


@pytest.mark.parametrize(
    ("user", "cluster", "told"),
    [
        ({}, {}, "no credential"),
        (
            {"exec": {"apiVersion": EXEC, "command": "/nowhere/plugin"}},
            {},
            "no credential",
        ),
        ({"client-certificate": "/nowhere/crt"}, {}, "/nowhere/crt"),
        ({"token": "a"}, {"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify"),
        ({"token": "a b\nc"}, {}, "no header can hold"),
    ],
)
def test_a_kubeconfig_that_would_make_anonymous_calls_is_refused(
    tmp_path: Path, user: dict[str, object], cluster: dict[str, object], told: str
) -> None:
    path = kubeconfig(tmp_path, "https://127.0.0.1:1", user, **cluster)
    error = error_of(lambda: by_kubeconfig(path).look(KEY))
    assert error.fault is Fault.UNAUTHORISED
    assert str(path) in str(error)
    assert told in str(error)


PLUGIN = """\
#!{python}
import datetime, json, pathlib, time
runs = pathlib.Path({runs!r})
with runs.open("a") as file:
    file.write("x")
count = len(runs.read_text())
time.sleep({pause})
status = {{"token": f"run-{{count}}"}}
if {life} is not None:
    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds={life} or 0)
    status["expirationTimestamp"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""


def plugin(folder: Path, pause: float = 0.0, life: float | None = None) -> dict[str, object]:
    path = folder / "plugin"
    path.write_text(PLUGIN.format(python=sys.executable, runs=str(folder / "runs"), pause=pause, life=life))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": EXEC, "command": str(path), "interactiveMode": "Never"}}


PATIENT = Limits(write_timeout=10.0)


def test_a_plugin_runs_once_for_all_threads_and_again_when_its_credential_is_refused(tmp_path: Path) -> None:
    refused = {"Bearer run-1"}
    allowed = Event()
    allowed.set()

    def serve(request: Request) -> Answer:
        if request.headers["Authorization"] in refused and not allowed.is_set():
            return Answer(401)
        return as_json(shown(5, spec=SPEC))

    with Server(serve) as server:
        cluster = by_kubeconfig(kubeconfig(tmp_path, server.url, plugin(tmp_path)), limits=PATIENT)

        def in_threads() -> None:
            threads = [Thread(target=cluster.look, args=(KEY,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        in_threads()
        assert (tmp_path / "runs").read_text() == "x"
        assert set(credentials(server)) == {"Bearer run-1"}
        allowed.clear()
        in_threads()
        assert (tmp_path / "runs").read_text() == "xx"
        assert credentials(server).count("Bearer run-2") == 8


def test_a_credential_is_renewed_when_it_has_expired(tmp_path: Path) -> None:
    with answering() as server:
        cluster = by_kubeconfig(kubeconfig(tmp_path, server.url, plugin(tmp_path, life=-1)), limits=PATIENT)
        cluster.look(KEY)
        cluster.look(KEY)
        assert credentials(server) == ["Bearer run-1", "Bearer run-1"]  # however short its life, not at every call
        connection = connect(cluster_settings(tmp_path))
        assert connection.renew_at - time.monotonic() < 5.1
        assert connection.expires_at < time.monotonic()


def cluster_settings(folder: Path) -> KubernetesSettings:
    return KubernetesSettings(name="east", namespace="legacy", kubeconfig=folder / "kubeconfig", context="second")


def test_a_plugin_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    with answering() as server:
        cluster = by_kubeconfig(kubeconfig(tmp_path, server.url, plugin(tmp_path, pause=3.0)))
        for _ in range(3):
            error = error_of(lambda: cluster.look(KEY))
            assert error.fault is Fault.UNAUTHORISED
            assert "its credential plugin does not end" in str(error)
        assert (tmp_path / "runs").read_text() == "x"
        assert server.requests == []
