"""The division of a certificate's time between its parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

# Minutes of a certificate of 15 minutes, in the order of the parts. The golden figures and the
# first step take the time that they take; what they leave or exceed is divided between the rest.
PARTS: dict[str, float] = {"golden": 2, "first_step": 3, "speed": 6, "precision": 4}


class Budget:
    """A bound of the time, of which every part gets its share when it starts.

    Args:
        seconds: The time of all parts together, from now.
        weights: The parts in their order, and how the time is divided.
        clock: The time in seconds.
    """

    def __init__(
        self,
        seconds: float,
        weights: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._weights = dict(weights)
        self._clock = clock
        self._end = clock() + seconds

    def share_seconds(self, part: str) -> float:
        """Return how long `part` may take from now: its share of the time that is left."""
        parts = list(self._weights)
        to_come = parts[parts.index(part) :]
        left = max(0.0, self._end - self._clock())
        return left * self._weights[part] / sum(self._weights[name] for name in to_come)
