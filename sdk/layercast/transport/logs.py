"""Log lines with named fields: text for people, or one JSON object per line for machines.

The loggers are below "layercast"; without `configure` they follow what the program does with `logging`, and
are silent if it does nothing.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any, TextIO

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")

logging.getLogger("layercast").addHandler(logging.NullHandler())


def event(logger: logging.Logger, level: int, name: str, **fields: Any) -> None:
    """Log that `name` happened; empty fields are left out."""
    if logger.isEnabledFor(level):
        logger.log(
            level, name, extra={"fields": {key: value for key, value in fields.items() if value != ""}}
        )


class Formatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z info call began stream=cam1 ...`, or the same as a JSON object.

    Args:
        form: one of FORMATS.
    """

    def __init__(self, form: str) -> None:
        super().__init__()
        self._json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        level, message = record.levelname.lower(), record.getMessage()
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if self._json:
            return json.dumps({"time": stamp, "level": level, "event": message, **fields}, default=str)
        pairs = (f"{key}={json.dumps(value, default=str)}" for key, value in fields.items())
        return " ".join([stamp, level, message.replace("\n", " "), *pairs])


def configure(form: str, level: str, stream: TextIO | None = None) -> None:
    """Write the lines of all of layercast's loggers to `stream`; a second call replaces the first.

    Args:
        form: one of FORMATS.
        level: the least of LEVELS that is written.
        stream: stderr by default.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Formatter(form))
    logger = logging.getLogger("layercast")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
