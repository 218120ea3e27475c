"""Quantization-aware training: training rounds as int8 will round, so that the weights adapt to it.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", section 3, with the choices of today's TF-Lite: kernels symmetric per output channel
in [-127, 127], activations asymmetric per tensor in 256 steps. Gradients pass straight through
inside the range.

Batch normalisation stays unchanged. Folded into the kernel it only multiplies every output channel
by a constant, and rounding per channel is invariant to a constant.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

RANGE_MOMENTUM = 0.99  # decay of the activations' ranges per step
BITS = 8


@keras.saving.register_keras_serializable("mobilenet")
class QuantizedConv2D(layers.Conv2D):
    """A convolution whose kernel `[h, w, in, out]` is rounded per `out`."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolve `[N, H, W, C]` to `[N, H', W', out]`."""
        outputs = self.convolution_op(inputs, round_per_channel(self.kernel))
        return outputs + self.bias if self.use_bias else outputs


@keras.saving.register_keras_serializable("mobilenet")
class QuantizedDepthwiseConv2D(layers.DepthwiseConv2D):
    """A depthwise convolution whose kernel `[h, w, C, 1]` is rounded per channel."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Convolve `[N, H, W, C]` to `[N, H', W', C]`."""
        rounded = round_per_channel(tf.squeeze(tf.convert_to_tensor(self.kernel), -1))
        return keras.ops.depthwise_conv(
            inputs,
            rounded[..., tf.newaxis],
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )


@keras.saving.register_keras_serializable("mobilenet")
class QuantizedActivation(layers.Layer):
    """A layer that rounds to 256 steps of a range, which follows the values seen in training."""

    def build(self, input_shape: Any) -> None:
        """Create the two ends of the range, which are averaged and kept like BN statistics."""
        for name in ("low", "high"):
            variable = self.add_weight(name=name, initializer="zeros", trainable=False)
            setattr(self, name, variable)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return the inputs rounded; unchanged until training has shown values."""
        if training:
            seen = self.high - self.low > 0
            # The range always contains zero, which padding and ReLU6 need exactly.
            batch = (
                (self.low, tf.minimum(tf.reduce_min(inputs), 0.0)),
                (self.high, tf.maximum(tf.reduce_max(inputs), 0.0)),
            )
            for variable, value in batch:
                moved = variable + (value - variable) * (1 - RANGE_MOMENTUM)
                variable.assign(tf.stop_gradient(tf.where(seen, moved, value)))
        low, high = tf.convert_to_tensor(self.low), tf.convert_to_tensor(self.high)
        rounded = tf.quantization.fake_quant_with_min_max_vars(inputs, low, high, num_bits=BITS)
        return tf.where(high - low > 0, rounded, inputs)


def round_per_channel(kernel: tf.Tensor) -> tf.Tensor:
    """Round `[..., C]` to 255 symmetric steps per channel, whose range is its own largest value."""
    kernel = tf.convert_to_tensor(kernel)
    largest = tf.reduce_max(tf.abs(kernel), axis=list(range(len(kernel.shape) - 1)))
    largest = tf.maximum(tf.stop_gradient(largest), 1e-8)  # a channel of zeros stays zero
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(
        kernel, -largest, largest, num_bits=BITS, narrow_range=True
    )
