"""How far a training pod is, from the lines it writes to its log."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.cluster.api.gateway import Gateway
from pipeline.cluster.status.observe import Attempt

LOG_LINES = 50
_LINE = re.compile(
    r"train: step (?P<step>\d+)/(?P<steps>\d+)\s.*?loss (?P<loss>\S+)\s"
    r"(?:.*?(?P<speed>[\d.]+) images/s)?(?:.*?ETA (?P<eta>[\d.]+) s)?"
)


@dataclass(frozen=True, slots=True)
class Progress:
    """What the chief said last."""

    step: int
    num_steps: int
    loss: float
    images_per_second: float
    eta_seconds: float


def parse(log: str) -> Progress | None:
    """The last progress line of a log."""
    for line in reversed(log.splitlines()):
        if found := _LINE.search(line):
            return Progress(
                int(found["step"]),
                int(found["steps"]),
                float(found["loss"]),
                float(found["speed"] or "nan"),
                float(found["eta"] or "nan"),
            )
    return None


def of(gateway: Gateway, attempt: Attempt) -> Progress | None:
    """The progress of an attempt's chief, if it has said something."""
    for pod in attempt.pods:
        if pod.index == 0:
            return parse(gateway.log_tail(pod.name, pod.container, LOG_LINES))
    return None
