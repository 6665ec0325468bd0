"""The shape of the configuration file, for pydantic and, as a JSON schema, for editors.

Internal to this package: what others get are the frozen values of ``settings``.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, SkipJsonSchema
from pydantic_core import core_schema

from agent.clusters.settings import Policy
from agent.config.fields import (
    Account,
    Domain,
    Duration,
    ExportTo,
    FileName,
    Glob,
    HostTemplate,
    LabelKey,
    LabelValue,
    Listen,
    Name,
    NameKey,
    Namespace,
    Port,
    Protocol,
    ServerUrl,
    Text,
)
from agent.config.part import Part, meant
from agent.config.registries import EVERYTHING, REGISTRIES, RegistryUnion, type_of
from state.limits import Limits

KINDS = ("kubeconfig", "server", "directory")
UNCLEAR = "unclear"  # a cluster of no kind or several: its other keys are still checked


class ClusterPart(Part):
    """What every cluster has, whatever its kind."""

    namespace: Namespace = Field(description="Where objects go if no rule says otherwise.")
    policy: Policy = Field(default="sync", description="upsert-only deletes nothing; paused writes nothing.")


class KubeconfigPart(ClusterPart):
    """A Kubernetes API server by kubeconfig."""

    kubeconfig: FileName = Field(description="The kubeconfig file.")
    context: Text | None = Field(default=None, description="The context to use; the current one if not given.")


class ServerPart(ClusterPart):
    """A Kubernetes API server by URL, CA and token."""

    server: ServerUrl = Field(description="The URL of the API server.")
    ca_file: FileName = Field(description="Certificates that the server's is verified with.")
    token_file: FileName = Field(description="The file that holds the bearer token.")


class DirectoryPart(ClusterPart):
    """A directory that holds resources as files."""

    directory: FileName = Field(description="The directory; one file for each host, in a folder for each namespace.")


class UnclearPart(ClusterPart):
    """A cluster whose kind cannot be told; the second pass says so."""

    kubeconfig: Any = None
    server: Any = None
    directory: Any = None
    context: Any = None
    ca_file: Any = None
    token_file: Any = None


CLUSTERS: Mapping[str, type[ClusterPart]] = {
    "kubeconfig": KubeconfigPart,
    "server": ServerPart,
    "directory": DirectoryPart,
    UNCLEAR: UnclearPart,
}


def kind_of(cluster: object) -> str:
    """Tell a cluster's kind by its keys, also by one that is misspelt."""
    if not isinstance(cluster, dict):
        return KINDS[0]  # any will do: each says that it must be a mapping
    kinds = [kind for kind in KINDS if kind in cluster] or sorted(
        {kind for kind in meant(cluster, UnclearPart).values() if kind in KINDS}
    )
    return kinds[0] if len(kinds) == 1 else UNCLEAR


ClusterUnion = Annotated[
    Annotated[KubeconfigPart, Tag("kubeconfig")]
    | Annotated[ServerPart, Tag("server")]
    | Annotated[DirectoryPart, Tag("directory")]
    | Annotated[SkipJsonSchema[UnclearPart], Tag(UNCLEAR)],
    Discriminator(kind_of),
]


class MatchPart(Part):
    """Which registrations a rule is for; all must match."""

    registry: Glob = Field(default=EVERYTHING, description="A glob of the registry's name.")
    service: Glob = Field(default=EVERYTHING, description="A glob of the service's name.")
    tag: Glob | None = Field(default=None, description="A glob that one of the tags must match.")
    metadata: dict[str, str] = Field(default={}, description="Globs of values, by key.")


class IdentityPart(Part):
    """An identity that a rule grants: the registry cannot."""

    service_account: Account = Field(description="The Kubernetes service account that the endpoints run as.")
    tls: Literal["istio", "disabled"] = Field(default="istio", description="Whether they take Istio's mutual TLS.")


class RulePart(Part):
    """One rule; later rules win field by field, labels merge, lists replace."""

    match: MatchPart = Field(default=MatchPart(), description="Which registrations it is for; all if not given.")
    host: HostTemplate | None = Field(default=None, description="A template with {service} and {domain}.")
    namespace: Namespace | None = Field(default=None, description="The namespace, instead of the cluster's.")
    labels: dict[LabelKey, LabelValue] = Field(default={}, description="Labels of the WorkloadEntries.")
    aliases: list[HostTemplate] | None = Field(default=None, description="Further hosts, as templates like host.")
    port: Port | None = Field(default=None, description="The host's port; instance takes the one that instances share.")
    protocol: Protocol | None = Field(default=None, description="The host's protocol; else Istio detects it.")
    clusters: list[str] | None = Field(
        default=None, min_length=1, description="The clusters that get it; all if not given."
    )
    secure: bool | None = Field(
        default=None, description="Whether to use the secure port of an instance of Eureka that has both."
    )
    export_to: list[ExportTo] | None = Field(
        default=None, min_length=1, description="The namespaces that see the host; all if not given."
    )
    identity: IdentityPart | None = Field(default=None, description="The identity of the endpoints; none if not given.")
    warning: Literal["include", "exclude"] | None = Field(
        default=None, description="Whether a warning check lets traffic pass."
    )
    skip: bool | None = Field(default=None, description="Whether to leave the registrations out.")


class ReceiverPart(Part):
    """Where calls of Consul's watch handlers are taken."""

    socket: FileName | None = Field(default=None, description="The socket that `isthmus-hook` delivers to.")
    http: Listen | None = Field(default=None, description="A loopback address and port for handlers of type http.")
    token_file: FileName | None = Field(default=None, description="The bearer tokens that http accepts, one a line.")


_NO_OTHER: dict[str, Any] = {"additionalProperties": False}
_DURATIONS = Annotated[list[Duration], Field(min_length=1)]
_LIMITS: dict[str, Any] = {
    field.name: (_DURATIONS if isinstance(field.default, tuple) else Duration, None) for field in fields(Limits)
}
LimitsPart = create_model("LimitsPart", __base__=Part, __doc__="Timing constants, rarely needed.", **_LIMITS)


class DocumentPart(Part):
    """The configuration of isthmus."""

    owner: Name = Field(description="Under which identity objects are written: one agent's, or its pair's.")
    state: FileName = Field(default="/var/lib/isthmus/state.db", description="The file that remembers.")
    domain: Domain = Field(default="mesh.internal", description="The domain of hosts that no rule names.")
    registries: dict[NameKey, RegistryUnion] = Field(
        min_length=1,
        description="Registries by name; their order decides whose fields win for one endpoint.",
        json_schema_extra=_NO_OTHER,
    )
    clusters: dict[NameKey, ClusterUnion] = Field(
        min_length=1, description="Clusters by name.", json_schema_extra=_NO_OTHER
    )
    rules: list[RulePart] = Field(default=[], description="Later ones win field by field; labels merge, lists replace.")
    control: FileName = Field(default="/run/isthmus/control.sock", description="The socket for accept and pause.")
    receiver: ReceiverPart | None = Field(
        default=None, description="Where watch handlers are heard; nowhere if not given."
    )
    status: Listen | None = Field(default=None, description="Where /metrics, /healthz and a page are served.")
    limits: LimitsPart = Field(default=LimitsPart(), description="Time limits, rarely needed.")  # type: ignore[valid-type]  # made above, from Limits


def part_at(place: tuple[str | int, ...], value: object) -> type[Part]:
    """Return the shape of the mapping at a place; ``value`` is what stands there.

    Raises LookupError for a place whose keys are free.
    """
    match place:
        case ():
            return DocumentPart
        case ("registries", _):
            return REGISTRIES[type_of(value)]
        case ("clusters", _):
            return CLUSTERS[kind_of(value)]
        case ("rules", _):
            return RulePart
        case ("rules", _, "match"):
            return MatchPart
        case ("rules", _, "identity"):
            return IdentityPart
        case ("receiver",):
            return ReceiverPart
        case ("limits",):
            return LimitsPart
    raise LookupError(place)


class _EditorSchema(GenerateJsonSchema):
    """Without null, which stands for a key that is not there, and without titles, which only repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if isinstance(schema.get("default"), Part | None):
            found.pop("default", None)
        return found


def schema() -> dict[str, Any]:
    """Return the JSON schema of the file, for editors."""
    found = DocumentPart.model_json_schema(schema_generator=_EditorSchema)
    for part in (found, *found["$defs"].values()):
        del part["title"]
    return {"$schema": GenerateJsonSchema.schema_dialect, "title": "isthmus", **found}
