"""A network in which rounding stays small, for tests that compare two ways to compute a step.

On initial weights no signal passes through the network unless each batch normalises itself, and
the normalisation of a few small images magnifies any rounding within a step or two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import keras
import numpy as np
from keras import layers

from training.models.mobilenet import INIT_STDDEV, FusedBatchNormalization

TRUNCATED = 0.88  # standard deviation of a normal one that is cut at two sigma
GAIN = 1.5  # a ReLU6 halves the power, roughly


@contextmanager
def normalising_by_moving_statistics() -> Iterator[None]:
    """Let batch normalisation use its moving statistics and still train scale and offset."""

    def call(self: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return layers.BatchNormalization.call(self, inputs, training=False)

    with mock.patch.object(FusedBatchNormalization, "call", call):
        yield


def let_signals_through(model: keras.Model) -> None:
    """Scale initial kernels so that each layer's output is about as large as its input."""
    for variable in model.trainable_variables:
        if "kernel" in variable.path:
            inputs = variable.shape[:2] if "depthwise" in variable.path else variable.shape[:3]
            scale = np.sqrt(GAIN / np.prod(inputs)) / (INIT_STDDEV * TRUNCATED)
            variable.assign(variable.numpy() * scale)
