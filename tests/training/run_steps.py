"""Some training steps as one worker of a cluster, for tests that compare clusters.

    python -m tests.training.run_steps RECORDS BATCH_PER_REPLICA LOCAL_REPLICAS STEPS BN

TF_CONFIG names the worker. The program prints JSON: the losses, and the bytes that each
all-reduce of the step sums.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import tensorflow as tf
from tensorflow.python.distribute.collective_all_reduce_strategy import (
    CollectiveAllReduceExtended,
)

from pipeline.certificate.golden.inputs import round_weights
from preprocessing.records.schema import Manifest
from tests.shallow_family import VARIANT
from tests.training.well_conditioned import (
    let_signals_through,
    normalising_by_moving_statistics,
)
from training.config import RunConfig, override
from training.config.recipes import demo
from training.input.data import Share, training_batches
from training.input.records import Records
from training.loop.step import TrainSteps
from training.models.variants import Variant
from training.optimization.state import TrainingState

LEARNING_RATE = 0.005  # of the whole cluster
SIZE = 32
ROUNDING = 1e-6  # relative change of a weight: a few of float32's last places


def config_of(batch_per_replica: int, num_replicas: int) -> RunConfig:
    """Return a config that trains equally for every division of the global batch."""
    config = demo(Variant.parse(VARIANT))
    for assignment in (
        "model.dropout=0",  # its mask belongs to the replica
        f"training.batch_per_replica={batch_per_replica}",
        f"optimizer.learning_rate_per_replica={LEARNING_RATE / num_replicas}",
    ):
        config = override(config, assignment)
    return config


@contextlib.contextmanager
def several_cpu_replicas(count: int) -> Iterator[None]:
    """Give a process several CPU devices; the strategy would take all GPUs, but only one CPU."""

    def local_devices(self: Any, resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker}/device:CPU:{index}" for index in range(count)), "CPU"

    with mock.patch.object(CollectiveAllReduceExtended, "_initialize_local_devices", local_devices):
        yield


def losses(
    records: str,
    strategy: tf.distribute.Strategy,
    batch_per_replica: int,
    num_steps: int,
    normalisation: str,
    *,
    rounding_seed: int | None = None,
) -> tuple[list[float], TrainSteps, Any]:
    """Return the loss of each of the first steps, and the objects that computed them.

    The caller keeps the iterator, because releasing one of several devices takes a minute.

    Args:
        records: Folder that `prepare` wrote.
        strategy: The distribution strategy.
        batch_per_replica: Images per replica.
        num_steps: Number of steps.
        normalisation: `batch` or `frozen`.
        rounding_seed: If given, the initial weights are changed by a few of their last places.
    """
    manifest = Manifest.read(records)
    train = Records(records, manifest, "train")
    config = config_of(batch_per_replica, strategy.num_replicas_in_sync)
    with strategy.scope():
        state = TrainingState(
            config,
            num_outputs=len(manifest.classes) + 1,
            num_examples=train.num_examples,
            num_replicas=strategy.num_replicas_in_sync,
        )
        if normalisation == "frozen":
            let_signals_through(state.model)
        if rounding_seed is not None:
            round_weights(state.model, ROUNDING, rounding_seed)

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return training_batches(
            train,
            config.augmentation,
            size=SIZE,
            seed=5,
            batch_per_replica=batch_per_replica,
            share=Share.of(context),
            start_step=0,
        )

    iterator = iter(strategy.distribute_datasets_from_function(batches))
    steps = TrainSteps(strategy, state, config)
    frozen = normalising_by_moving_statistics()
    with frozen if normalisation == "frozen" else contextlib.nullcontext():
        return [steps.run(iterator, 1).loss for _ in range(num_steps)], steps, iterator


def reduced_bytes(steps: TrainSteps) -> list[int]:
    """Return the bytes that the all-reduces of one replica sum in a step, from the traced graph."""
    graphs = [function.graph for function in steps._run._list_all_concrete_functions()]
    sizes = {}
    while graphs:
        graph = graphs.pop()
        graphs += [function.graph for function in graph._functions.values()]
        for operation in graph.get_operations():
            if operation.type.startswith("CollectiveReduce"):
                sizes[operation.name] = 4 * operation.inputs[0].shape.num_elements()
    return list(sizes.values())


def main() -> None:
    """Run as the command line says."""
    records, batch, local_replicas, num_steps, normalisation = sys.argv[1:]
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * int(local_replicas),
    )
    with several_cpu_replicas(int(local_replicas)):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    found, steps, _iterator = losses(records, strategy, int(batch), int(num_steps), normalisation)
    replicas = strategy.num_replicas_in_sync
    print(json.dumps({"replicas": replicas, "losses": found, "reduced": reduced_bytes(steps)}))


if __name__ == "__main__":
    main()
