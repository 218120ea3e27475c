"""The interface of an action, and the moment at which it is called."""

from __future__ import annotations

from dataclasses import dataclass

from training.loop.step_runner import StepResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A boundary between two loops.

    Attributes:
        step: Updates made by the run so far.
        num_steps: Updates that this loop was to make.
        is_last: Whether the run ends here.
        result: What this loop did.
    """

    step: int
    num_steps: int
    is_last: bool
    result: StepResult

    def is_due(self, every: int) -> bool:
        """Return whether a multiple of `every` lies in this loop's steps."""
        return self.step // every > (self.step - self.num_steps) // every


class Action:
    """Something that a run does between calls of the inner loop; by default nothing.

    Every worker runs the same actions in the same order, so that an action may use collectives.
    """

    def start(self) -> None:
        """Act before the first step."""

    def after_call(self, num_steps: int, loss: float) -> None:
        """Act after each call of the inner loop, of which a loop has many."""

    def after_loop(self, moment: Moment) -> None:
        """Act at a boundary between two loops."""

    def finish(self) -> None:
        """Act after the last loop; in the reverse order of the actions."""

    def close(self) -> None:
        """Release what is open, also after a failure."""
