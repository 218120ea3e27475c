"""Small runs on the digits, for tests of the loop and everything around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from training.config import RunConfig, override_all
from training.config.recipes import demo
from training.loop.loop import train
from training.loop.train_job import TrainJob
from training.models.variants import Variant
from training.workdir.progress import Progress
from training.workdir.workdir import Workdir
from training.workers.cluster import Cluster
from training.workers.watchdog import Watchdog

ALONE = Cluster(("localhost",), 0)


class StopAfter(Watchdog):
    """A stop request after a number of device calls."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    @property
    def stop_requested(self) -> bool:
        self._left -= 1
        return self._left < 0


def config_of(*overrides: str) -> RunConfig:
    """Return the config of a run of 12 steps, unless `overrides` say otherwise."""
    return override_all(
        demo(Variant.parse("shallow_0.35_32")),
        (
            "training.batch_per_replica=16",
            "training.total_images=192",  # 12 steps
            "loop.steps_per_loop=3",
            "loop.checkpoint_every_steps=6",
            "loop.evaluate_every_steps=6",
            "loop.histograms_every_steps=10",
            *overrides,
        ),
    )


def job_of(config: RunConfig, records: Path | str, workdir: Path) -> TrainJob:
    """Return the job of the only worker."""
    return TrainJob(
        config=config, records=str(records), workdir=Workdir(str(workdir)), cluster=ALONE
    )


def run(config: RunConfig, records: Path | str, workdir: Path) -> Progress:
    """Train on one device."""
    return train(job_of(config, records, workdir), tf.distribute.OneDeviceStrategy("CPU:0"))


def tensors(workdir: Path) -> dict[str, np.ndarray]:
    """Return the tensors of the newest checkpoint of a run."""
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(workdir / "checkpoints")))
    names = [name for name in reader.get_variable_to_shape_map() if name[0] != "_"]
    return {name: reader.get_tensor(name) for name in names if "save_counter" not in name}
