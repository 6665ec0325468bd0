"""The question that a parked query asks, and what of the answer may be believed.

``near`` keeps Consul from answering out of its streaming backend, which can be older
than an earlier read and never knows a leader; a filter that matches nothing makes
the answer two bytes. Both leave the index what it is. ``leader`` asks for the default
mode, whatever ``discovery_max_stale`` allows the agent. As the filter comes before
ACLs, an answer does not say whether the token may see what there is (1.19.2): an
index tells that nothing has changed, and no more.
https://developer.hashicorp.com/consul/api-docs/health#list-service-instances-for-service
"""

import re
from base64 import b64encode
from urllib.parse import quote, unquote_to_bytes, urlencode, urlsplit

from hooks.consul.answers import OK, Head
from hooks.consul.client import HEALTH, STALEST
from hooks.consul.settings import ConsulSettings

FILTER = 'Service.ID == ""'

_INDEX = re.compile(r"-?[0-9]{1,20}")


class UnfitError(Exception):
    """An answer that may not be believed."""


class Question:
    """Makes the requests that ask for the index of a service."""

    def __init__(self, settings: ConsulSettings) -> None:
        url = urlsplit(settings.url)
        fixed = {"near": "_agent", "filter": FILTER, "leader": ""}
        if settings.datacenter:
            fixed["dc"] = settings.datacenter
        self._path = f"{url.path.rstrip('/')}{HEALTH}"
        self._fixed = urlencode(fixed)
        headers = [f"Host: {url.netloc.rpartition('@')[2]}", "User-Agent: isthmus", "Accept-Encoding: identity"]
        if url.username is not None:
            login = unquote_to_bytes(f"{url.username}:{url.password or ''}")
            headers.append(f"Authorization: Basic {b64encode(login).decode()}")
        self._headers = "".join(f"{header}\r\n" for header in headers)

    def request(self, service: str, token: str, index: int = 0, wait: float = 0.0) -> bytes:
        """Ask for the index as it is, or as soon as it is not ``index`` any more or ``wait`` seconds are over."""
        blocking = f"&index={index}&wait={max(1, round(wait * 1000))}ms" if index else ""
        secret = f"X-Consul-Token: {token}\r\n" if token else ""
        target = f"{self._path}{quote(service, safe='/:')}?{self._fixed}{blocking}"
        return f"GET {target} HTTP/1.1\r\n{self._headers}{secret}\r\n".encode("ascii")


def index_of(head: Head) -> int:
    """Return the index of an answer that may be believed; raises UnfitError."""
    if head.code != OK:
        raise UnfitError(f"answered {head.code}")
    if head.headers.get("x-consul-knownleader", "").lower() == "false":
        raise UnfitError("answered without a leader")
    stale = head.headers.get("x-consul-lastcontact", "")
    if _INDEX.fullmatch(stale) and int(stale) > STALEST:
        raise UnfitError(f"answered by a server that heard from its leader {stale} ms ago")
    if head.headers.get("x-consul-results-filtered-by-acls", "").lower() == "true":
        raise UnfitError("the token may not see all of it")
    text = head.headers.get("x-consul-index", "")
    if not _INDEX.fullmatch(text):
        raise UnfitError("answered without an X-Consul-Index that is a number")
    return max(1, int(text))
