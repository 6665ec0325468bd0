"""Names of what isthmus writes: functions of the host and the endpoint alone.

Never of what else exists, so one endpoint has one name in every cluster, after
every restart and from every agent. 8 hex digits of a SHA-256 keep apart what a
readable name alone would not.
"""

import re
from functools import lru_cache
from hashlib import sha256

LABEL_LENGTH = 63  # of a DNS label, and of the value of a Kubernetes label
NAME_LENGTH = 253  # of a host, and of the name of an object
HEX_LENGTH = 8

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
_UNFIT = re.compile(r"[^-a-z0-9]+")
_KUBERNETES_ZONES = (".cluster.local", ".clusterset.local")


def is_dns_label(text: str) -> bool:
    """Tell whether a text is a lower-case DNS label (RFC 1123)."""
    return _LABEL.fullmatch(text) is not None


@lru_cache(maxsize=16384)
def service_label(service: str) -> str:
    """Return the DNS label of a service as it was registered.

    Upper and lower case are one service. Names of which anything else must change
    stay apart by 8 hex digits; what only looks like ASCII counts as changed.
    """
    lower = service.lower()
    if service.isascii() and is_dns_label(lower):
        return lower
    readable = _UNFIT.sub("-", lower).strip("-")[: LABEL_LENGTH - 1 - HEX_LENGTH].rstrip("-")
    return f"{readable}-{_hex(lower)}" if readable else _hex(lower)


def fill(template: str, service: str, domain: str) -> str:
    """Return the host that a template with ``{service}`` and ``{domain}`` gives for a service."""
    return template.replace("{service}", service_label(service)).replace("{domain}", domain)


def workload_entry_name(host: str, address: str, port: int) -> str:
    """Return the name of the WorkloadEntry of an endpoint, such as ``orders-10.1.2.3-8443-3f9a7c21``."""
    label = host.partition(".")[0]
    return f"{label}-{address.replace(':', '-')}-{port}-{_hex(f'{host}|{address}|{port}')}"


@lru_cache(maxsize=16384)
def host_label(host: str) -> str:
    """Return the host as the value of a label: cut, with 8 hex digits, where it is longer than 63."""
    if len(host) <= LABEL_LENGTH:
        return host
    return f"{host[: LABEL_LENGTH - 1 - HEX_LENGTH]}-{_hex(host)}"


@lru_cache(maxsize=16384)
def host_problem(host: str) -> str:
    """Tell why a text cannot be the host of a ServiceEntry, or return "" if it can.

    Stricter than Istio, which takes wildcards and any case: the host is the name
    of the object too. Where a Kubernetes Service has the host, it wins and ours is
    ignored: https://istio.io/latest/docs/reference/config/networking/service-entry/
    """
    if len(host) > NAME_LENGTH:
        return f"{len(host)} characters are more than {NAME_LENGTH}"
    labels = host.split(".")
    for label in labels:
        if not is_dns_label(label):
            return f"{label!r} is no lower-case DNS label of 1 to {LABEL_LENGTH} letters, digits and inner hyphens"
    if labels[-1].isdigit():
        return f"its last label, {labels[-1]!r}, is a number"
    if labels[-1] == "svc" or "svc" in labels[2:] or host.endswith(_KUBERNETES_ZONES):
        return "names of this form belong to Kubernetes Services"
    return ""


def _hex(text: str) -> str:
    # A registry's JSON can hold lone surrogates, which plain UTF-8 refuses.
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:HEX_LENGTH]
