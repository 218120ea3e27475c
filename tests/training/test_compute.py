"""Switches of how a step is computed do not change what it computes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.errors import UsageError
from tests.training.test_step import learned, small_config, trained
from training.config import ComputeConfig, RunConfig, override
from training.gradients import segments
from training.state import TrainingState, values

DEVICE = "CPU:0"
SMOOTH = ("model.dropout=0.2", "optimizer.learning_rate_per_replica=0.0005")


def after(steps: int, *overrides: str) -> tuple[TrainingState, dict[str, float]]:
    return trained(
        tf.distribute.OneDeviceStrategy(DEVICE), small_config(*SMOOTH, *overrides), steps
    )


@pytest.fixture(scope="module")
def plain() -> tuple[TrainingState, dict[str, float]]:
    return after(2)


def assert_close(one: TrainingState, other: TrainingState, rtol: float) -> None:
    for left, right in zip(values(one.model), values(other.model), strict=True):
        np.testing.assert_allclose(left.numpy(), right.numpy(), rtol=rtol, atol=rtol)
    for left, right in zip(one.ema.shadows, other.ema.shadows, strict=True):
        np.testing.assert_allclose(left.numpy(), right.numpy(), rtol=rtol, atol=rtol)


def test_recomputation_moves_weights_and_statistics_alike_and_only_once(
    plain: tuple[TrainingState, dict[str, float]],
) -> None:
    state, means = after(2, "compute.recompute=true")
    assert learned(means) == pytest.approx(learned(plain[1]), rel=1e-5)
    assert_close(state, plain[0], 1e-4)


def test_the_segments_are_the_network_block_by_block(
    plain: tuple[TrainingState, dict[str, float]],
) -> None:
    state, _ = plain
    parts = segments(state.features, state.layout)
    assert len(parts) == len(state.layout.blocks)
    x = images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 1], -1.0, 1.0)
    for part in parts:
        x = part(x, training=False)
    np.testing.assert_allclose(x, state.features(images, training=False), rtol=1e-6)
    inside = [id(each) for part in parts for each in part.trainable_variables]
    assert len(inside) == len(set(inside)) == len(state.features.trainable_variables)


def test_bfloat16_keeps_weights_and_loss_in_float32() -> None:
    _, exact = after(1)
    state, means = after(1, "compute.bfloat16=on")
    assert {each.dtype for each in values(state.model)} == {tf.float32}
    assert state.features.output.dtype == "bfloat16"
    assert state.averaged_model.output.dtype == "float32"
    assert means["loss"] == pytest.approx(exact["loss"], rel=0.05)
    assert means["loss"] != exact["loss"]


@pytest.mark.slow
def test_a_compiled_step_is_the_same_step(plain: tuple[TrainingState, dict[str, float]]) -> None:
    state, means = after(2, "compute.xla=on", "compute.recompute=true")
    assert means["loss"] == pytest.approx(plain[1]["loss"], rel=1e-3)
    assert_close(state, plain[0], 5e-2)


def test_wrong_switches_are_refused() -> None:
    with pytest.raises(UsageError, match=r"compute\.xla must be one of auto, on, off, got 'yes'"):
        override(RunConfig(variant="mobilenet_v2_0.35_32", recipe="x"), "compute.xla=yes")
    with pytest.raises(UsageError, match=r"compute\.collectives must be one of auto, nccl, ring"):
        ComputeConfig(collectives="mpi")
    with pytest.raises(UsageError, match=r"compute\.bytes_per_pack must not be negative"):
        ComputeConfig(bytes_per_pack=-1)
