"""The progress of a training pod, from the lines of its log."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.status.observe import Attempt

LOG_LINES = 50
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?(?:e[+-]?\d{1,2})?"
_LINE = re.compile(
    r"train: step (?P<step>\d{1,15})/(?P<steps>\d{1,15})\s"
    rf".*?loss (?P<loss>-?{_NUMBER}|-?inf|nan)\s"
    rf"(?:.*?(?P<speed>{_NUMBER}) images/s)?(?:.*?ETA (?P<eta>{_NUMBER}) s)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Progress:
    """The last progress that the chief logged; nan stands for what it did not log."""

    step: int
    num_steps: int
    loss: float
    images_per_second: float
    eta_seconds: float


def parse(log: str) -> Progress | None:
    """Return the last progress in a log; None without one."""
    for line in reversed(log.splitlines()):
        if match := _LINE.search(line):
            return Progress(
                int(match["step"]),
                int(match["steps"]),
                float(match["loss"]),
                float(match["speed"] or "nan"),
                float(match["eta"] or "nan"),
            )
    return None


def of(gateway: Gateway, attempt: Attempt) -> Progress | None:
    """Return the progress of an attempt's chief; None before its first progress line."""
    for pod in attempt.pods:
        if pod.index == 0:
            return parse(gateway.log_tail(pod.name, pod.container, LOG_LINES))
    return None
