"""The steps at which the host looks: the same ones, whether a run is stopped in between or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Milestones:
    """The multiples of `steps_per_loop` up to `end`, and `end`."""

    end: int
    steps_per_loop: int

    def after(self, step: int) -> Iterator[int]:
        """Yield the milestones after `step`."""
        while step < self.end:
            step = min(self.end, (step // self.steps_per_loop + 1) * self.steps_per_loop)
            yield step

    def is_due(self, step: int, every: int) -> bool:
        """Return whether `step` is the first milestone at or after a multiple of `every`."""
        if not step or (step % self.steps_per_loop and step != self.end):
            return False
        before = (step - 1) // self.steps_per_loop * self.steps_per_loop
        return step // every > before // every
