"""Log lines on standard error: text for people, JSON for programs."""

import json
import logging
import sys
from datetime import UTC, datetime

from agent.cli.options import Options
from agent.words import plain

NOISY = ("urllib3", "waitress", "httpx", "httpcore", "kubernetes")
WORRIED = ("apscheduler", "waitress.queue")  # warn of a job that is late, of two requests at the same time
LANE = "agent.lane"  # tells of every write


class Lines(logging.Handler):
    """Writes to whatever standard error is now, so that a progress bar can stay below the lines.

    While ``crowded``, lines about single writes are left out.
    """

    crowded = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        if self.crowded and record.name == LANE and record.levelno <= logging.INFO:
            return
        try:
            print(self.format(record), file=sys.stderr, flush=True)  # noqa: T201 - this is the log
        except (OSError, ValueError):
            self.handleError(record)


class Text(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO message``, on one line but for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one record as text."""
        line = f"{_time(record)} {record.levelname} {plain(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class Json(logging.Formatter):
    """One JSON object a line: time, level, logger, message and, if there is one, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one record as JSON."""
        content = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content)


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def set_up_logging(options: Options, level: str = "error") -> Lines:
    """Log what the options say, or from ``level`` on; return the one handler."""
    handler = Lines()
    handler.setFormatter(Json() if options.log_format == "json" else Text())
    logging.basicConfig(level=(options.log_level or level).upper(), handlers=[handler], force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in WORRIED:
        logging.getLogger(name).setLevel(logging.ERROR)
    return handler
