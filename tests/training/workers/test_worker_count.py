"""The division of a global batch over workers and replicas does not change the training."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from tests.training import run_steps
from tests.training.run_steps import losses
from tests.training.small_runs import job_of
from training.loop.loop import train
from training.models.architecture import architecture
from training.models.variants import Variant
from training.workdir.workdir import Workdir

STEPS = 20


def cluster(records: Path, *arguments: str | int) -> list[dict[str, Any]]:
    """Return what every worker of `run_steps` prints."""
    outputs = two_workers("tests.training.run_steps", records, *arguments)
    return [json.loads(out.splitlines()[-1]) for out in outputs]


def two_workers(module: str, *arguments: Path | str | int) -> list[str]:
    """Return what two workers of a cluster print."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{bound.getsockname()[1]}" for bound in sockets]
    for bound in sockets:
        bound.close()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": {"worker": addresses},
                        "task": {"type": "worker", "index": index},
                    }
                ),
            },
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-2000:]
    return [out for out, _ in outputs]


@dataclass(frozen=True)
class Alone:
    """The losses of one worker with all images, and how far rounding moves them by each step."""

    losses: np.ndarray
    reach: np.ndarray

    def allows(self, losses: list[float]) -> bool:
        """Return whether `losses` differ by no more than sums in another order explain."""
        distances = np.abs(np.asarray(losses) - self.losses)
        return bool((distances <= 1e-5 * self.losses + 3 * self.reach).all())


@pytest.fixture(scope="module")
def alone(records: Path) -> Alone:
    """Train one worker with one replica and all 16 images."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    found, *_ = losses(str(records), strategy, 16, STEPS, "frozen")
    with mock.patch.object(run_steps, "LEARNING_RATE", 1e-9):
        unlearned, *_ = losses(str(records), strategy, 16, STEPS, "frozen")
    learned = [abs(one - other) for one, other in zip(found, unlearned, strict=True)]
    assert max(learned) > 0.01  # or nothing would be compared
    rounded = [
        losses(str(records), strategy, 16, STEPS, "frozen", rounding_seed=seed)[0]
        for seed in (1, 2)
    ]
    distances = np.abs(np.asarray(rounded) - found).max(axis=0)
    reach = np.maximum.accumulate(distances)
    assert reach[-1] < 0.01  # or everything would be allowed
    return Alone(np.asarray(found), reach)


@pytest.mark.slow
def test_two_workers_with_8_images_are_one_with_16(records: Path, alone: Alone) -> None:
    """The gradients of a step are summed in one piece, whose size is the one that `plan` gives."""
    first, second = cluster(records, 8, 1, STEPS, "frozen")
    assert first["losses"] == second["losses"]
    assert alone.allows(first["losses"])
    layout = architecture(Variant.parse("shallow_0.35_32"), 11)
    assert first["reduced"] == [4 * layout.trainable]


@pytest.mark.slow
def test_two_workers_with_4_replicas_each_are_one_with_one(records: Path, alone: Alone) -> None:
    first, second = cluster(records, 2, 4, STEPS, "frozen")
    assert first["replicas"] == 8
    assert first["losses"] == second["losses"]
    assert alone.allows(first["losses"])


@pytest.mark.slow
def test_with_batch_statistics_two_workers_are_one_process_with_two_replicas(
    records: Path, two_replicas: tf.distribute.Strategy
) -> None:
    first, _ = cluster(records, 8, 1, 5, "batch")
    expected, *_ = losses(str(records), two_replicas, 8, 5, "batch")
    assert first["losses"] == pytest.approx(expected, rel=1e-4)


def losses_by_step(workdir: Path) -> dict[int, float]:
    """Return the losses that a run wrote for TensorBoard."""
    return {
        event.step: float(tf.make_ndarray(value.tensor))
        for path in sorted((workdir / "tensorboard").glob("events*"))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == "train/loss"
    }


@pytest.mark.slow
def test_a_run_of_two_workers_continues_as_one_with_two_replicas(
    records: Path, tmp_path: Path, two_replicas: tf.distribute.Strategy
) -> None:
    """Every later step has the same loss, although the workers are others."""
    two_workers(
        "pipeline",
        "train",
        "--variant=shallow_0.35_32",
        "--recipe=demo",
        f"--records={records}",
        f"--workdir={tmp_path}/two",
        "--set=optimizer.learning_rate_per_replica=0.005",  # rounding is not blown up
        "--set=training.batch_per_replica=8",
        "--set=training.total_images=192",  # 12 steps
        "--set=loop.steps_per_loop=1",
        "--set=loop.checkpoint_every_steps=6",
        "--set=loop.evaluate_every_steps=12",
    )
    uninterrupted = losses_by_step(tmp_path / "two")
    shutil.copytree(
        tmp_path / "two",
        tmp_path / "one",
        ignore=shutil.ignore_patterns("tensorboard", "progress.json", "ckpt-12*"),
    )
    config = Workdir(str(tmp_path / "one")).read_run().config
    train(job_of(config, records, tmp_path / "one"), two_replicas)
    resumed = losses_by_step(tmp_path / "one")
    assert list(resumed) == list(range(7, 13))
    assert resumed == pytest.approx({step: uninterrupted[step] for step in resumed}, rel=1e-5)
