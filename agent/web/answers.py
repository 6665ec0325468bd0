"""What the servers' answers have in common: JSON, errors included, in the order in which they were made."""

from typing import Any

from flask import Flask
from werkzeug.exceptions import HTTPException

from state.errors import IsthmusError, ReloadingError, StateError

Answer = tuple[dict[str, Any], int] | dict[str, Any]


class RefusedError(IsthmusError):
    """A request that cannot be carried out; ``code`` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def new_app(name: str) -> Flask:
    """Return an application without routes that answers every error as ``{"error": SENTENCE}``."""
    app = Flask(name, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    app.register_error_handler(HTTPException, _refuse)
    app.register_error_handler(IsthmusError, _explain)
    return app


def _refuse(error: HTTPException) -> Answer:
    return {"error": error.description or error.name}, error.code or 500


def _explain(error: IsthmusError) -> Answer:
    if isinstance(error, RefusedError):
        return {"error": str(error)}, error.code
    if isinstance(error, ReloadingError):
        return {"error": str(error)}, 503
    return {"error": str(error)}, 500 if isinstance(error, StateError) else 502
