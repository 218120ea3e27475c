"""Checks after each loop, which stop a run before it saves anything."""

from __future__ import annotations

import math

from preprocessing.errors import NonFiniteLossError
from training.input.records import Records
from training.loop.actions.action import Action, Moment
from training.workdir.checkpoint import Checkpoints


class RefuseCorruptRecords(Action):
    """Ends a run that had to replace more corrupt records than it may."""

    def __init__(self, files: Records) -> None:
        self._files = files

    def after_loop(self, moment: Moment) -> None:
        """Check the count.

        Raises:
            DataError: More records were replaced than the config allows; names them.
        """
        self._files.raise_if_too_many_corrupt()


class RefuseFailedWrites(Action):
    """Ends a run whose last checkpoint could not be written."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints

    def after_loop(self, moment: Moment) -> None:
        """Raise the failure of the last write, if there was one."""
        self._checkpoints.check()


class RefuseNonFiniteLoss(Action):
    """Ends a run whose loss is NaN or infinite."""

    def after_loop(self, moment: Moment) -> None:
        """Check the loss.

        Raises:
            NonFiniteLossError: The loss is not finite; names the steps.
        """
        means = moment.result.means
        if not math.isfinite(means.total_loss):
            raise NonFiniteLossError(
                f"the loss became {means.loss} (L2 {means.regularization}) between steps "
                f"{moment.step - moment.result.steps} and {moment.step}; lower "
                "optimizer.learning_rate_per_replica, or look at the images of those steps"
            )
