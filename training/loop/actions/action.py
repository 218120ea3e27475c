"""The interface of an action, and the moment at which it is called."""

from __future__ import annotations

from dataclasses import dataclass

from training.loop.milestones import Milestones
from training.loop.step_runner import StepResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A boundary between two loops, or the step at which one was stopped.

    Attributes:
        step: Updates made by the run so far.
        milestones: The boundaries of the run.
        result: What this loop did.
    """

    step: int
    milestones: Milestones
    result: StepResult

    @property
    def is_last(self) -> bool:
        """Whether the run ends here."""
        return self.step == self.milestones.end

    def is_due(self, every: int) -> bool:
        """Return whether this is the first boundary at or after a multiple of `every`."""
        return self.milestones.is_due(self.step, every)


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
