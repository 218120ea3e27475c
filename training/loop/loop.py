"""The outer loop: call the inner loop, then let the actions look; resume where the run stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import tensorflow as tf

from preprocessing.errors import UsageError
from training.input.records import DAMAGE
from training.input.source import Source
from training.loop.actions.action import Action, Moment
from training.loop.actions.checks import (
    RefuseCorruptRecords,
    RefuseFailedWrites,
    RefuseNonFiniteLoss,
)
from training.loop.actions.evaluation import Evaluate
from training.loop.actions.reporting import Report, ShowWeights
from training.loop.actions.saving import Save, StopOnRequest
from training.loop.session import Session
from training.loop.step import Element, TrainSteps
from training.loop.step_runner import StepResult, StepRunner
from training.loop.stream import TrainingStream
from training.loop.train_job import TrainJob
from training.monitoring.progress_report import Reporter
from training.monitoring.summaries import Summaries
from training.monitoring.tensorboard import TensorBoard
from training.optimization.class_weights import class_weights
from training.optimization.state import TrainingState
from training.weights.at_hand import at_hand
from training.weights.content_digest import checkpoint_digest
from training.weights.initial import start_from
from training.weights.run_weights import go_on_from
from training.workdir.checkpoint import Checkpoints, named_variables
from training.workdir.forks import fork_of
from training.workdir.progress import Progress
from training.workdir.run_record import Run
from training.workers.collectives import Averages, take_from_first, without_broadcasts
from training.workers.failures import explain
from training.workers.watchdog import Watchdog


def train(
    job: TrainJob,
    strategy: tf.distribute.Strategy,
    *,
    watchdog: Watchdog | None = None,
    actions: Sequence[Action] = (),
) -> Progress:
    """Train to the end of `job.config`, from the newest checkpoint if there is one.

    Every worker calls this with the same arguments.

    Args:
        job: What to train and where.
        strategy: How replicas work together.
        watchdog: Bounds the time of every step and hears requests to stop.
        actions: More actions, which come after those of every run.

    Returns:
        The last progress.

    Raises:
        UsageError: The workdir holds another run.
        NonFiniteLossError: The loss is NaN or infinite; names the steps.
        StoppedError: The watchdog was asked to stop; the checkpoint of that step is saved.
    """
    watchdog = watchdog or Watchdog()
    watchdog.expect("starting up", job.config.loop.startup_timeout_seconds)
    source = Source.open(job.records, job.config, job.data_service)
    run = _run_of(job, source, strategy.num_replicas_in_sync)
    if job.cluster.is_chief:
        job.workdir.claim(run)
    state, checkpoints = _newest_state(job, run, strategy)
    summaries = Summaries(job.workdir.tensorboard_folder, job.cluster.is_chief)
    board = TensorBoard(summaries, run, source.manifest, state, profile_steps=job.profile_steps)
    session = Session.create(
        job,
        run=run,
        strategy=strategy,
        state=state,
        source=source,
        board=board,
        watchdog=watchdog,
    )
    session.statistics.restore(checkpoints.by_replica, job.workdir.checkpoints_folder)
    evaluate = Evaluate(session)
    report = Report(session, Reporter(run, job.workdir, job.cluster, state.step), evaluate)
    standard = _standard_actions(session, checkpoints, evaluate, report)
    loop = _Loop(session, [*standard, *actions])
    watchdog.keep(loop)
    try:
        loop.run()
    finally:
        loop.close()
    return report.progress


def _run_of(job: TrainJob, source: Source, num_replicas: int) -> Run:
    """Return the run that `job` describes, on these records."""
    initial = None
    if job.initial_checkpoint:
        with at_hand(job.initial_checkpoint) as checkpoint:
            initial = checkpoint_digest(checkpoint)
    fork = None
    if job.fork:
        fork = fork_of(job.fork, job.workdir, job.config, source.manifest)
    run = Run.create(job.config, source.manifest, num_replicas, initial, fork)
    if fork and fork.step >= run.num_steps:
        raise UsageError(
            f"--fork {fork.workdir} is at step {fork.step}, and this run ends at step "
            f"{run.num_steps}; make it longer with --epochs or training.total_images"
        )
    return run


def _newest_state(
    job: TrainJob, run: Run, strategy: tf.distribute.Strategy
) -> tuple[TrainingState, Checkpoints]:
    """Return the state of the newest checkpoint, or that at the start of the run."""
    with strategy.scope(), without_broadcasts(strategy):
        state = TrainingState.of(run)
    checkpoints = Checkpoints(job.workdir, state, job.config.loop.checkpoints_to_keep)
    if checkpoints.restore(verbose=job.cluster.is_chief) is None:
        if run.fork:
            with strategy.scope():
                go_on_from(state, run.fork)
        elif job.initial_checkpoint:
            with strategy.scope(), at_hand(job.initial_checkpoint) as checkpoint:
                start_from(checkpoint, state)
        if job.cluster.has_peers:  # the replicas of one process have the same values anyway
            take_from_first(strategy, list(named_variables(state).values()))
    return state, checkpoints


def _standard_actions(
    session: Session, checkpoints: Checkpoints, evaluate: Evaluate, report: Report
) -> list[Action]:
    """Return the actions of every run, in their order."""
    save = Save(session, checkpoints, evaluate)
    files = session.source.files
    return [
        *([RefuseCorruptRecords(files)] if files else []),
        RefuseFailedWrites(checkpoints),
        RefuseNonFiniteLoss(),
        StopOnRequest(save),
        evaluate,
        save,
        ShowWeights(session),
        report,
    ]


class _Loop:
    """Loops of `loop.steps_per_loop` steps, after each of which every action is called."""

    def __init__(self, session: Session, actions: Sequence[Action]) -> None:
        self._session = session
        self._actions = actions
        self._runner = StepRunner(
            TrainSteps(
                session.strategy,
                session.state,
                session.job.config,
                class_weights(session.job.config, session.source.manifest),
            ),
            session.collectives,
            session.watchdog,
            session.job.config.loop,
            on_call=self._after_call,
        )

    def run(self) -> None:
        """Train from the present state to the end."""
        session = self._session
        start = session.state.step
        require_same_start(session.collectives, session.job, start)
        stream = TrainingStream(session.job, session.source, start)
        iterator = stream.iterator(session.strategy)
        session.watchdog.keep(iterator)
        for action in self._actions:
            action.start()
        step = start
        for target in session.milestones.after(start):
            result = self._run_steps(stream, iterator, step, target - step)
            step += result.steps
            moment = Moment(step=step, milestones=session.milestones, result=result)
            for action in self._actions:
                action.after_loop(moment)
            session.expect("between two loops")
        for action in reversed(self._actions):
            action.finish()

    def close(self) -> None:
        """Close every action."""
        for action in self._actions:
            action.close()

    def _run_steps(
        self,
        stream: TrainingStream,
        iterator: Iterator[Element],
        step: int,
        num_steps: int,
    ) -> StepResult:
        """Make `num_steps` updates after `step`; an error is told with its steps."""
        try:
            return self._runner.run(iterator, num_steps)
        except tf.errors.OpError as error:
            session, damage = self._session, None
            if isinstance(error, DAMAGE):
                global_batch = (
                    session.job.config.training.batch_per_replica * session.run.num_replicas
                )
                damage = stream.first_damaged(session.state.step, num_steps, global_batch)
            raise explain(
                error,
                session.source.folder,
                during=f"steps {step} to {step + num_steps}",
                damage=damage,
                has_peers=session.job.cluster.has_peers,
            ) from error

    def _after_call(self, num_steps: int, loss: float) -> None:
        for action in self._actions:
            action.after_call(num_steps, loss)


def require_same_start(collectives: Averages, job: TrainJob, step: int) -> None:
    """Check that every worker starts at the same step.

    Raises:
        UsageError: Another worker starts elsewhere, so that it does not see the same workdir.
    """
    mean = collectives.means([step])[0]
    if mean != step:
        raise UsageError(
            f"worker {job.cluster.index} starts at step {step}, the workers on average at "
            f"{mean:g}: --workdir ({job.workdir}) must be one storage that all of them see"
        )
