"""Single requests to the servers of one Eureka cluster, by the agent's own transport."""

import asyncio
from types import TracebackType
from typing import Self

from urllib3.util import make_headers

from hooks.eureka.bounded import Ask, BoundedClient, Reply
from hooks.eureka.settings import EurekaSettings
from hooks.secret import read_password
from state.limits import Limits

JSON = "application/json"
# A new connection each time: a balancer in front of several servers shows itself.
HEADERS = {"Accept-Encoding": "gzip", "User-Agent": "isthmus", "Connection": "close"}


class Asking:
    """Asks the servers of one cluster as the agent does, and returns whatever they answer; for one thread."""

    def __init__(self, settings: EurekaSettings, limits: Limits) -> None:
        """RegistryError when a file for TLS cannot be used."""
        self._settings = settings
        self._password = ""
        self._client = BoundedClient(settings, limits)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def get(self, url: str, accept: str = JSON) -> Reply:
        """Return an answer, whatever it is; RegistryError when none came, or the password cannot be read."""
        headers = {**HEADERS, "Accept": accept}
        if self._settings.username:
            self._password = read_password(self._settings.password_file)
            headers |= make_headers(basic_auth=f"{self._settings.username}:{self._password}")
        return self._runner.run(self._client.urlopen(Ask(url, headers)))

    def without_secrets(self, text: str) -> str:
        """Return a text that a server sent, without the password."""
        return text.replace(self._password, "***") if self._password else text
