"""The moving average ramps as TF1's does and follows every variable."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from training.optimization.ema import ExponentialMovingAverage, decay_at


@pytest.mark.parametrize(
    ("num_updates", "decay"),
    [(0, 0.1), (9, 10 / 19), (89, 90 / 99), (89_990, 0.9999), (10**6, 0.9999)],
)
def test_decay_ramps_up(num_updates: int, decay: float) -> None:
    assert float(decay_at(num_updates, 0.9999)) == pytest.approx(decay, rel=1e-6)


def test_shadows_start_at_the_initial_values_and_follow() -> None:
    variable = tf.Variable([1.0, -2.0])
    ema = ExponentialMovingAverage([variable], 0.9999)
    expected = variable.numpy().astype(np.float64)
    np.testing.assert_array_equal(ema.shadows[0], expected)
    for n in range(1, 30):
        variable.assign_add([0.5, n])
        ema.update([variable], n)
        decay = min(0.9999, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * variable.numpy()
    np.testing.assert_allclose(ema.shadows[0], expected, rtol=1e-5)
    copied = tf.Variable([0.0, 0.0])
    ema.copy_to([copied])
    np.testing.assert_array_equal(copied, ema.shadows[0])
