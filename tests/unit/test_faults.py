"""What each kind of failure means; the real API server's own answers are in the integration tests."""

import json
import socket
from typing import Any

import pytest
import urllib3
from kubernetes.client.exceptions import ApiException
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from agent.clusters.faults import Call, from_exception, from_response, from_status, unexpected
from state.errors import Fault

WHAT = "WorkloadEntry legacy/orders-1"
POOL = urllib3.HTTPSConnectionPool("10.0.0.1", 6443)


def status(code: int, reason: str = "", message: str = "", **details: Any) -> bytes:
    body = {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code}
    return json.dumps({**body, "details": details}).encode()


def fault(code: int, body: bytes, verb: str = "create") -> Fault:
    return from_response(Call("east", verb, WHAT), code, {}, body).fault


OBJECT = {"name": "orders-1", "group": "networking.istio.io", "kind": "workloadentries"}


@pytest.mark.parametrize(
    ("code", "body", "expected"),
    [
        (409, status(409, "Conflict", "the object has been modified", **OBJECT), Fault.CONFLICT),
        (409, status(409, "AlreadyExists", "already exists", **OBJECT), Fault.EXISTS),
        (409, status(409, "Conflict", "quota", name="counts", kind="resourcequotas"), Fault.OBJECT),
        (404, status(404, "NotFound", 'workloadentries "orders-1" not found', **OBJECT), Fault.MISSING),
        (404, b"404 page not found\n", Fault.CLUSTER),
        (404, status(404, "NotFound", "the server could not find the requested resource"), Fault.CLUSTER),
        (404, status(404, "NotFound", 'namespaces "x" not found', name="x", kind="namespaces"), Fault.OBJECT),
        (422, status(422, "Invalid", "spec.ports: Too many", **OBJECT), Fault.REJECTED),
        (400, status(400, "BadRequest", "strict decoding error: unknown field"), Fault.REJECTED),
        (400, b"<html>Bad Request</html>", Fault.CLUSTER),
        (413, b"<html>Request Entity Too Large</html>", Fault.REJECTED),
        (500, status(500, "", "etcdserver: request is too large"), Fault.REJECTED),
        (400, status(400, "", 'admission webhook "v.istio.io" denied the request: no'), Fault.REJECTED),
        (500, status(500, "", 'admission webhook "v.istio.io" denied the request: no'), Fault.REJECTED),
        (500, status(500, "InternalError", 'failed calling webhook "v.istio.io": refused'), Fault.CLUSTER),
        (
            403,
            status(403, "Forbidden", "ValidatingAdmissionPolicy 'p' with binding 'b' denied request"),
            Fault.REJECTED,
        ),
        (403, status(403, "Forbidden", 'User "x" cannot create'), Fault.UNAUTHORISED),
        (403, status(403, "Forbidden", "exceeded quota: counts, used: 3"), Fault.OBJECT),
        (403, status(403, "Forbidden", "no", causes=[{"reason": "NamespaceTerminating"}]), Fault.OBJECT),
        (
            403,
            status(403, "Forbidden", "create not allowed while custom resource definition is terminating"),
            Fault.CLUSTER,
        ),
        (401, status(401, "Unauthorized", "Unauthorized"), Fault.UNAUTHORISED),
        (410, status(410, "Expired", "too old resource version: 1 (2)"), Fault.EXPIRED),
        (504, status(504, "Timeout", "big", causes=[{"reason": "ResourceVersionTooLarge"}]), Fault.EXPIRED),
        (504, status(504, "Timeout", "request did not complete"), Fault.CLUSTER),
        (429, b"Too many requests, please try again later.", Fault.CLUSTER),
        (503, b"", Fault.CLUSTER),
        (302, b"", Fault.CLUSTER),
        (502, b"<html>Bad Gateway</html>", Fault.CLUSTER),
        (407, b"", Fault.CLUSTER),
        (500, b'{"kind": "Status", "details": "text", "message": 3, "code": "x"}', Fault.CLUSTER),
        (500, b'{"kind": "Status", "details": {"causes": ["text", {"reason": 3}]}}', Fault.CLUSTER),
        (500, b"[" * 100_000, Fault.CLUSTER),
    ],
)
def test_an_answer_means_what_its_words_say(code: int, body: bytes, expected: Fault) -> None:
    assert fault(code, body) is expected


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_refused_read_rejects_no_object(code: int) -> None:
    assert fault(code, status(code, "Invalid", "no"), "list") is Fault.CLUSTER


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Retry-After": "2"}, b"Too many requests", 2.0),
        ({"Retry-After": "86400"}, b"", 300.0),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, b"", 0.0),
        ({"Retry-After": "-5"}, b"", 0.0),
        ({}, status(503, "ServiceUnavailable", "starting", retryAfterSeconds=5), 5.0),
        ({}, status(503, "ServiceUnavailable", "starting", retryAfterSeconds=-5), 0.0),
        ({}, b"", 0.0),
    ],
)
def test_the_wait_that_a_server_names_is_kept_within_reason(
    headers: dict[str, str], body: bytes, expected: float
) -> None:
    assert from_response(Call("east", "update", WHAT), 503, headers, body).retry_after == expected


def test_a_message_names_cluster_verb_and_object_and_is_cut() -> None:
    error = from_response(Call("east", "update", WHAT), 422, {}, status(422, "Invalid", "no\n  good " * 1000))
    assert str(error).startswith(f"cluster east: update {WHAT}: 422 Invalid: no good no good")
    assert len(str(error)) < 700


def test_a_page_of_a_proxy_is_shown_in_part() -> None:
    error = from_response(Call("east", "list", "x"), 502, {}, b"<html>\n<h1>\xff Bad Gateway</h1>" + b" x" * 5000)
    assert "Bad Gateway" in str(error)
    assert len(str(error)) < 300


def test_a_missing_definition_is_told_from_a_missing_object() -> None:
    error = from_response(Call("east", "list", "workloadentries in legacy"), 404, {}, b"404 page not found\n")
    assert "are Istio's definitions installed" in str(error)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}, Fault.EXPIRED),
        ({"kind": "Status", "code": 500, "message": "no"}, Fault.CLUSTER),
        ("text", Fault.CLUSTER),
        (None, Fault.CLUSTER),
    ],
)
def test_an_error_inside_a_watch_is_told_by_its_status(shown: object, expected: Fault) -> None:
    assert from_status(Call("east", "watch", "x"), shown).fault is expected


def refused() -> NewConnectionError:
    error = NewConnectionError(HTTPSConnection("10.0.0.1", 6443), "Failed to establish a new connection")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refused(), "cannot connect: Connection refused"),
        (ConnectTimeoutError(), "no connection in time"),
        (ReadTimeoutError(POOL, "/", "Read timed out."), "no answer in time"),
        (ProtocolError("Connection broken", socket.gaierror(-2, "gone")), "the connection was cut"),
        (ProxyError("http://user:hunter2@proxy:3128", OSError("no")), "the proxy does not connect"),
        (SSLError("certificate verify failed"), "TLS"),
        (HTTPError("http://user:hunter2@proxy"), "HTTPError"),
        (FileNotFoundError(2, "No such file or directory"), "FileNotFoundError: No such file or directory"),
    ],
)
def test_a_failed_connection_is_the_clusters_fault_and_shows_no_secrets(error: Exception, expected: str) -> None:
    told = from_exception(Call("east", "create", WHAT), error)
    assert told.fault is Fault.CLUSTER
    assert str(told) == f"cluster east: create {WHAT}: {expected}"


def test_an_untrusted_certificate_is_told_as_such() -> None:
    error = ApiException(status=0, reason="SSLError\n[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer")
    assert "TLS: [SSL: CERTIFICATE_VERIFY_FAILED] unable" in str(from_exception(Call("east", "list", "x"), error))


def test_a_foreign_body_is_the_clusters_fault() -> None:
    assert unexpected(Call("east", "list", "x"), "not JSON").fault is Fault.CLUSTER
