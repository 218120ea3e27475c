"""One process on one core compared with two on two cores, with equal work per core, in one run.

    python -m benchmarks.scaling [--variant mobilenet_v2_0.35_96] [--batch 32] [--steps 20]

Efficiency is the speed of two processes divided by twice the speed of one; the setups alternate in
every round. Two processes that do not communicate show what the cores lose because they share a
machine. The rest of the loss is the all-reduce and the waiting for each other. `mobilenet plan`
models GPUs from the same number of bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

MODULE = ("-m", "benchmarks.scaling")


def main() -> None:
    """Compare the setups, or with `--worker` run one process of them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--variant", default="mobilenet_v2_0.35_96")
    arguments.add_argument("--batch", type=int, default=32, help="per process")
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--worker", action="store_true")
    options = arguments.parse_args()
    if options.worker:
        print(json.dumps({"seconds": _train(options)}))
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("this benchmark needs two cores")
    setups = {"one": (1, 1), "two apart": (2, 1), "two together": (2, 2)}
    seconds: dict[str, list[float]] = {name: [] for name in setups}
    for number in range(options.rounds):
        for name, (count, per_cluster) in setups.items():
            seconds[name].append(_seconds(cores[:count], per_cluster))
            speed = count * options.batch * options.steps / seconds[name][-1]
            print(f"round {number}: {name} {speed:.1f} images/s", file=sys.stderr)

    def efficiency(two: str, one: str) -> float:
        return round(
            statistics.median(a / b for a, b in zip(seconds[one], seconds[two], strict=True)), 3
        )

    print(
        json.dumps(
            {
                "efficiency of 2 processes": efficiency("two together", "one"),
                "of 2 that do not communicate": efficiency("two apart", "one"),
                "communication alone": efficiency("two together", "two apart"),
                "gradient_bytes_per_step": _gradient_bytes(options.variant),
            }
        )
    )


def _seconds(cores: list[int], per_cluster: int) -> float:
    """Run a worker on each of `cores`, and return the seconds of the slowest.

    Args:
        cores: Numbers of the cores.
        per_cluster: Number of workers that form one cluster.
    """
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in cores]
        workers = [f"127.0.0.1:{bound.getsockname()[1]}" for bound in sockets]
    processes = [
        subprocess.Popen(
            ["taskset", "-c", str(core), sys.executable, *MODULE, "--worker", *sys.argv[1:]],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_CONFIG": json.dumps(
                    {
                        "cluster": {"worker": workers[index - index % per_cluster :][:per_cluster]},
                        "task": {"type": "worker", "index": index % per_cluster},
                    }
                ),
            },
        )
        for index, core in enumerate(cores)
    ]
    outputs = [process.communicate()[0] for process in processes]
    return max(float(json.loads(out.splitlines()[-1])["seconds"]) for out in outputs)


def _train(options: argparse.Namespace) -> float:
    import tensorflow as tf

    from training.config import override
    from training.config.recipes import published
    from training.input.source import SyntheticRecords
    from training.loop.step import TrainSteps
    from training.models.variants import Variant
    from training.optimization.state import TrainingState

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    variant = Variant.parse(options.variant)
    config = override(published(variant), f"training.batch_per_replica={options.batch}")
    with strategy.scope():
        state = TrainingState(
            config,
            num_outputs=1001,
            num_examples=10**6,
            num_replicas=strategy.num_replicas_in_sync,
        )
    records = SyntheticRecords(10**6, 1000)
    size = variant.resolution
    iterator = iter(
        strategy.distribute_datasets_from_function(
            lambda _: records.batches(size, options.batch, config.augmentation.pixels)
        )
    )
    steps = TrainSteps(strategy, state, config)
    steps.run(iterator, 1)
    since = time.monotonic()
    steps.run(iterator, options.steps)
    return time.monotonic() - since


def _gradient_bytes(variant: str) -> int:
    from pipeline.planning.run_plan import Plan
    from training.config.recipes import published
    from training.models.variants import Variant

    return Plan(
        config=published(Variant.parse(variant)), num_replicas=1, num_examples=1
    ).gradient_bytes


if __name__ == "__main__":
    main()
