"""Images per second of `evaluate` compared with the bare model on batches that are ready.

    python -m benchmarks.evaluation --workdir W --records R

Both run the same compiled network on batches of the same size, one after the other, round after
round. The best round of each counts, because other work on the machine only ever adds time.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from preprocessing.records.schema import Manifest
from training.input.data import EVALUATION_BATCH
from training.input.records import Records
from training.loop.evaluate import Evaluator
from training.weights.run_weights import load_state
from training.workdir.workdir import Workdir

ROUNDS = 3


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
    best = {"bare": 0.0, "evaluate": 0.0}
    bare = bare_rounds(model, options.bare_batches)
    next(bare)  # compiles
    for _ in range(ROUNDS):
        best["bare"] = max(best["bare"], next(bare))
        started = time.perf_counter()
        counts = evaluator.run()
        rate = counts.examples / (time.perf_counter() - started)
        best["evaluate"] = max(best["evaluate"], rate)
    print(
        json.dumps(
            {
                "images_per_second": {name: round(rate) for name, rate in best.items()},
                "evaluate / bare": round(best["evaluate"] / best["bare"], 3),
            }
        )
    )


def bare_rounds(model: keras.Model, num_batches: int) -> Iterator[float]:
    """Yield the images per second of round after round of the compiled network."""
    side = model.input_shape[1]
    ready = tf.random.stateless_uniform([EVALUATION_BATCH, side, side, 3], [1, 2], -1.0, 1.0)
    forward = tf.function(lambda images: model(images, training=False))
    while True:
        started = time.perf_counter()
        for _ in range(num_batches):
            forward(ready).numpy()
        yield num_batches * EVALUATION_BATCH / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
