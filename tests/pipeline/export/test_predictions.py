"""Accuracy follows TensorFlow's rule, and a format that disagrees is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from pipeline.export.predictions import (
    Predictions,
    from_bytes,
    require_accuracy,
    require_same_answers,
    to_bytes,
)
from preprocessing.errors import CheckFailedError

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 20, 300)
SCORES = RANDOM.dirichlet(np.ones(20), 300).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5])
def test_accuracy_is_that_of_the_k_first_of_top_k_ties_included(k: int) -> None:
    scores = np.round(SCORES, 1)  # many ties
    expected = np.mean((tf.math.top_k(scores, k).indices == LABELS[:, None]).numpy().any(axis=1))
    assert Predictions.of(scores, LABELS).accuracy(k) == pytest.approx(float(expected))


@pytest.mark.parametrize("k", [1, 5])
def test_without_ties_accuracy_is_what_evaluation_counts(k: int) -> None:
    expected = np.mean(tf.math.in_top_k(LABELS, SCORES, k))
    assert Predictions.of(SCORES, LABELS).accuracy(k) == pytest.approx(float(expected))


@pytest.mark.parametrize("classes", [2, 4, 5, 1001])
def test_the_best_classes_are_those_of_top_k_ties_included(classes: int) -> None:
    scores = RANDOM.integers(0, 4, (300, classes)).astype(np.float32) / 4
    kept = Predictions.of(scores, RANDOM.integers(0, classes, 300))
    best, classes_of_best = tf.math.top_k(scores, min(5, classes))
    assert np.array_equal(kept.classes, classes_of_best)
    assert np.array_equal(kept.scores, best)


def test_parts_joined_and_stored_are_the_whole() -> None:
    other = np.roll(SCORES, 1, axis=1)
    whole = Predictions.of(SCORES, LABELS, other)
    parts = [
        Predictions.of(SCORES[part], LABELS[part], other[part])
        for part in (slice(0, 100), slice(100, 101), slice(101, 300))
    ]
    stored = from_bytes(to_bytes({"a": Predictions.joined(parts), "b.c": whole}))
    for found in (stored["a"], stored["b.c"]):
        assert all(
            np.array_equal(getattr(found, field.name), getattr(whole, field.name))
            for field in dataclasses.fields(Predictions)
        )
    assert whole.differences.max() == np.abs(SCORES - other).max()


def test_a_model_that_scores_every_class_the_same_is_not_always_right() -> None:
    assert Predictions.of(np.zeros_like(SCORES), LABELS).accuracy(5) < 0.4


def test_the_same_answers_pass_and_ties_may_fall_either_way() -> None:
    reference = Predictions.of(SCORES, LABELS)
    require_same_answers("x", reference, reference)
    tied, swapped = SCORES.copy(), SCORES.copy()
    best, second = np.argsort(-SCORES[7])[:2]
    tied[7, second] = tied[7, best] - 1e-6
    swapped[7, second], swapped[7, best] = tied[7, best], tied[7, second]
    require_same_answers("x", Predictions.of(swapped, LABELS, tied), Predictions.of(tied, LABELS))


def test_one_other_answer_is_refused_and_the_image_named() -> None:
    other = SCORES.copy()
    other[41] = np.roll(other[41], 1)
    with pytest.raises(CheckFailedError, match=r"on 1 of 300 images, worst validation image 41"):
        require_same_answers(
            "x", Predictions.of(other, LABELS, SCORES), Predictions.of(SCORES, LABELS)
        )


def test_a_file_without_weights_is_refused() -> None:
    """Keras 3 and one converter route really gave this: NaN for every class."""
    nothing = np.full_like(SCORES, np.nan)
    found, reference = Predictions.of(nothing, LABELS, SCORES), Predictions.of(SCORES, LABELS)
    with pytest.raises(CheckFailedError, match="gives no number on 300 of 300"):
        require_same_answers("x", found, reference)
    with pytest.raises(CheckFailedError, match="gives no number on 300 of 300"):
        require_accuracy("x", found, reference, tolerance=1.0)


def test_accuracy_lost_beyond_the_tolerance_is_refused() -> None:
    perfect = np.eye(20, dtype=np.float32)[LABELS]
    worse = perfect.copy()
    worse[:6] = np.roll(worse[:6], 1, axis=1)  # 2 % of 300
    found, reference = Predictions.of(worse, LABELS, perfect), Predictions.of(perfect, LABELS)
    require_accuracy("int8", found, reference, tolerance=0.02)
    with pytest.raises(
        CheckFailedError, match=r"loses 0\.0200 .* newly wrong .*: 0, 1, 2, 3, 4, 5;"
    ):
        require_accuracy("int8", found, reference, tolerance=0.019)
