"""What fine-tuning adds to a step: the classifier alone at first, and weights of classes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.records.schema import Manifest
from tests.training.small_steps import BATCH, OUTPUTS, Training, small_config
from training.input import synthetic
from training.optimization.class_weights import class_weights
from training.optimization.gradients import Gradients
from training.optimization.state import TrainingState

HEAD_STEPS = 5
COUNTS = (10, 30, 0, 60)


@pytest.mark.slow
@pytest.mark.parametrize("xla", ["off", "on"])
def test_the_classifier_learns_alone_until_it_is_time_for_all(xla: str) -> None:
    training = Training(
        tf.distribute.OneDeviceStrategy("CPU:0"),
        small_config(f"training.head_epochs={HEAD_STEPS * BATCH / 100}", f"compute.xla={xla}"),
    )
    classifier = {variable.path for variable in training.state.classifier.trainable_variables}

    def moved_by(steps: int) -> set[str]:
        variables = training.state.model.trainable_variables
        before = [variable.numpy() for variable in variables]
        training.run(steps)
        return {
            variable.path
            for variable, old in zip(variables, before, strict=True)
            if not np.array_equal(old, variable.numpy())
        }

    assert training.state.head_steps == HEAD_STEPS
    assert moved_by(HEAD_STEPS) == classifier
    assert len(classifier) == 2
    others = {variable.path for variable in training.state.model.trainable_variables} - classifier
    assert moved_by(1) >= others


@pytest.mark.slow
def test_a_run_needs_no_weight_decay() -> None:
    training = Training(
        tf.distribute.OneDeviceStrategy("CPU:0"), small_config("model.weight_decay=0")
    )
    assert training.run(2).regularization == 0


def manifest_of(counts: tuple[int, ...]) -> Manifest:
    manifest = synthetic.read_manifest("synthetic:")
    train = dataclasses.replace(manifest.statistics.train, class_counts=counts)
    statistics = dataclasses.replace(manifest.statistics, train=train)
    return dataclasses.replace(manifest, statistics=statistics)


def test_balanced_classes_weigh_the_same_together_and_an_image_one_on_average() -> None:
    weights = class_weights(small_config("training.class_weights=balanced"), manifest_of(COUNTS))
    assert weights is not None
    totals = weights[1:] * COUNTS
    assert totals.sum() == pytest.approx(sum(COUNTS))
    assert totals[np.array(COUNTS) > 0] == pytest.approx(sum(COUNTS) / 3)
    assert weights[0] == 0


def test_equal_weights_are_no_weights() -> None:
    assert class_weights(small_config(), manifest_of(COUNTS)) is None


@pytest.mark.slow
def test_an_image_counts_in_loss_and_gradient_as_its_class_weighs() -> None:
    """Batch normalisation joins the images of a batch, so the images are the same in all passes."""
    config = small_config("model.dropout=0", "model.weight_decay=0")
    state = TrainingState(config, num_outputs=OUTPUTS, num_examples=100, num_replicas=1)
    images = tf.random.stateless_uniform([BATCH, 32, 32, 3], [0, 1], -1.0, 1.0)
    labels, seed = tf.range(1, BATCH + 1, dtype=tf.int64), tf.constant([5, 7], tf.int64)

    def one_pass(weights: np.ndarray | None) -> np.ndarray:
        gradients, counts = Gradients(state, config, 1, weights)(images, labels, seed)
        return np.concatenate([counts.numpy()[:1], *[part.numpy().ravel() for part in gradients]])

    weights = np.linspace(0.5, 3, OUTPUTS).astype(np.float32)
    of_class = [one_pass(np.eye(OUTPUTS, dtype=np.float32)[label]) for label in range(1, BATCH + 1)]
    expected = sum(weights[label] * part for label, part in enumerate(of_class, start=1))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(one_pass(weights), expected, atol=2e-5 * scale)
    np.testing.assert_allclose(one_pass(None), sum(of_class), atol=2e-5 * scale)
