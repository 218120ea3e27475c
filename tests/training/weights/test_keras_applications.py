"""Keras' own networks with the same weights give the same answers."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from preprocessing.errors import DataError, UsageError
from training.config import ModelConfig
from training.models.architecture import architecture
from training.models.families import FAMILIES
from training.models.mobilenet import mobilenet
from training.models.variants import Variant
from training.weights.keras_applications import application, read_weights, write_weights

pytestmark = pytest.mark.slow

OUTPUTS = 20


def randomised(model: keras.Model) -> keras.Model:
    """Return weights that look trained, so that every part of every layer matters."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(random.normal(0, 0.1, variable.shape))
        else:
            fan_in = np.prod(variable.shape[:-1]) if variable.shape[-1] != 1 else 9
            variable.assign(random.normal(0, np.sqrt(2 / fan_in), variable.shape))
    return model


@pytest.mark.parametrize(
    ("family", "width"),
    [(name, width) for name, family in FAMILIES.items() for width in family.widths],
)
def test_both_networks_give_the_same_logits_either_way(
    family: str, width: str, tmp_path: Path
) -> None:
    variant = Variant(family, width, 96)
    layout = architecture(variant, OUTPUTS)
    theirs = randomised(application(variant, OUTPUTS))
    path = str(tmp_path / "theirs.weights.h5")
    theirs.save_weights(path)
    ours = mobilenet(layout, ModelConfig(), resolution=96)
    read_weights(path, ours, variant, layout)
    images = np.random.default_rng(1).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    expected = theirs(images, training=False).numpy().reshape(2, OUTPUTS)
    found = ours(images, training=False).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())

    back = str(tmp_path / "ours.weights.h5")
    write_weights(back, ours, variant, layout)
    again = application(variant, OUTPUTS)
    again.load_weights(back)
    for one, other in zip(theirs.weights, again.weights, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


def test_weights_of_another_network_are_refused_with_what_does_not_fit(tmp_path: Path) -> None:
    variant = Variant("mobilenet_v2", "0.35", 96)
    layout = architecture(variant, OUTPUTS)
    ours = mobilenet(layout, ModelConfig(), resolution=96)
    path = str(tmp_path / "other.weights.h5")
    application(variant, 7).save_weights(path)
    with pytest.raises(DataError, match=r"2 of another shape: .*needed \(20,\)"):
        read_weights(path, ours, variant, layout)
    application(Variant("mobilenet_v1", "0.25", 96), OUTPUTS).save_weights(path)
    with pytest.raises(DataError, match=r"\d+ missing: .* of another shape"):
        read_weights(path, ours, variant, layout)
    (tmp_path / "no.weights.h5").write_text("no")
    with pytest.raises(DataError, match="no HDF5 file"):
        read_weights(str(tmp_path / "no.weights.h5"), ours, variant, layout)
    with pytest.raises(UsageError, match="does not exist"):
        read_weights(str(tmp_path / "none.weights.h5"), ours, variant, layout)
