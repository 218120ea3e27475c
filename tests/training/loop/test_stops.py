"""A run that was stopped at any steps and continued is the run that was never stopped."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import tensorflow as tf

from tests.training.small_runs import StopAfter, config_of, job_of, tensors
from training.config import RunConfig
from training.loop.loop import train
from training.workdir.evaluations import Evaluation
from training.workdir.workdir import Workdir
from training.workers.watchdog import StoppedError

STEPS = 24
# No boundary of loops is a multiple of the other intervals.
INTERVALS = (
    f"training.total_images={STEPS * 32}",
    "training.batch_per_replica=16",
    "loop.steps_per_loop=7",
    "loop.checkpoint_every_steps=5",
    "loop.checkpoints_to_keep=100",
    "loop.evaluate_every_steps=12",
)


def evaluations(folder: Path) -> dict[int, Evaluation]:
    return Workdir(str(folder)).read_evaluations(range(STEPS + 1))


def train_in_parts(
    config: RunConfig,
    records: Path,
    workdir: Path,
    strategy: tf.distribute.Strategy,
    draws: random.Random,
) -> list[int]:
    """Train, stopped twice after random numbers of calls; return the steps of the stops."""
    stops: list[int] = []
    job = job_of(config, records, workdir)
    for _ in range(2):
        with pytest.raises(StoppedError):
            train(job, strategy, watchdog=StopAfter(draws.randrange(4)))
        stops.append(job.workdir.newest_checkpoint_step())
    train(job, strategy)
    return stops


@pytest.mark.slow
def test_stopped_at_any_steps_two_replicas_end_with_the_same_bits(
    records: Path, tmp_path: Path, two_replicas: tf.distribute.Strategy
) -> None:
    seed = random.randrange(10**6)
    print(f"stops drawn with seed {seed}")
    config = config_of(*INTERVALS, "training.bn_statistics=mean")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(job_of(config, records, whole), two_replicas)
    stops = train_in_parts(config, records, parts, two_replicas, random.Random(seed))
    print(f"stopped after steps {stops}")
    assert stops == sorted(set(stops))
    undisturbed = tensors(whole)
    ended = tensors(parts)
    assert ended.keys() == undisturbed.keys()
    different = [name for name, value in undisturbed.items() if (value != ended[name]).any()]
    assert not different
    assert evaluations(parts) == evaluations(whole)
    assert len(evaluations(whole)) == 2
    kept = set(Workdir(str(parts)).checkpoint_steps())
    assert kept == {*Workdir(str(whole)).checkpoint_steps(), *stops}
