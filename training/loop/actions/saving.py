"""Checkpoints during a run, and the orderly end of one that was asked to stop."""

from __future__ import annotations

import numpy as np

from training.loop.actions.action import Action, Moment
from training.loop.actions.evaluation import Evaluate
from training.loop.session import Session
from training.workdir.checkpoint import Checkpoints
from training.workers.collectives import leave_after_the_others
from training.workers.watchdog import StoppedError


class Save(Action):
    """Saves at the end, after each evaluation and every `loop.checkpoint_every_steps`."""

    def __init__(self, session: Session, checkpoints: Checkpoints, evaluate: Evaluate) -> None:
        self._session = session
        self._checkpoints = checkpoints
        self._evaluate = evaluate
        self._every = session.job.config.loop.checkpoint_every_steps

    def after_loop(self, moment: Moment) -> None:
        """Save if it is time."""
        if self._is_due(moment):
            self._save(moment.step)

    def save_stopped(self, moment: Moment) -> None:
        """Save now so that the run which continues is the one that was never stopped."""
        statistics = self._session.statistics
        self._save(moment.step, None if self._is_due(moment) else statistics.by_replica())

    def _is_due(self, moment: Moment) -> bool:
        return self._evaluate.is_due(moment) or moment.is_due(self._every)

    def _save(self, step: int, by_replica: np.ndarray | None = None) -> None:
        """Save; the chief writes while training goes on."""
        self._session.expect(f"saving step {step}")
        self._session.statistics.synchronize()
        if self._session.is_chief:
            self._checkpoints.save(step, by_replica)

    def finish(self) -> None:
        """Wait until the last checkpoint is on disk, on every worker."""
        self._session.expect("finishing the last checkpoint")
        self._checkpoints.wait()
        # A barrier: nobody leaves before the chief has saved.
        self._session.collectives.means([0.0])
        leave_after_the_others(self._session.job.cluster)


class StopOnRequest(Action):
    """Ends a run in order when any worker was asked to stop: every worker is at the same step."""

    def __init__(self, save: Save) -> None:
        self._save = save

    def after_loop(self, moment: Moment) -> None:
        """Save and end if a stop was requested.

        Raises:
            StoppedError: A stop was requested; the checkpoint of this step is saved.
        """
        if moment.result.stopped:
            self._save.save_stopped(moment)
            self._save.finish()
            raise StoppedError(
                f"terminated; the checkpoint of step {moment.step} is saved, run the same command "
                "to continue"
            )
