"""Turns: a run whose turn failed waits for its next one, longer each time."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 10.0, 300.0


class Turns:
    """When each run has its next turn."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Give every run a turn.

        Args:
            clock: Function that returns the time in seconds.
        """
        self._clock = clock
        self._failures: dict[str, int] = {}  # in a row
        self._not_before: dict[str, float] = {}
        self._reasons: dict[str, str] = {}

    def has(self, run: str) -> bool:
        """Return whether a run has its turn now."""
        return self._clock() >= self._not_before.get(run, 0.0)

    def set_back(self, run: str, reason: str) -> bool:
        """Let a run wait, because its turn failed.

        Returns:
            Whether the reason is another than last time.
        """
        failures = self._failures[run] = self._failures.get(run, 0) + 1
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 10))
        self._not_before[run] = self._clock() + longest
        is_new = self._reasons.get(run) != reason
        self._reasons[run] = reason
        return is_new

    def succeeded(self, run: str) -> None:
        """Forget the failures of a run."""
        for kept in (self._failures, self._not_before, self._reasons):
            kept.pop(run, None)
