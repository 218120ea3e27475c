"""The stored answers for every image give back the accuracies that were computed from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.export import per_image
from pipeline.export.predictions import Predictions
from preprocessing.errors import DataError, UsageError


@pytest.fixture
def predictions() -> Predictions:
    """Return predictions with coarse scores, so that there are ties."""
    rng = np.random.default_rng(3)
    scores = (rng.integers(0, 8, (500, 12)) / 8).astype(np.float32)
    return Predictions.of(scores, rng.integers(1, 12, 500))


def test_ranks_give_the_same_accuracies_ties_included(
    predictions: Predictions, tmp_path: Path
) -> None:
    per_image.write(str(tmp_path), {"checkpoint": predictions}, 12)
    kept = per_image.read(str(tmp_path))
    for k in (1, 5):
        assert np.mean(kept.ranks < k) == predictions.accuracy(k)
    right, images = kept.class_counts(12)
    assert right.sum() / images.sum() == predictions.accuracy(1)
    assert np.array_equal(images, np.bincount(predictions.labels, minlength=12))


@pytest.mark.parametrize("num_outputs", [1_001, 21_842, 32_768, 32_769, 70_001])
def test_labels_and_ranks_fit_any_number_of_classes(num_outputs: int, tmp_path: Path) -> None:
    last = num_outputs - 1
    scores = np.tile(np.linspace(1.0, 0.0, num_outputs, dtype=np.float32), (3, 1))
    scores[1] = scores[1, ::-1]
    predictions = Predictions.of(scores, np.array([last, last, 1]))
    per_image.write(str(tmp_path), {"checkpoint": predictions}, num_outputs)
    kept = per_image.read(str(tmp_path))
    assert kept.labels.tolist() == [last, last, 1]
    assert kept.ranks.tolist() == [last, 0, 1]
    assert kept.classes[:2, 0].tolist() == [0, last]


def test_the_best_classes_come_best_first(predictions: Predictions, tmp_path: Path) -> None:
    per_image.write(str(tmp_path), {"checkpoint": predictions}, 12)
    kept = per_image.read(str(tmp_path))
    assert np.array_equal(kept.classes[:, 0], predictions.top1_classes)
    assert np.array_equal(kept.scores, predictions.scores)
    assert (np.diff(kept.scores, axis=1) <= 0).all()


def test_the_same_predictions_give_the_same_bytes(predictions: Predictions, tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        per_image.write(str(tmp_path), {"checkpoint": predictions, "tflite_int8": predictions}, 12)
        written.append((tmp_path / per_image.FILE).read_bytes())
    assert written[0] == written[1]


def test_an_unknown_format_and_a_damaged_file_are_told_in_one_line(
    predictions: Predictions, tmp_path: Path
) -> None:
    per_image.write(str(tmp_path), {"checkpoint": predictions}, 12)
    with pytest.raises(UsageError, match="did you mean 'checkpoint'"):
        per_image.read(str(tmp_path), "chekpoint")
    content = (tmp_path / per_image.FILE).read_bytes()
    (tmp_path / per_image.FILE).write_bytes(content[:-100])
    with pytest.raises(DataError, match="is damaged"):
        per_image.read(str(tmp_path))
    (tmp_path / per_image.FILE).unlink()
    with pytest.raises(UsageError, match="export again"):
        per_image.read(str(tmp_path))
