"""What it means that a server's answer is no list of applications, and what mends that. Pure."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from hooks.eureka.settings import EurekaSettings

CUT = 200  # characters of an answer that is shown
SPRING = "in Spring: a SecurityFilterChain with httpBasic() for /eureka/**"


class Answer(Protocol):
    """An answer as it came; header names have no case."""

    code: int
    headers: Mapping[str, str]
    content: bytes


class Refusal(NamedTuple):
    """What was seen, and what mends it."""

    seen: str
    remedy: str


def shown(answer: Answer) -> str:
    """Return the beginning of an answer, on one line."""
    return " ".join(answer.content[: 10 * CUT].decode("utf-8", "replace").split())[:CUT] or "an empty body"


def refusal(settings: EurekaSettings, url: str, key: str, answer: Answer) -> Refusal | None:
    """Return why an answer is no JSON of Eureka's; None when it may be. ``key`` is where ``url`` is configured."""
    code = answer.code
    if code == 200:
        return _no_json(url, key, answer)
    if code == 400 and b"TLS" in answer.content:
        return Refusal(f"what answers at {url} speaks https", f"write https:// in {key}")
    if code == 401:
        return _unauthorised(settings, url)
    if code in (301, 302, 303, 307, 308):
        return _elsewhere(url, key, answer)
    if code == 403:
        return _forbidden(settings, url, answer)
    if code == 404:
        remedy = (
            f"name the path, too, under which Eureka answers in {key}: /eureka in Spring, /eureka/v2 in Netflix' own"
        )
        return Refusal(f"what answers at {url} is not Eureka: 404, {shown(answer)}", remedy)
    if code in (429, 503):
        remedy = "see whether it is overloaded, or limits how often it may be asked: eureka.server.rate-limiter-enabled"
        return Refusal(f"{url} answers {code}, {shown(answer)}", remedy)
    return Refusal(f"{url} answers {code}, {shown(answer)}", "see what Eureka logs of it")


def _no_json(url: str, key: str, answer: Answer) -> Refusal | None:
    start = answer.content[:CUT].lstrip()
    if b"<applications" in start:
        seen = f"{url} answers in XML, although JSON was asked for"
        remedy = "see what stands between here and there, or which codecs that server has: isthmus reads JSON only"
        return Refusal(seen, remedy)
    if start.startswith(b"<"):
        seen = f"what answers at {url} is a page for people: 200, {shown(answer)}"
        return Refusal(seen, f"name the path, too, under which Eureka answers in {key}, such as /eureka")
    if not start.startswith(b"{"):
        return Refusal(f"what answers at {url} is not Eureka: 200, {shown(answer)}", f"mend {key}")
    return None


def _unauthorised(settings: EurekaSettings, url: str) -> Refusal:
    name = f"registries.{settings.name}"
    if not settings.username:
        remedy = f"name its user as {name}.username, and a file that holds the password as {name}.password_file"
        return Refusal(f"{url} wants a user and a password", remedy)
    seen = f"{url} does not take the user {settings.username} with the password in {settings.password_file}"
    return Refusal(seen, f"write the right password into {settings.password_file}, or mend {name}.username")


def _elsewhere(url: str, key: str, answer: Answer) -> Refusal:
    where = urlsplit(answer.headers.get("location", ""))
    target = where._replace(query="", fragment="").geturl()
    seen = f"{url} sends us to {target or 'nowhere'}, which is not followed"
    if "login" in where.path:
        return Refusal(seen, f"let it take basic authentication rather than a form's: {SPRING}")
    return Refusal(seen, f"name the server's own address in {key}")


def _forbidden(settings: EurekaSettings, url: str, answer: Answer) -> Refusal:
    who = f"the user {settings.username}" if settings.username else "everybody"
    return Refusal(
        f"{url} answers 403, {shown(answer)}: it is not ready yet, or forbids {who} to read",
        "a server that found no peer to copy from opens after eureka.server.wait-time-in-ms-when-sync-empty: wait, and "
        "check again; else let that user read /eureka/**",
    )
