"""Settings of how a step is computed do not change its result.

One forward and backward pass on one batch is compared, before differences can grow.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.errors import UsageError
from tests.shallow_family import NORMALISED, VARIANT
from tests.training.small_steps import BATCH, OUTPUTS, Training, small_config
from tests.training.well_conditioned import let_signals_through, normalising_by_moving_statistics
from training.config import ComputeConfig, override
from training.optimization.gradients import Gradients, segments
from training.optimization.state import TrainingState, values

BFLOAT16_ROUNDING = 2.0**-9  # at most, relative
FLOAT32_ROUNDING = 2.0**-24
CONVOLUTIONS = NORMALISED + 1
DEEP = "mobilenet_v2_0.35_32"


@dataclass(frozen=True)
class Pass:
    """One call of `Gradients`: its results and the function that was run."""

    state: TrainingState
    gradients: np.ndarray  # all in one row
    loss: float  # the sum over the batch
    function: Any  # as it was traced

    @property
    def convolutions(self) -> list[str]:
        """Types of the outputs of the forward convolutions."""
        return [
            operation.outputs[0].dtype.name
            for operation in self.function.graph.get_operations()
            if operation.type in ("Conv2D", "DepthwiseConv2dNative")
        ]


def traced(function: Any) -> list[Any]:
    """Return every trace of a `tf.function`."""
    found: list[Any] = function._list_all_concrete_functions()
    return found


def is_compiled(function: Any) -> bool:
    return bool(function.function_def.attr["_XlaMustCompile"].b)


def one_pass(*overrides: str, by_the_batch: bool = False, variant: str = VARIANT) -> Pass:
    """Make a pass on weights that let signals through, or with batch normalisation."""
    config = small_config("model.dropout=0.2", *overrides, variant=variant)
    state = TrainingState(config, num_outputs=OUTPUTS, num_examples=100, num_replicas=1)
    if not by_the_batch:
        let_signals_through(state.model)
    gradients = Gradients(state, config, num_replicas=1)
    images = tf.random.stateless_uniform([BATCH, 32, 32, 3], [0, 1], -1.0, 1.0)
    labels, seed = tf.range(1, BATCH + 1, dtype=tf.int64), tf.constant([5, 7], tf.int64)
    with contextlib.nullcontext() if by_the_batch else normalising_by_moving_statistics():
        found, (loss, *_) = gradients(images, labels, seed)
    (function,) = traced(gradients._run)
    flat = np.concatenate([gradient.numpy().ravel() for gradient in found])
    return Pass(state, flat, float(loss), function)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the relative distance of two vectors."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@pytest.fixture(scope="module")
def plain() -> Pass:
    found = one_pass()
    assert not is_compiled(found.function)  # on a CPU nobody asked for it
    assert found.convolutions == ["float32"] * CONVOLUTIONS
    return found


def test_recomputation_gives_the_same_gradients_and_moves_statistics_only_once() -> None:
    """Every bit is the same: the same operations run in the same order, some of them twice."""
    plain = one_pass(by_the_batch=True, variant=DEEP)
    again = one_pass("compute.recompute=true", by_the_batch=True, variant=DEEP)
    assert len(again.convolutions) > 1.9 * len(plain.convolutions)
    assert np.array_equal(again.gradients, plain.gradients)
    for one, other in zip(values(again.state.model), values(plain.state.model), strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


def test_the_segments_are_the_network_block_by_block(plain: Pass) -> None:
    state = plain.state
    parts = segments(state.features, state.layout)
    assert len(parts) == len(state.layout.blocks)
    x = images = tf.random.stateless_uniform([2, 32, 32, 3], [0, 1], -1.0, 1.0)
    for part in parts:
        x = part(x, training=False)
    np.testing.assert_allclose(x, state.features(images, training=False), rtol=1e-6)
    inside = [id(variable) for part in parts for variable in part.trainable_variables]
    assert len(inside) == len(set(inside)) == len(state.features.trainable_variables)


def test_bfloat16_rounds_activations_and_keeps_weights_and_loss_in_float32(plain: Pass) -> None:
    rounded = one_pass("compute.bfloat16=on")
    # All of them but the classifier.
    assert rounded.convolutions == ["bfloat16"] * (CONVOLUTIONS - 1) + ["float32"]
    assert {value.dtype for value in values(rounded.state.model)} == {tf.float32}
    assert rounded.state.averaged_model.output.dtype == "float32"
    assert rounded.loss == pytest.approx(plain.loss, rel=2 * BFLOAT16_ROUNDING)
    # A convolution and its normalisation round, forward and backward.
    roundings = 4 * CONVOLUTIONS
    assert 0 < distance(rounded.gradients, plain.gradients) < roundings * BFLOAT16_ROUNDING


def one_step(*overrides: str) -> Training:
    training = Training(
        tf.distribute.OneDeviceStrategy("CPU:0"), small_config("model.dropout=0.2", *overrides)
    )
    let_signals_through(training.state.model)
    with normalising_by_moving_statistics():
        training.run(1)
    return training


@pytest.mark.slow
def test_a_compiled_step_is_the_same_step() -> None:
    """Dropout is included, whose numbers XLA would draw differently."""
    exact = one_step()
    compiled = one_step("compute.xla=on", "compute.recompute=true")
    inside = (compiled.steps._gradients._run, compiled.steps._apply)
    assert all(is_compiled(inner) for function in inside for inner in traced(function))
    few = 4 * CONVOLUTIONS * FLOAT32_ROUNDING
    # What the optimizer remembers of the first step is its gradient.
    remembered = [
        np.concatenate(
            [variable.numpy().ravel() for variable in training.state.optimizer.variables]
        )
        for training in (exact, compiled)
    ]
    assert distance(remembered[1], remembered[0]) < few
    for one, other in zip(exact.everything(), compiled.everything(), strict=True):
        np.testing.assert_allclose(other, one, rtol=few, atol=few)


def test_wrong_switches_are_refused() -> None:
    with pytest.raises(UsageError, match=r"compute\.xla must be one of auto, on, off, got 'yes'"):
        override(small_config(), "compute.xla=yes")
    with pytest.raises(UsageError, match=r"compute\.collectives must be one of auto, nccl, ring"):
        ComputeConfig(collectives="mpi")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"compute\.bytes_per_pack must not be negative"):
        ComputeConfig(bytes_per_pack=-1)
