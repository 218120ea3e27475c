"""The outer loop: call the inner one, then look, save and evaluate; resume where it stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from preprocessing.errors import NonFiniteLossError, UsageError
from training.config import RunConfig
from training.input.source import Source
from training.loop.evaluate import Evaluator, share_of
from training.loop.step import TrainSteps, statistics_synchronizer
from training.loop.step_runner import Calls, Made
from training.monitoring.progress_report import Reporter
from training.monitoring.summaries import Summaries
from training.monitoring.tensorboard import Watcher
from training.optimization.state import TrainingState, values
from training.weights import initial
from training.workdir import recovery
from training.workdir import workdir as workdirs
from training.workdir.checkpoint import Checkpoints
from training.workers.cluster import Cluster
from training.workers.collectives import Agreement, leave_after_the_others
from training.workers.failures import explain
from training.workers.watchdog import Guard, StoppedError

STEPS_READ_AHEAD = 64  # at most, by the input pipeline


def train(
    config: RunConfig,
    records_folder: str,
    workdir: str,
    cluster: Cluster,
    strategy: tf.distribute.Strategy,
    initial_checkpoint: str = "",
    guard: Guard | None = None,
    profile_steps: int = 0,
    data_service: str = "",
) -> dict[str, Any]:
    """Train to the end of `config`, from the newest checkpoint in `workdir` if there is one.

    Every worker calls this with the same arguments. A run without a checkpoint starts from
    the weights of the slim checkpoint `initial_checkpoint`, if that is given.

    Args:
        config: The run.
        records_folder: What `prepare` wrote.
        workdir: The run's folder, the same storage for all workers.
        cluster: Who this process is.
        strategy: How replicas work together.
        initial_checkpoint: A slim checkpoint, or empty.
        guard: Bounds the time of every step and hears requests to stop.
        profile_steps: Steps to trace for the profile page, soon after the start; 0 for none.
        data_service: `grpc://host:port` of a tf.data service, or empty.

    Returns:
        The last `progress.json`.

    Raises:
        UsageError: `workdir` holds another run.
        NonFiniteLossError: The loss is NaN or infinite; names the steps.
        StoppedError: The guard was asked to stop; there is a checkpoint of that step.
    """
    guard = guard or Guard()
    guard.expect("starting up", config.loop.startup_timeout_seconds)
    source = Source.open(records_folder, config, data_service)
    manifest = source.manifest
    run = workdirs.Run.create(
        config,
        manifest,
        strategy.num_replicas_in_sync,
        workdirs.checkpoint_digest(initial_checkpoint) if initial_checkpoint else "",
    )
    if cluster.is_chief:
        workdirs.claim(workdir, run)
    with strategy.scope():
        state = TrainingState.of(run)
    checkpoints = Checkpoints(workdir, state, config.loop.checkpoints_to_keep)
    restored = checkpoints.restore(verbose=cluster.is_chief)
    if restored is None and initial_checkpoint:
        with strategy.scope():
            initial.start_from(initial_checkpoint, state)
    summaries = Summaries(workdirs.tensorboard_folder(workdir), cluster.is_chief)
    loop = _Loop(
        run=run,
        workdir=workdir,
        cluster=cluster,
        strategy=strategy,
        state=state,
        checkpoints=checkpoints,
        guard=guard,
        reporter=Reporter(run, cluster, workdir, summaries, state.step),
        watcher=Watcher(summaries, run, manifest, state, profile_steps),
        source=source,
    )
    guard.keep(loop)
    try:
        return loop.train()
    finally:
        loop.reporter.close()
        loop.watcher.close()


@dataclass(kw_only=True)
class _Loop:
    run: workdirs.Run
    workdir: str
    cluster: Cluster
    strategy: tf.distribute.Strategy
    state: TrainingState
    checkpoints: Checkpoints
    guard: Guard
    reporter: Reporter
    watcher: Watcher
    source: Source

    def __post_init__(self) -> None:
        config = self.run.config
        self._config = config
        self._agreement = Agreement(self.strategy)
        self._calls = Calls(
            TrainSteps(self.strategy, self.state, config),
            self._agreement,
            self.guard,
            config.loop,
            self._after_call,
        )
        self._synchronize = statistics_synchronizer(
            self.strategy, self.state, config.training.bn_statistics
        )
        shown = values(self.state.averaged_model)
        self._average = tf.function(lambda: self.strategy.run(self.state.average))
        self._take_raw = tf.function(
            lambda: self.strategy.run(_copy, args=(values(self.state.model), shown))
        )
        self._evaluator = Evaluator(
            self.strategy,
            self.state.averaged_model,
            self.source.validation,
            config.evaluation,
            batch_per_replica=config.training.batch_per_replica,
            before_call=lambda: self._expect("evaluating"),
        )

    def train(self) -> dict[str, Any]:
        """From the state as it is to the end; returns the last progress."""
        self._require_same_start()
        limits, end = self._config.loop, self.run.num_steps
        iterator = iter(
            self.strategy.distribute_datasets_from_function(
                self._batches(),
                # Two batches wait on each device: one is used while the next arrives.
                tf.distribute.InputOptions(experimental_per_replica_buffer_size=2),
            )
        )
        self.guard.keep(iterator)
        self.watcher.start(self.source.train)
        accuracy: dict[str, float] = {}
        for target, num_steps in _milestones(self.state.step, end, limits.steps_per_loop):
            made = self._run_calls(iterator, target - num_steps, num_steps)
            step = target - num_steps + made.steps
            if self.source.files:
                self.source.files.raise_if_too_many_corrupt()
            self.checkpoints.check()
            _refuse_non_finite(made.means, step, made.steps)
            if made.stopped:
                self._stop_at(step)
            saves = step == end or _is_due(step, num_steps, limits.checkpoint_every_steps)
            if step == end or _is_due(step, num_steps, limits.evaluate_every_steps):
                accuracy, saves = self._evaluate(step), True
            if saves:
                self._save(step)
            if _is_due(step, num_steps, limits.histograms_every_steps):
                self.watcher.histograms(step)
                self.watcher.memory(step)
            corrupt = self.source.files.corrupt if self.source.files else 0
            self.reporter.report(
                step, made, float(self.state.schedule(step - 1)), accuracy, corrupt
            )
            self._expect("between two loops")
        if not self.reporter.last["complete"]:  # killed between the last checkpoint and report
            self.reporter.complete(self._evaluate(end))
        self._finish_saving()
        return self.reporter.last

    def _run_calls(self, iterator: Any, step: int, num_steps: int) -> Made:
        """The next `num_steps` steps after `step`; what goes wrong is told with its steps."""
        try:
            return self._calls.run(iterator, num_steps)
        except tf.errors.OpError as error:
            where = ""
            if isinstance(error, tf.errors.DataLossError) and self.source.files:
                batch = self._config.training.batch_per_replica * self.run.num_replicas
                first = self.state.step * batch
                seed = recovery.data_seed(self.workdir, self._config.seed, self._started_at)
                positions = range(first, first + (num_steps + STEPS_READ_AHEAD) * batch)
                where = self.source.files.first_corrupt(positions, seed)
            when = f"steps {step} to {step + num_steps}"
            raise explain(error, self.source.folder, when, where) from error

    def _batches(self) -> Callable[[tf.distribute.InputContext], tf.data.Dataset]:
        config, start_step = self._config, self.state.step
        self._started_at = start_step
        seed = recovery.data_seed(self.workdir, config.seed, start_step)

        def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
            return self.source.batches(config, share_of(context), start_step, seed)

        return batches

    def _evaluate(self, step: int) -> dict[str, float]:
        """Accuracy of the averages, and beside it of the raw weights."""
        self._synchronize()
        self._take_raw()
        raw = self._evaluator.run()
        self._average()
        predictions = self._evaluator.predict()
        averaged = predictions.accuracy
        accuracy = {"top1": averaged.top1, "top5": averaged.top5}
        if self.cluster.is_chief:
            workdirs.write_evaluation(self.workdir, step, accuracy)
        self.watcher.evaluation(step, averaged, raw, predictions, self.source.validation)
        return accuracy

    def _save(self, step: int) -> None:
        self._expect(f"saving step {step}")
        self._synchronize()
        if self.cluster.is_chief:
            self.checkpoints.save(step)

    def _stop_at(self, step: int) -> None:
        """Every worker is here, at the same step."""
        self._save(step)
        self._finish_saving()
        raise StoppedError(
            f"terminated; the checkpoint of step {step} is saved, run the same command to continue"
        )

    def _finish_saving(self) -> None:
        self._expect("finishing the last checkpoint")
        self.checkpoints.wait()
        self._agreement.means([0.0])  # a barrier: nobody leaves before the chief has saved
        leave_after_the_others(self.cluster)

    def _require_same_start(self) -> None:
        step = self.state.step
        mean = self._agreement.means([step])[0]
        if mean != step:
            raise UsageError(
                f"worker {self.cluster.index} starts at step {step}, the workers on average at "
                f"{mean:g}: --workdir ({self.workdir}) must be one storage that all of them see"
            )

    def _after_call(self, num_steps: int, loss: float) -> None:
        self.reporter.advance(num_steps, loss)
        self.watcher.after_call(num_steps)

    def _expect(self, what: str) -> None:
        self.guard.expect(what, self._config.loop.step_timeout_seconds)


def _copy(sources: list[Any], targets: list[Any]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.assign(tf.convert_to_tensor(source))


def _milestones(start: int, end: int, steps_per_loop: int) -> Iterator[tuple[int, int]]:
    """`(step reached, steps to make)` up to `end`, on multiples of `steps_per_loop`."""
    step = start
    while step < end:
        reached = min(end, (step // steps_per_loop + 1) * steps_per_loop)
        yield reached, reached - step
        step = reached


def _is_due(step: int, num_steps: int, every: int) -> bool:
    """Whether a multiple of `every` lies in the last `num_steps` steps up to `step`."""
    return step // every > (step - num_steps) // every


def _refuse_non_finite(means: dict[str, float], step: int, num_steps: int) -> None:
    if not math.isfinite(means["loss"] + means["regularization"]):
        raise NonFiniteLossError(
            f"the loss became {means['loss']} (L2 {means['regularization']}) between steps "
            f"{step - num_steps} and {step}; lower optimizer.learning_rate_per_replica, or look "
            "at the images of those steps"
        )
