"""Logging of the command line: one logger per package, human lines or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from typing import Literal, TextIO

from pipeline.local.messages import PACKAGES

LogFormat = Literal["human", "json"]
LOG_FORMATS: tuple[LogFormat, ...] = ("human", "json")


class _JsonFormatter(logging.Formatter):
    """One JSON object a line, with the field names that cloud log collectors expect."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `record` as JSON."""
        return json.dumps(
            {
                "severity": record.levelname,
                "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
                "logger": record.name,
                "message": record.getMessage(),
            },
            ensure_ascii=False,
        )


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Write to whatever `sys.stderr` is at that moment: progress bars and tests replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The present standard error."""
        return sys.stderr


def configure_logging(log_format: LogFormat = "human") -> None:
    """Send the messages of this project's packages to stderr; repeating it changes nothing.

    Args:
        log_format: `human` writes the bare message, `json` one object per line with `severity`,
            `time`, `logger` and `message`.
    """
    handler = _StderrHandler()
    handler.setFormatter(_JsonFormatter() if log_format == "json" else logging.Formatter())
    for name in PACKAGES:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
