"""One Kubernetes cluster: whether its API server takes us, serves Istio's kinds, and allows what the agent does."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

from agent.check.finding import Finding, cluster, error, note, ok
from agent.check.hosts import Selecting
from agent.check.kubeconfig import expiry, mends
from agent.check.network import Server, advice, failed
from agent.check.rights import GROUP, RESOURCES, verbs
from agent.clusters.api import Api
from agent.clusters.faults import Call
from agent.clusters.settings import KubernetesSettings
from state.errors import ClusterError, Fault
from state.limits import Limits
from state.model import MANAGED_BY, PRODUCT

PAGE = 500  # objects
VERSION = "v1"
INSTALL = "install Istio's CRDs, 1.24 or newer: `istioctl install`, or the chart istio/base"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


class Seen(NamedTuple):
    """What a cluster showed, as far as it may be seen."""

    findings: tuple[Finding, ...]
    services: tuple[Selecting, ...] = ()
    foreign: tuple[Selecting, ...] = ()


class StopError(Exception):
    """Nothing more can be seen of this cluster."""


def check_cluster(settings: KubernetesSettings, namespaces: tuple[str, ...], limits: Limits) -> Seen:
    """Return how it is with a cluster, which is only read, in the namespaces that matter."""
    with closing(Api(settings, limits)) as api:
        look = _Look(settings, api)
        with suppress(StopError):
            look.ask_version()
            look.ask_kinds()
            for namespace in namespaces:
                look.ask_namespace(namespace)
                look.ask_rights(namespace)
                look.list_services(namespace)
                look.list_foreign(namespace)
        look.tell_unseen()
        return Seen(tuple(look.findings), tuple(look.services), tuple(look.foreign))


class _Look:
    """One look at one cluster."""

    def __init__(self, settings: KubernetesSettings, api: Api) -> None:
        self.findings: list[Finding] = []
        self.services: list[Selecting] = []
        self.foreign: list[Selecting] = []
        self._unseen: dict[tuple[str, str], list[str]] = {}
        self._settings = settings
        self._place = cluster(settings.name)
        self._api = api
        source = f"the kubeconfig {settings.kubeconfig}"
        self._server = Server(
            what="the API server",
            url=settings.server or f"the server that {source} names",
            address=f"the server in {source}" if settings.kubeconfig else f"clusters.{settings.name}.server",
            ca=f"the certificate-authority in {source}" if settings.kubeconfig else str(settings.ca_file),
            name=f"tls-server-name in {source}" if settings.kubeconfig else "the host in its URL",
        )

    # The server

    def ask_version(self) -> None:
        """See whether an API server answers, and takes our credential."""
        version = "of a version that it does not show"
        try:
            version = str(self._call("get", "its version", "/version").get("gitVersion", version))
        except ClusterError as problem:
            if _code(problem) != 403:
                self._cannot(problem)
        name = self._who()
        self._ok(f"Kubernetes {version} answers, and takes the credential{f' for user {name}' if name else ''}")

    def _who(self) -> str:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        try:
            answer = self._call(
                "create", "selfsubjectreviews", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body
            )
        except ClusterError:
            return ""  # before Kubernetes 1.28 nobody can be asked
        return str(_object(_object(answer.get("status")).get("userInfo")).get("username", ""))

    def ask_kinds(self) -> None:
        """See whether Istio's kinds are served in the version that is written."""
        try:
            group = self._call("get", GROUP, f"/apis/{GROUP}")
            versions = [str(_object(one).get("version")) for one in group.get("versions") or ()]
            if VERSION not in versions:
                self._stop(f"{GROUP} is served as {', '.join(versions)}, and not as {VERSION}", INSTALL)
            kinds = self._call("get", f"{GROUP}/{VERSION}", f"/apis/{GROUP}/{VERSION}")
        except ClusterError as problem:
            if _code(problem) == 404:
                self._stop(f"{GROUP} is not served: there are no ServiceEntries and WorkloadEntries", INSTALL)
            if _code(problem) != 403:
                self._cannot(problem)
            remedy = "only `check` needs that; the ClusterRole system:discovery allows it"
            self.findings.append(
                note(self._place, f"did not look whether {GROUP} is served: it may not discover", remedy)
            )
            return
        served = {str(_object(one).get("name")) for one in kinds.get("resources") or ()}
        if missing := [kind for kind in RESOURCES if kind not in served]:
            self._stop(f"{GROUP}/{VERSION} lacks {' and '.join(missing)}", INSTALL)
        self._ok(f"{GROUP} is served as {', '.join(versions)}")

    # One namespace

    def ask_namespace(self, namespace: str) -> None:
        """See whether a namespace is there, if that may be seen."""
        try:
            answer = self._call("get", f"namespace {namespace}", f"/api/v1/namespaces/{quote(namespace)}")
        except ClusterError as problem:
            if _code(problem) == 404:
                seen = f"there is no namespace {namespace}, and isthmus makes none"
                self.findings.append(error(self._place, seen, f"kubectl create namespace {namespace}"))
            elif _code(problem) == 403:
                self._not_seen("whether there is {}: it may not get namespaces", self._optional(), namespace)
            else:
                self._cannot(problem)
            return
        if _object(answer.get("status")).get("phase") == "Terminating":
            seen = f"namespace {namespace} is being deleted: nothing can be created in it"
            self.findings.append(error(self._place, seen, f"wait until it is gone, then create it: {namespace}"))

    def ask_rights(self, namespace: str) -> None:
        """See verb by verb whether the agent may do what it does."""
        needed, allowed = verbs(self._settings.policy), True
        for resource in RESOURCES:
            try:
                lacking = [verb for verb in needed if not self._may(verb, resource, namespace)]
            except ClusterError as problem:
                if _code(problem) != 403:
                    self._cannot(problem)
                self._try_list(namespace)
                return
            if lacking:
                seen = f"it may not {', '.join(lacking)} {resource} in namespace {namespace}"
                self.findings.append(error(self._place, seen, self._rbac()))
                allowed = False
        if allowed:
            told = f"may {', '.join(needed)} {' and '.join(RESOURCES)} in namespace {namespace}"
            policy = "" if self._settings.policy == "sync" else f", which is all that {self._settings.policy} needs"
            self._ok(f"{told}{policy}")

    def _may(self, verb: str, resource: str, namespace: str) -> bool:
        attributes = {"namespace": namespace, "group": GROUP, "resource": resource, "verb": verb}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._call("create", "selfsubjectaccessreviews", REVIEWS, body)
        return _object(answer.get("status")).get("allowed") is True

    def _try_list(self, namespace: str) -> None:
        """Try what can be tried without writing, where the server does not say what is allowed."""
        what = "whether it may watch and write in {}: it may not create selfsubjectaccessreviews"
        self._not_seen(what, "only `check` needs that; the ClusterRole system:basic-user allows it", namespace)
        for resource in RESOURCES:
            try:
                self._call("list", resource, _path(namespace, resource), query={"limit": 1})
            except ClusterError as problem:
                if _code(problem) != 403:
                    self._cannot(problem)
                seen = f"it may not list {resource} in namespace {namespace}"
                self.findings.append(error(self._place, seen, self._rbac()))

    # What else is there

    def list_services(self, namespace: str) -> None:
        """Remember the Kubernetes Services that select by label, if they may be seen."""
        try:
            for one in self._list("services", f"/api/v1/namespaces/{quote(namespace)}/services"):
                spec = _object(one.get("spec"))
                if spec.get("selector") and spec.get("type") != "ExternalName":
                    self.services.append(Selecting(namespace, _name(one), _object(spec["selector"])))
        except ClusterError as problem:
            if _code(problem) != 403:
                self._cannot(problem)
            told = "whether a Kubernetes Service in {} would take the endpoints: it may not list services"
            self._not_seen(told, self._optional(), namespace)

    def list_foreign(self, namespace: str) -> None:
        """Remember the ServiceEntries that are not isthmus', if they may be seen."""
        with suppress(ClusterError):  # that they may not be listed is told already
            for one in self._list(RESOURCES[0], _path(namespace, RESOURCES[0]), f"{MANAGED_BY}!={PRODUCT}"):
                spec = _object(one.get("spec"))
                selector = _object(_object(spec.get("workloadSelector")).get("labels"))
                hosts = tuple(str(host) for host in spec.get("hosts") or ())
                self.foreign.append(Selecting(namespace, _name(one), selector, hosts))

    def _list(self, what: str, path: str, labels: str = "") -> Iterator[Mapping[str, Any]]:
        query: dict[str, str | int] = {"limit": PAGE, **({"labelSelector": labels} if labels else {})}
        while True:
            answer = self._call("list", what, path, query=query)
            yield from (_object(one) for one in answer.get("items") or ())
            following = _object(answer.get("metadata")).get("continue")
            if not following:
                return
            query["continue"] = str(following)

    # Asking

    def _call(
        self, verb: str, what: str, path: str, body: object = None, query: Mapping[str, str | int] | None = None
    ) -> dict[str, Any]:
        call = Call(self._settings.name, verb, what)
        return self._api.request(call, "GET" if body is None else "POST", path, body=body, query=query)

    def _cannot(self, problem: ClusterError) -> NoReturn:
        """Stop, and tell what mends it."""
        seen = str(problem).removeprefix(f"{self._place}: ")
        code = _code(problem)
        if failed(problem):
            self._stop(f"its API server cannot be reached: {seen}", advice(problem, self._server))
        if code == 401:
            why = expiry(self._settings, time.time()) or "it expired, or is of another cluster"
            source = self._settings.token_file or self._settings.kubeconfig
            self._stop(
                f"the API server does not take the credential in {source}: {seen}", f"{why}: put a new one there"
            )
        if not code and problem.fault is Fault.UNAUTHORISED:
            self._stop(seen, mends(self._settings))
        if code == 429 or code >= 500:
            self._stop(
                f"the API server, or what is in front of it, fails: {seen}", "see its log, and whether its etcd works"
            )
        self._stop(f"what answers is hardly a Kubernetes API server: {seen}", f"see what {self._server.address} names")

    def _ok(self, seen: str) -> None:
        self.findings.append(ok(self._place, seen))

    def _not_seen(self, what: str, remedy: str, namespace: str) -> None:
        self._unseen.setdefault((what, remedy), []).append(namespace)

    def tell_unseen(self) -> None:
        """Tell what nobody looked at, as that was not allowed."""
        for (what, remedy), namespaces in self._unseen.items():
            where = f"namespace{'s' if len(namespaces) > 1 else ''} {', '.join(namespaces)}"
            self.findings.append(note(self._place, f"did not look {what.format(where)}", remedy))

    def _optional(self) -> str:
        return f"only `check` needs that; `isthmus rbac {self._settings.name}` prints, as a comment, what allows it"

    def _rbac(self) -> str:
        return f"grant what `isthmus rbac {self._settings.name}` prints"

    def _stop(self, seen: str, remedy: str) -> NoReturn:
        self.findings.append(error(self._place, seen, remedy))
        raise StopError


def _path(namespace: str, resource: str) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{quote(namespace)}/{resource}"


def _code(problem: ClusterError) -> int:
    """Return the status that a server answered with, 0 when it is no answer that failed."""
    words = str(problem).split(": ", 2)
    number = words[2][:3] if len(words) == 3 else ""
    return int(number) if number.isdecimal() and len(number) == 3 else 0


def _name(content: Mapping[str, Any]) -> str:
    return str(_object(content.get("metadata")).get("name", ""))


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
