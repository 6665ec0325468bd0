"""Every value of a host and of an endpoint, with where it came from."""

from collections.abc import Iterable, Mapping, Sequence

from agent.explaining.sights import ClusterSight, Value
from agent.explaining.voices import name_of
from agent.merge import Endpoint, Host, Registration, counting
from agent.rules import DEFAULT, DEFAULT_HOST, Ruling, takes_secure


def values_of_host(
    host: Host, registrations: Sequence[Registration], clusters: Iterable[ClusterSight]
) -> tuple[Value, ...]:
    """Return what a host is made of; its registrations are in the order of the registries."""
    rulings = [one.ruling for one in registrations if one.ruling.skip is None] or [one.ruling for one in registrations]
    found = [Value("host", host.key.host, _of_host(rulings))]
    if host.key.namespace:
        found.append(Value("namespace", host.key.namespace, _source(rulings, "namespace")))
    else:
        own = ", ".join(f"{cluster.name}: {cluster.namespace}" for cluster in clusters)
        found.append(Value("namespace", own, "each cluster's own"))
    if all(ruling.skip is not None for ruling in rulings):
        return tuple(found)
    found.append(Value("port", str(host.port.value), host.port.source))
    if host.protocol is None:
        found.append(Value("protocol", "none, so Istio detects it", DEFAULT))
    else:
        found.append(Value("protocol", str(host.protocol.value), host.protocol.source))
    if host.aliases:
        found.append(Value("aliases", ", ".join(host.aliases), _source(rulings, "aliases")))
    if host.export_to is None:
        found.append(Value("exportTo", "as the mesh has it", DEFAULT))
    else:
        found.append(Value("exportTo", ", ".join(host.export_to), _source(rulings, "export_to")))
    found.append(_clusters(host.clusters, _source(rulings, "clusters")))
    return tuple(found)


def values_of_endpoint(endpoint: Endpoint | None, group: Sequence[Registration]) -> tuple[Value, ...]:
    """Return what an endpoint is made of; ``endpoint`` is None while it carries no traffic."""
    listed = [one for one in group if one.ruling.skip is None]
    if not listed:
        return ()
    first = counting(listed)[0]
    instance, ruling = first.instance, first.ruling
    registration = name_of(first.registry, instance.key)
    secure = takes_secure(instance, ruling)
    found = [Value("address", instance.address or "none", registration)]
    port = instance.secure_port if secure else instance.port
    found.append(Value("port", str(port), _source([ruling], "secure") if secure else registration))
    if endpoint is None:
        return tuple(found)
    found.append(_registered("locality", endpoint.locality, registration))
    found.append(Value("weight", str(endpoint.weight), registration))
    found.append(_registered("version", endpoint.version, registration))
    found += [Value(f"label {key}", value, _source([ruling], f"labels.{key}")) for key, value in endpoint.labels]
    if endpoint.identity is None:
        found.append(Value("identity", "none, TLS is disabled", DEFAULT))
    else:
        account = f"service account {endpoint.identity.service_account}, TLS {endpoint.identity.tls}"
        found.append(Value("identity", account, _source([ruling], "identity")))
    found.append(_clusters(endpoint.clusters, _source([ruling], "clusters")))
    return tuple(found)


def _registered(name: str, value: str, registration: str) -> Value:
    return Value(name, value or "none", registration if value else DEFAULT)


def _of_host(rulings: Sequence[Ruling]) -> str:
    source = rulings[0].host.source if rulings else DEFAULT
    return f"the template {DEFAULT_HOST}" if source == DEFAULT else source


def _clusters(clusters: tuple[str, ...] | None, source: str) -> Value:
    return Value("clusters", "all" if clusters is None else ", ".join(clusters) or "none", source)


def _source(rulings: Iterable[Ruling], field: str) -> str:
    """Return which rules say a field, once each."""
    found: Mapping[str, None] = dict.fromkeys(
        source for ruling in rulings for name, source in ruling.sources if name == field
    )
    return ", ".join(found) or DEFAULT
