"""A real Kubernetes API server for tests, with Istio's ServiceEntry and WorkloadEntry, users, and RBAC."""

import json
import re
import secrets
import ssl
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import httpx
import yaml

from tests.testbed.build import Binaries
from tests.testbed.etcd import Etcd
from tests.testbed.pki import Authority, make_signing_key
from tests.testbed.processes import Process, Served, free_port, wait_until
from tests.testbed.recorder import Recorder

ISTIO = "networking.istio.io"
RBAC = "rbac.authorization.k8s.io"
PLURALS = {"ServiceEntry": "serviceentries", "WorkloadEntry": "workloadentries"}
VERBS = ("get", "list", "watch", "create", "update", "delete")
USER = "isthmus"
Object = Mapping[str, Any]


class ApiServer(Served):
    """One API server on an etcd of its own, without controllers: no namespace ever finishes terminating.

    `stop` and its like concern the API server alone; what it stored stays in its etcd, and `start` serves it again.
    """

    def __init__(self, binaries: Binaries, folder: Path, *flags: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.etcd = Etcd(binaries.etcd, folder)
        self.admin_token = secrets.token_hex(16)
        self.token = secrets.token_hex(16)
        self.token_file = folder / f"{USER}.token"
        self.authority = Authority(folder / "pki")
        self.ca_file = self.authority.ca_file
        self._crds = binaries.istio_crds
        self._write_tokens()
        self.process = Process("kube-apiserver", self._command(binaries, flags), folder / "kube-apiserver.log")
        self.client = httpx.Client(
            base_url=self.url, verify=ssl.create_default_context(cafile=str(self.ca_file)), timeout=30, trust_env=False
        )

    def _write_tokens(self) -> None:
        self.token_file.write_text(self.token + "\n")
        self.token_file.chmod(0o600)
        rows = (f"{self.admin_token},admin,admin,system:masters", f"{self.token},{USER},{USER},")
        (self.folder / "tokens.csv").write_text("\n".join(rows) + "\n")

    def _command(self, binaries: Binaries, flags: Iterable[str]) -> list[str]:
        pair = self.authority.server("kubernetes")
        signing = make_signing_key(self.folder)
        return [
            str(binaries.kube_apiserver),
            f"--etcd-servers={self.etcd.url}",
            "--etcd-compaction-interval=0",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--tls-cert-file={pair.cert_file}",
            f"--tls-private-key-file={pair.key_file}",
            f"--client-ca-file={self.ca_file}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={signing.key_file}",
            f"--service-account-key-file={signing.cert_file}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            *flags,
        ]

    def open(self) -> Self:
        """Start etcd and the API server, and teach it Istio's kinds."""
        self.etcd.start()
        self.start()
        wanted = {f"{plural}.{ISTIO}" for plural in PLURALS.values()}
        for definition in yaml.load_all(self._crds.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if definition and definition["metadata"]["name"] in wanted:
                self.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        wait_until(self._serves_istio, "both of Istio's kinds are served")
        # A server sits on every create of a kind that it has known for less than two seconds: no test shall meet that.
        probe = {
            "apiVersion": f"{ISTIO}/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": "probe"},
            "spec": {"address": "10.0.0.1"},
        }
        self.request("POST", path("WorkloadEntry", "default") + "?dryRun=All", probe)
        return self

    def close(self) -> None:
        """Stop everything for good; an API server whose etcd went first would not end."""
        self.process.stop()
        self.etcd.close()
        self.client.close()

    def __enter__(self) -> Self:
        try:
            return self.open()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the API server, or start it again on its port, and wait until it is ready."""
        again = self.process.log.exists()
        self.process.start(self.is_ready, 60)
        if again:
            wait_until(self._serves_istio, "both of Istio's kinds are served")

    def stop(self) -> None:
        """Stop the API server as its operator would."""
        self.process.stop()

    def restart(self) -> None:
        """Stop the API server and start it on the same port."""
        self.stop()
        self.start()

    def is_ready(self) -> bool:
        """Whether the server says that it can do its work, for which it needs its etcd."""
        try:
            return self.response("GET", "/readyz").text == "ok"
        except httpx.HTTPError:
            return False

    def _serves_istio(self) -> bool:
        try:
            for kind in PLURALS:
                self.objects(kind, "default")
        except httpx.HTTPStatusError:
            return False
        return True

    def response(self, method: str, path: str, body: object = None, token: str | None = None) -> httpx.Response:
        """Call the API as its administrator, or with a token, or anonymously; raise for a status of failure."""
        token = self.admin_token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = self.client.request(method, path, json=body, headers=headers)
        if response.is_error:
            text = f"{method} {path}: {response.status_code} {response.text.strip()}"
            raise httpx.HTTPStatusError(text, request=response.request, response=response)
        return response

    def request(self, method: str, path: str, body: object = None, token: str | None = None) -> Any:
        """Call the API and return the JSON of its answer."""
        return self.response(method, path, body, token).json()

    def objects(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """All objects of `ServiceEntry` or `WorkloadEntry` in a namespace, sorted by name, complete."""
        found: list[dict[str, Any]] = self.request("GET", path(kind, namespace))["items"]
        return sorted(found, key=lambda item: str(item["metadata"]["name"]))

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """One object."""
        found: dict[str, Any] = self.request("GET", path(kind, namespace, name))
        return found

    def create(self, item: Object, token: str | None = None) -> dict[str, Any]:
        """Create an object in the namespace that it names."""
        made: dict[str, Any] = self.request("POST", path(item["kind"], item["metadata"]["namespace"]), item, token)
        return made

    def replace(self, item: Object, token: str | None = None) -> dict[str, Any]:
        """Replace an object: the version that it names, or without one whatever is there."""
        kind, metadata = item["kind"], item["metadata"]
        if "resourceVersion" not in metadata:
            version = self.get(kind, metadata["namespace"], metadata["name"])["metadata"]["resourceVersion"]
            metadata = {**metadata, "resourceVersion": version}
        where = path(kind, metadata["namespace"], metadata["name"])
        made: dict[str, Any] = self.request("PUT", where, {**item, "metadata": metadata}, token)
        return made

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """Delete one object."""
        self.request("DELETE", path(kind, namespace, name))

    def create_namespace(self, name: str) -> None:
        """Create a namespace."""
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def grant(self, namespace: str, verbs: Iterable[str] = VERBS, user: str = USER) -> None:
        """Allow a user what isthmus needs in a namespace, and no more."""
        rules = [{"apiGroups": [ISTIO], "resources": list(PLURALS.values()), "verbs": list(verbs)}]
        self.grant_rules(namespace, rules, user=user)

    def grant_rules(self, namespace: str, rules: Sequence[Object], name: str = "testbed", user: str = USER) -> None:
        """Allow a user anything in a namespace, by a RoleBinding of the given name, and wait until it counts."""
        role = f"{name}-{secrets.token_hex(4)}"
        reference = {"apiGroup": RBAC, "kind": "Role", "name": role}
        binding = {
            "metadata": {"name": name},
            "roleRef": reference,
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
        }
        where = f"/apis/{RBAC}/v1/namespaces/{namespace}"
        self.request("POST", f"{where}/roles", {"metadata": {"name": role}, "rules": rules})
        self.request("POST", f"{where}/rolebindings", binding)
        wait_until(lambda: self._may(user, namespace, rules[0]), f"{user} may do what was granted")

    def revoke(self, namespace: str, name: str = "testbed") -> None:
        """Take back what a grant of this name allowed, and wait until it counts."""
        where = f"/apis/{RBAC}/v1/namespaces/{namespace}"
        binding = self.request("GET", f"{where}/rolebindings/{name}")
        role = binding["roleRef"]["name"]
        rule, user = self.request("GET", f"{where}/roles/{role}")["rules"][0], binding["subjects"][0]["name"]
        self.request("DELETE", f"{where}/rolebindings/{name}")
        self.request("DELETE", f"{where}/roles/{role}")
        wait_until(lambda: not self._may(user, namespace, rule), f"{user} may not do any longer what was granted")

    def _may(self, user: str, namespace: str, rule: Object) -> bool:
        action = {
            "namespace": namespace,
            "group": rule["apiGroups"][0],
            "resource": rule["resources"][0],
            "verb": rule["verbs"][0],
        }
        review = {"spec": {"user": user, "resourceAttributes": action}}
        answer = self.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    def kubeconfig(self, token: str | None = None) -> Path:
        """Write a kubeconfig with one context, `testbed`, for the user isthmus or the bearer of the token."""
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": cluster}],
            "users": [{"name": "testbed", "user": {"token": token or self.token}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
            "current-context": "testbed",
        }
        file = self.folder / f"{(token or self.token)[:8]}.kubeconfig"
        file.write_text(json.dumps(content, indent=2) + "\n")
        file.chmod(0o600)
        return file

    def record(self, namespace: str, since: int | None = None) -> Recorder:
        """Record every event in a namespace, from now or from a resourceVersion on, within a `with` block."""
        return Recorder(self.etcd, namespace, since)

    def calls(self) -> Counter[tuple[str, str]]:
        """Count the calls to both kinds since the server started, by verb (POST, PUT, LIST...) and plural."""
        counted: Counter[tuple[str, str]] = Counter()
        for line in self.response("GET", "/metrics").text.splitlines():
            if line.startswith("apiserver_request_total{"):
                labels, value = line.rsplit(" ", 1)
                named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
                if named["group"] == ISTIO and named["resource"] in PLURALS.values():
                    counted[named["verb"], named["resource"]] += int(float(value))
        return counted

    def writes(self) -> int:
        """Count the calls since the server started that were meant to change an object of either kind."""
        reads = ("GET", "LIST", "WATCH")
        return sum(number for (verb, _), number in self.calls().items() if verb not in reads)


def path(kind: str, namespace: str, name: str = "") -> str:
    """Say where the API keeps the objects of a kind, or one of them."""
    return f"/apis/{ISTIO}/v1/namespaces/{namespace}/{PLURALS[kind]}" + (f"/{name}" if name else "")


class MakeApiServer(Protocol):
    """Start one more API server with further flags, which the fixture ends."""

    def __call__(self, *flags: str) -> ApiServer: ...
