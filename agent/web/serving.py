"""A server that an agent can do without: what its control socket and its status page have in common."""

import logging
import socket
from collections.abc import Callable

from flask import Flask

from hooks.server import WebServer

logger = logging.getLogger(__name__)


class OptionalServer:
    """Serves an application in threads of its own; an agent without it is better than none."""

    def __init__(
        self, name: str, app: Flask, bind: Callable[[], socket.socket], *, largest_body: int, where: str, loss: str
    ) -> None:
        """``bind`` gives the socket or raises OSError; the log then tells ``where`` that was, why, and the ``loss``."""
        self._name = name
        self._app = app
        self._bind = bind
        self._largest_body = largest_body
        self._where = where
        self._loss = loss
        self._server: WebServer | None = None

    def start(self) -> bool:
        """Listen, and tell whether that can be done; why not is logged."""
        try:
            listening = self._bind()
        except OSError as error:
            logger.error("%s: %s; %s", self._where, error.strerror or str(error), self._loss)
            return False
        self._server = WebServer(self._name, self._app, listening, largest_body=self._largest_body)
        self._server.start()
        return True

    def stop(self) -> None:
        """Close the socket and every connection, and remove a socket's file if it is still ours."""
        if self._server is not None:
            self._server.stop()
            self._server = None
