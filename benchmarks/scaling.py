"""One process on one core beside two processes on two, with equal work per core, in one run.

    python -m benchmarks.scaling [--variant mobilenet_v2_0.35_96] [--batch 32] [--steps 10]

Efficiency is the speed of two over twice the speed of one; rounds alternate. What it loses is
the all-reduce and waiting for each other. `mobilenet plan` models GPUs from the same bytes.
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
    """Compare, or with `--worker` be one process."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--variant", default="mobilenet_v2_0.35_96")
    arguments.add_argument("--batch", type=int, default=32, help="per process")
    arguments.add_argument("--steps", type=int, default=10)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--worker", action="store_true")
    options = arguments.parse_args()
    if options.worker:
        print(json.dumps({"seconds": _train(options)}))
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("scaling needs two cores")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for number in range(options.rounds):
        for count, each in seconds.items():
            each.append(_together(cores[:count]))
            speed = count * options.batch * options.steps / each[-1]
            print(f"round {number}: {count} process(es) {speed:.1f} images/s", file=sys.stderr)
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    print(
        json.dumps(
            {
                "efficiency of 2 processes": round(statistics.median(ratios), 3),
                "gradient_bytes_per_step": _gradient_bytes(options.variant),
            }
        )
    )


def _together(cores: list[int]) -> float:
    """Seconds of the slowest of as many workers as `cores`, each on its own."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in cores]
        workers = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    processes = [
        subprocess.Popen(
            ["taskset", "-c", str(core), sys.executable, *MODULE, "--worker", *sys.argv[1:]],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "TF_NUM_INTRAOP_THREADS": "1",
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
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
    from training.recipes import published
    from training.source import SyntheticRecords
    from training.state import TrainingState
    from training.step import TrainSteps
    from training.variants import Variant

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    config = override(published(options.variant), f"training.batch_per_replica={options.batch}")
    with strategy.scope():
        state = TrainingState(
            config,
            num_outputs=1001,
            num_examples=10**6,
            num_replicas=strategy.num_replicas_in_sync,
        )
    records = SyntheticRecords(10**6, 1000)
    size = Variant.parse(options.variant).resolution
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
    from pipeline.plan import Plan
    from training.recipes import published

    return Plan(config=published(variant), num_replicas=1, num_examples=1).gradient_bytes


if __name__ == "__main__":
    main()
