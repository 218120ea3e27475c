"""Counting is exact for any batch and any number of replicas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.records.schema import Manifest
from training.config.recipes import demo
from training.input.inception import eval_view
from training.input.records import Records
from training.loop.evaluate import Evaluator
from training.metrics.accuracy import Counts
from training.models.architecture import architecture
from training.models.variants import Variant
from training.optimization.state import build_model


@pytest.fixture(scope="module")
def validation(records: Path) -> Records:
    return Records(str(records), Manifest.read(str(records)), "validation")


def test_every_image_counts_once_on_one_and_on_two_replicas(
    validation: Records, two_replicas: tf.distribute.Strategy
) -> None:
    config = demo(Variant.parse("shallow_0.35_32"))
    found: list[Counts] = []
    for strategy, batch in (
        (tf.distribute.OneDeviceStrategy("CPU:0"), 100),
        (tf.distribute.OneDeviceStrategy("CPU:0"), 7),
        (two_replicas, 13),
    ):
        with strategy.scope():
            model = build_model(config, architecture(config.variant, 11))
        found.append(
            Evaluator(strategy, model, validation, config.evaluation, batch_per_replica=batch).run()
        )
    assert {counts.examples for counts in found} == {360}
    assert len(set(found)) == 1

    read = [validation.read(tf.constant(index, tf.int64)) for index in range(360)]
    images = tf.stack([eval_view(jpeg, 32, config.evaluation) for jpeg, _ in read])
    logits, labels = model(images, training=False).numpy(), [int(label) for _, label in read]
    ranks = np.argsort(-logits, axis=1)
    assert found[0].correct_top1 == sum(ranks[:, 0] == labels)
    assert found[0].correct_top5 == sum(
        label in row for label, row in zip(labels, ranks[:, :5], strict=True)
    )
