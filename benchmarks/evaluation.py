"""Images per second of `evaluate` compared with the bare model on batches that are ready.

    python -m benchmarks.evaluation --workdir W --records R

Both run the same compiled network on batches of the same size, one after the other, round after
round. The best round of each counts, because other work on the machine only ever adds time. On a
machine that does other work, the ratio of processor time says more, so both are printed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from preprocessing.records.schema import Manifest
from training.input.data import EVALUATION_BATCH
from training.input.records import Records
from training.loop.evaluate import Evaluator
from training.weights.run_weights import load_state
from training.workdir.workdir import Workdir

ROUNDS = 2


@dataclass(kw_only=True, slots=True)
class Best:
    """The best round of one contestant, in seconds per image."""

    wall: float = math.inf
    processor: float = math.inf

    def measure(self, classify: Callable[[], int]) -> None:
        """Measure one round, which returns its number of images."""
        wall, processor = time.perf_counter(), time.process_time()
        images = classify()
        self.wall = min(self.wall, (time.perf_counter() - wall) / images)
        self.processor = min(self.processor, (time.process_time() - processor) / images)


def main() -> None:
    """Measure, and print one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    arguments.add_argument("--workdir", required=True)
    arguments.add_argument("--records", required=True)
    arguments.add_argument("--bare-batches", type=int, default=100, help="in a round [100]")
    options = arguments.parse_args()
    workdir, manifest = Workdir(options.workdir), Manifest.read(options.records)
    run = workdir.read_run()
    model = load_state(workdir, run).averaged_model
    evaluator = Evaluator(
        tf.distribute.get_strategy(),
        model,
        Records(options.records, manifest, "validation"),
        run.config.evaluation,
        batch_per_replica=EVALUATION_BATCH,
    )
    classify_ready = bare(model, options.bare_batches)
    classify_ready()  # compiles
    ready, evaluate = Best(), Best()
    for _ in range(ROUNDS):
        ready.measure(classify_ready)
        evaluate.measure(lambda: evaluator.run().examples)
    print(
        json.dumps(
            {
                "images_per_second": {
                    "bare": round(1 / ready.wall),
                    "evaluate": round(1 / evaluate.wall),
                },
                "evaluate / bare": {
                    "wall": round(ready.wall / evaluate.wall, 3),
                    "processor": round(ready.processor / evaluate.processor, 3),
                },
            }
        )
    )


def bare(model: keras.Model, num_batches: int) -> Callable[[], int]:
    """Return the function that classifies a ready batch so many times with the compiled network."""
    side = model.input_shape[1]
    ready = tf.random.stateless_uniform([EVALUATION_BATCH, side, side, 3], [1, 2], -1.0, 1.0)
    forward = tf.function(lambda images: model(images, training=False))

    def classify() -> int:
        for _ in range(num_batches):
            forward(ready).numpy()
        return num_batches * EVALUATION_BATCH

    return classify


if __name__ == "__main__":
    main()
