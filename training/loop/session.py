"""The session of one worker: the run, its state, its data and the other workers."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from training.input.source import Source
from training.loop.milestones import Milestones
from training.loop.statistics import Statistics
from training.loop.train_job import TrainJob
from training.monitoring.tensorboard import TensorBoard
from training.optimization.state import TrainingState
from training.workdir.run_record import Run
from training.workers.collectives import Collectives
from training.workers.watchdog import Watchdog


@dataclass(frozen=True, kw_only=True)
class Session:
    """Everything that the loop and its actions share.

    Attributes:
        job: The part of the run that this worker was given.
        run: The run, as in `config.json`.
        strategy: How replicas work together.
        state: Model, optimizer and averages.
        source: Training and validation images.
        board: Pages of TensorBoard.
        watchdog: Bounds the time of every part and hears requests to stop.
        collectives: Exchange with the other workers.
        statistics: BN statistics, which differ between replicas.
    """

    job: TrainJob
    run: Run
    strategy: tf.distribute.Strategy
    state: TrainingState
    source: Source
    board: TensorBoard
    watchdog: Watchdog
    collectives: Collectives
    statistics: Statistics

    @classmethod
    def create(
        cls,
        job: TrainJob,
        *,
        run: Run,
        strategy: tf.distribute.Strategy,
        state: TrainingState,
        source: Source,
        board: TensorBoard,
        watchdog: Watchdog,
    ) -> Session:
        """Return the session of a state that is ready to be trained."""
        policy = job.config.training.bn_statistics
        return cls(
            job=job,
            run=run,
            strategy=strategy,
            state=state,
            source=source,
            board=board,
            watchdog=watchdog,
            collectives=Collectives(strategy),
            statistics=Statistics(strategy, state, policy),
        )

    @property
    def milestones(self) -> Milestones:
        """The steps at which the actions look."""
        return Milestones(self.run.num_steps, self.job.config.loop.steps_per_loop)

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes checkpoints, events and progress."""
        return self.job.cluster.is_chief

    def expect(self, activity: str) -> None:
        """Bound the time of what comes next; `activity` names it if it takes too long."""
        self.watchdog.expect(activity, self.job.config.loop.step_timeout_seconds)
