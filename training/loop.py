"""The outer loop: call the inner one, then look, save and evaluate; resume where it stopped."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from preprocessing.errors import NonFiniteLossError
from training import initial
from training import workdir as workdirs
from training.checkpoint import Checkpoints
from training.cluster import Cluster
from training.config import RunConfig
from training.data import Readable, Share, finished, training_batches
from training.evaluate import Evaluator, share_of
from training.source import Source
from training.state import TrainingState
from training.step import TrainSteps, statistics_synchronizer
from training.summaries import GRID_SIDE, Summaries
from training.variants import Variant


def train(
    config: RunConfig,
    records_folder: str,
    workdir: str,
    cluster: Cluster,
    strategy: tf.distribute.Strategy,
    initial_checkpoint: str = "",
    data_service: str = "",
) -> dict[str, Any]:
    """Train to the end of `config`, from the newest checkpoint in `workdir` if there is one.

    Every worker calls this with the same arguments. A run without a checkpoint starts from
    the weights of the slim checkpoint `initial_checkpoint`, if that is given.

    Returns:
        The last `progress.json`.

    Raises:
        UsageError: `workdir` holds another run.
        NonFiniteLossError: The loss is NaN or infinite; names the steps.
    """
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
    if not checkpoints.restore() and initial_checkpoint:
        with strategy.scope():
            initial.start_from(initial_checkpoint, state)
    train_steps = TrainSteps(strategy, state, config)
    synchronize = statistics_synchronizer(strategy, state, config.training.bn_statistics)
    evaluator = Evaluator(
        strategy,
        state.averaged_model,
        source.validation,
        config.evaluation,
        batch_per_replica=config.training.batch_per_replica,
    )
    summaries = Summaries(workdirs.tensorboard_folder(workdir), cluster.is_chief)
    report = _Reporter(run, cluster, workdir, summaries, start_step=state.step)
    _show_augmentation(summaries, source.train, config, state.step)

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return source.batches(config, share_of(context), state.step)

    average = tf.function(lambda: strategy.run(state.average))
    iterator = iter(
        strategy.distribute_datasets_from_function(
            batches,
            # Two batches wait on each device: one is used while the next arrives.
            tf.distribute.InputOptions(experimental_per_replica_buffer_size=2),
        )
    )

    def measure() -> dict[str, float]:
        synchronize()
        average()
        measured = evaluator.run()
        return {"top1": measured.top1, "top5": measured.top5}

    accuracy: dict[str, float] = {}
    for step, num_steps in _milestones(state.step, run.num_steps, config.loop.steps_per_loop):
        means = train_steps.run(iterator, num_steps)
        _refuse_non_finite(means, step, num_steps)
        learning_rate = float(state.schedule(step - 1))
        is_last = step == run.num_steps
        saves = is_last or _is_due(step, num_steps, config.loop.checkpoint_every_steps)
        evaluates = is_last or _is_due(step, num_steps, config.loop.evaluate_every_steps)
        if evaluates:
            accuracy = measure()
            summaries.scalars(step, {f"validation/{name}": v for name, v in accuracy.items()})
        elif saves:
            synchronize()
        if saves and cluster.is_chief:
            checkpoints.save(step)
        report(step, num_steps, learning_rate, means, accuracy)
    if not report.last["complete"]:  # killed between the last checkpoint and the last report
        report.complete(measure())
    synchronize()  # a barrier: nobody leaves before the chief has saved
    return report.last


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


def _show_augmentation(
    summaries: Summaries, records: Readable, config: RunConfig, step: int
) -> None:
    """The first images of the run, as the network sees them, shown at `step`."""
    batch = training_batches(
        records,
        config.augmentation,
        size=Variant.parse(config.variant).resolution,
        seed=config.seed,
        batch_per_replica=GRID_SIDE**2,
        share=Share(worker_index=0, num_workers=1, local_replicas=1),
        start_step=0,
    )
    summaries.images(step, "augmented_images", next(iter(finished(batch)))[0])


class _Reporter:
    """One line per loop on stderr, scalars to TensorBoard, `progress.json` for everyone else."""

    def __init__(
        self,
        run: workdirs.Run,
        cluster: Cluster,
        workdir: str,
        summaries: Summaries,
        start_step: int,
    ) -> None:
        self._run = run
        self._cluster = cluster
        self._workdir = workdir
        self._summaries = summaries
        self._since = time.monotonic()
        self.last: dict[str, Any] = workdirs.read_progress(workdir)
        if start_step:
            self._say(f"train: resuming at step {start_step} of {run.num_steps}")

    def __call__(
        self,
        step: int,
        num_steps: int,
        learning_rate: float,
        means: dict[str, float],
        accuracy: dict[str, float],
    ) -> None:
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        images = num_steps * self._run.config.training.batch_per_replica * self._run.num_replicas
        images_per_second = images / seconds
        eta_seconds = (self._run.num_steps - step) * seconds / num_steps
        self.last = {
            "step": step,
            "num_steps": self._run.num_steps,
            "complete": step == self._run.num_steps,
            "epoch": step * images / num_steps / self._run.num_examples,
            "loss": means["loss"],
            "learning_rate": learning_rate,
            "images_per_second": images_per_second,
            "validation": accuracy,
        }
        self._summaries.scalars(
            step,
            {
                "train/loss": means["loss"],
                "train/regularization": means["regularization"],
                "train/top1": means["top1"],
                "train/learning_rate": learning_rate,
                "train/images_per_second": images_per_second,
            },
        )
        validation = f"  validation top-1 {accuracy['top1']:.4f}" if accuracy else ""
        self._say(
            f"train: step {step}/{self._run.num_steps}  loss {means['loss']:.4f}  "
            f"top-1 {means['top1']:.4f}  learning rate {learning_rate:.5f}  "
            f"{images_per_second:.0f} images/s  ETA {eta_seconds:.0f} s{validation}"
        )
        if self._cluster.is_chief:
            workdirs.write_progress(self._workdir, self.last)

    def complete(self, accuracy: dict[str, float]) -> None:
        """Report the end of a run whose last step is saved but was not reported."""
        self.last |= {
            "step": self._run.num_steps,
            "num_steps": self._run.num_steps,
            "complete": True,
            "validation": accuracy,
        }
        if self._cluster.is_chief:
            workdirs.write_progress(self._workdir, self.last)

    def _say(self, line: str) -> None:
        if self._cluster.is_chief:
            print(line, file=sys.stderr, flush=True)
