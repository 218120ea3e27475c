"""The training step compared with a bare `tf.function` loop around Keras' own MobileNetV2.

    python -m benchmarks.step [--variant mobilenet_v2_1.0_224] [--batch 32] [--steps 3]

Both train on one constant batch with the same optimizer kernel. Ours does more: it computes L2,
dropout, averages of every variable, and counts. Each runs in separate processes, in turn, so that
the memory is the peak of a process. The overhead is what a call of `TrainSteps.run` costs the host
besides its steps: the same updates are timed as many calls of one step and as one call of many.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

OUTPUTS = 1001
TINY = "mobilenet_v2_0.35_32"  # for the overhead, which a short step shows better
BAR = 1.05


def main() -> None:
    """Compare both, or with `--only` run one measurement."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--variant", default="mobilenet_v2_1.0_224")
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--steps", type=int, default=3)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--set", action="append", default=[], help="change our config")
    arguments.add_argument("--only", choices=("ours", "bare", "overhead"))
    options = arguments.parse_args()
    if options.only:
        print(json.dumps(MEASUREMENTS[options.only](options)))
        return
    measurements: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    for number in range(options.rounds):
        for name, measured in measurements.items():
            measured.append(_in_process(name, options))
            print(f"round {number}: {name} {measured[-1]}", file=sys.stderr)
    overhead = _in_process("overhead", options)

    def ratio(key: str) -> float:
        pairs = zip(measurements["ours"], measurements["bare"], strict=True)
        return round(statistics.median(ours[key] / bare[key] for ours, bare in pairs), 3)

    print(
        json.dumps(
            {
                "CPU seconds, ours / bare": ratio("cpu_seconds_per_step"),
                "wall seconds, ours / bare": ratio("seconds_per_step"),
                "peak memory, ours / bare": ratio("peak_mb"),
                "bar": BAR,
                **overhead,
            }
        )
    )


def _in_process(name: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.step", f"--only={name}"]
    command += [f"--variant={options.variant}", f"--batch={options.batch}"]
    command += [f"--steps={options.steps}", *(f"--set={setting}" for setting in options.set)]
    completed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, float] = json.loads(completed.stdout.splitlines()[-1])
    return measured


def ours(options: argparse.Namespace) -> dict[str, float]:
    """Run `TrainSteps` on synthetic batches."""
    run = _our_steps(options.variant, options.batch, options.set)
    return _timed(run, options.steps)


def bare(options: argparse.Namespace) -> dict[str, float]:
    """Run the loop that people would write by hand."""
    import keras
    import tensorflow as tf

    from training.config.recipes import published
    from training.models.variants import Variant
    from training.optimization.optimizer import rmsprop

    variant = Variant.parse(options.variant)
    model = keras.applications.MobileNetV2(
        (variant.resolution, variant.resolution, 3),
        alpha=variant.width_multiplier,
        weights=None,
        classes=OUTPUTS,
        classifier_activation=None,
    )
    optimizer = rmsprop(published(variant).optimizer, 0.045)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    images = tf.random.uniform([options.batch, variant.resolution, variant.resolution, 3], -1, 1)
    labels = tf.one_hot(tf.range(options.batch), OUTPUTS)
    iterator = iter(tf.data.Dataset.from_tensors((images, labels)).repeat().prefetch(2))

    @tf.function
    def run(num_steps: Any) -> None:
        for _ in tf.range(num_steps):
            batch, targets = next(iterator)
            with tf.GradientTape() as tape:
                value = loss(targets, model(batch, training=True))
            gradients = tape.gradient(
                value,
                [variable.value for variable in model.trainable_variables],
            )
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    return _timed(lambda count: run(tf.constant(count)), options.steps)


def overhead(options: argparse.Namespace) -> dict[str, float]:
    """Return the host milliseconds of one call of `TrainSteps.run`, without its steps."""
    run = _our_steps(TINY, 1, [])
    run(1)
    calls, many = [], []
    for _ in range(5):
        since = time.perf_counter()
        for _ in range(40):
            run(1)
        calls.append((time.perf_counter() - since) / 40)
        since = time.perf_counter()
        run(40)
        many.append((time.perf_counter() - since) / 40)
    per_call = max(0.0, (min(calls) - min(many)) * 1000)
    return {
        "host ms per call": round(per_call, 3),
        "host ms per step, 1000 steps per call": round(per_call / 1000, 6),
    }


MEASUREMENTS = {"ours": ours, "bare": bare, "overhead": overhead}


def _our_steps(variant: str, batch: int, assignments: list[str]) -> Callable[[int], object]:
    import tensorflow as tf

    from training.config import override_all
    from training.config.recipes import published
    from training.input.source import SyntheticRecords
    from training.loop.step import TrainSteps
    from training.models.variants import Variant
    from training.optimization.state import TrainingState

    config = override_all(
        published(Variant.parse(variant)), [f"training.batch_per_replica={batch}", *assignments]
    )
    strategy = tf.distribute.OneDeviceStrategy(tf.config.list_logical_devices()[-1].name)
    with strategy.scope():
        state = TrainingState(config, num_outputs=OUTPUTS, num_examples=10**6, num_replicas=1)
    records = SyntheticRecords(10**6, OUTPUTS - 1)
    size = config.variant.resolution
    iterator = iter(
        strategy.distribute_datasets_from_function(
            lambda _: records.batches(size, batch, config.augmentation.pixels)
        )
    )
    steps = TrainSteps(strategy, state, config)
    return lambda count: steps.run(iterator, count)


def _timed(run: Callable[[int], object], num_steps: int) -> dict[str, float]:
    run(1)
    wall, cpu = time.monotonic(), time.process_time()
    run(num_steps)
    return {
        "seconds_per_step": (time.monotonic() - wall) / num_steps,
        "cpu_seconds_per_step": (time.process_time() - cpu) / num_steps,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
