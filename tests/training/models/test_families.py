"""A family that is defined in a test alone is parsed, counted, trained, written and read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from preprocessing.errors import UsageError
from tests.training.models.tiny_family import TINY
from tests.training.small_runs import config_of, run
from training.config import SYNTHETIC, ModelConfig, RunConfig
from training.config.recipes import published
from training.models.architecture import architecture
from training.models.families import FAMILIES
from training.models.mobilenet import mobilenet
from training.models.variants import Variant, published_variants
from training.weights import slim_checkpoint
from training.weights.keras_applications import application
from training.weights.slim_checkpoint import slim_shapes, slim_variables


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Variant:
    """Register the family, and return one of its variants."""
    monkeypatch.setitem(FAMILIES, TINY.name, TINY)
    return Variant.parse("tiny_0.5_32")


def test_its_variants_and_settings_are_known(tiny: Variant) -> None:
    assert published_variants()[-1] == "tiny_1.0_32"
    assert published(tiny).model.dropout == 0.001
    assert RunConfig.from_json(published(tiny).to_json()).variant == tiny
    with pytest.raises(UsageError, match=r"tiny: 1\.0, 0\.5"):
        Variant.parse("tiny_2.0_32")


def test_counts_are_those_of_the_network(tiny: Variant) -> None:
    counted = architecture(tiny, 11)
    network = mobilenet(counted, ModelConfig(), resolution=32)
    kernels = [v for v in network.trainable_variables if "kernel" in v.path]
    assert counted.parameters == sum(np.prod(kernel.shape) for kernel in kernels)
    assert counted.trainable == sum(np.prod(v.shape) for v in network.trainable_variables)
    # Stem, depthwise and projection on 16 x 16, squeeze-and-excite and classifier once.
    assert counted.macs == 256 * (27 * 8 + 25 * 8 + 64) + 2 * 32 + 88


def test_it_trains(tiny: Variant, tmp_path: Path) -> None:
    config = config_of("training.total_images=32", "training.batch_per_replica=8")
    config = dataclasses.replace(config, variant=tiny)
    progress = run(config, SYNTHETIC, tmp_path)
    assert (progress.step, progress.complete) == (4, True)


def test_its_slim_checkpoint_comes_back(tiny: Variant, tmp_path: Path) -> None:
    counted = architecture(tiny, 11)
    network = mobilenet(counted, ModelConfig(), resolution=32)
    named = {name: v.numpy() for name, v in slim_variables(network, counted).items()}
    assert {name: value.shape for name, value in named.items()} == slim_shapes(counted)
    assert "Tiny/block/squeeze_excite/Conv_1/biases" in named
    assert len(named) == len(network.variables)
    prefix = str(tmp_path / "tiny.ckpt")
    slim_checkpoint.write(prefix, named, named, 3)
    stored, step = slim_checkpoint.read(prefix, slim_shapes(counted))
    assert step == 3
    assert all(np.array_equal(stored[name], value) for name, value in named.items())


def test_without_a_network_of_keras_this_is_said(tiny: Variant) -> None:
    with pytest.raises(UsageError, match=r"keras\.applications has no network of tiny"):
        application(tiny, 11)
