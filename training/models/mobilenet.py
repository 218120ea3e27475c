"""The Keras network of an `Architecture`, initialised, normalised and regularised as slim does."""

from __future__ import annotations

import contextlib
import contextvars
import zlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from training.config import ModelConfig
from training.models.architecture import Architecture, Convolution
from training.models.quantization import (
    QuantizedActivation,
    QuantizedConv2D,
    QuantizedDepthwiseConv2D,
)

INIT_STDDEV = 0.09  # truncated at two sigma, slim's training_scope
BN_EPSILON = 0.001


_frozen = contextvars.ContextVar("frozen_statistics", default=False)


@contextlib.contextmanager
def frozen_statistics() -> Iterator[None]:
    """Within it, training normalises by the batch but leaves the moving statistics alone."""
    token = _frozen.set(True)
    try:
        yield
    finally:
        _frozen.reset(token)


@keras.saving.register_keras_serializable("mobilenet")
class SlimL2(keras.regularizers.Regularizer):
    """`weight_decay * sum(w^2) / 2`, as `slim.l2_regularizer`; Keras' own L2 has no half."""

    def __init__(self, weight_decay: float) -> None:
        self.weight_decay = weight_decay

    def __call__(self, x: Any) -> Any:
        """The scalar term of one kernel."""
        return self.weight_decay * tf.nn.l2_loss(x)

    def get_config(self) -> dict[str, Any]:
        """For Keras' serialisation."""
        return {"weight_decay": self.weight_decay}


@keras.saving.register_keras_serializable("mobilenet")
class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation by TensorFlow's fused kernel, as slim's `fused=True`.

    Normalises with the biased batch variance and feeds the moving variance the
    unbiased one; Keras' own layer feeds the biased one and is several times slower.
    Per replica: statistics are never exchanged in a step.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """`[N, H, W, C]` to the same shape."""
        if not training or not self.trainable:
            return super().call(inputs, training=False)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, tf.float32),
            offset=tf.cast(self.beta, tf.float32),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        if _frozen.get():
            return outputs
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving - (moving - batch) * (1 - self.momentum))
        return outputs


def mobilenet(
    architecture: Architecture,
    config: ModelConfig,
    *,
    resolution: int,
    seed: int = 0,
    head: bool = True,
    batch_normalization: type[layers.BatchNormalization] = FusedBatchNormalization,
    dtype: str = "float32",
) -> keras.Model:
    """Build the network: `float32 [N, S, S, 3]` in [-1, 1] to logits `[N, outputs]`.

    Dropout is not part of the graph: `training.loop.step` applies it between the layers
    `pool` and `Logits_Conv2d_1c_1x1`, from a seed of its own.

    Args:
        architecture: The layout.
        config: Normalisation and decay.
        resolution: S, pixels.
        seed: Every kernel's initial value follows from it and the kernel's name.
        head: Without it, the output is the last map `[N, S / stride, S / stride, C]`, for
            detection and segmentation; every layer's output is there by its name.
        batch_normalization: The layer to use; plain Keras' for files that others load.
        dtype: Keras policy of all layers before the classifier: `float32`, or
            `mixed_bfloat16` for bfloat16 activations and float32 variables.
    """

    def kernel(convolution: Convolution) -> dict[str, Any]:
        role = "depthwise" if convolution.depthwise else "kernel"
        options = {
            f"{role}_initializer": keras.initializers.TruncatedNormal(
                stddev=INIT_STDDEV, seed=zlib.crc32(f"{seed}/{convolution.scope}".encode())
            )
        }
        if not convolution.depthwise and config.weight_decay:
            options["kernel_regularizer"] = SlimL2(config.weight_decay)
        return options

    full, depthwise = layers.Conv2D, layers.DepthwiseConv2D
    if config.quantized:
        full, depthwise = QuantizedConv2D, QuantizedDepthwiseConv2D

    def rounded(x: Any, name: str) -> Any:
        """Where int8 will store a tensor: behind the activation that it computes with."""
        return QuantizedActivation(name=f"{name}_quantized")(x) if config.quantized else x

    def conv_bn(x: Any, convolution: Convolution) -> Any:
        name = layer_name(convolution.scope)
        make = depthwise if convolution.depthwise else full
        shape = () if convolution.depthwise else (convolution.out_channels,)
        x = make(
            *shape,
            kernel_size=convolution.kernel,
            strides=convolution.stride,
            dilation_rate=convolution.dilation,
            padding="same",
            use_bias=False,
            name=name,
            dtype=dtype,
            **kernel(convolution),
        )(x)
        x = batch_normalization(
            momentum=config.bn_momentum, epsilon=BN_EPSILON, name=f"{name}_BatchNorm", dtype=dtype
        )(x)
        x = x if convolution.linear else layers.ReLU(6.0, name=f"{name}_Relu6", dtype=dtype)(x)
        return rounded(x, name)

    images = keras.Input((resolution, resolution, 3), name="images")
    x = rounded(images, "images")
    for block in architecture.blocks:
        shortcut = x
        for convolution in block.convolutions:
            x = conv_bn(x, convolution)
        if block.residual:
            x = layers.Add(name=f"{layer_name(block.scope)}_add", dtype=dtype)([shortcut, x])
            x = rounded(x, f"{layer_name(block.scope)}_add")
    if not head:
        return keras.Model(images, x, name=architecture.scope)
    # Over the whole map; slim's kernel, which rounds otherwise than a mean does.
    x = layers.AveragePooling2D(x.shape[1:3], padding="valid", name="pool", dtype=dtype)(x)
    x = full(
        architecture.classifier.out_channels,
        1,
        name=layer_name(architecture.classifier.scope),
        dtype="float32",
        **kernel(architecture.classifier),
    )(x)
    return keras.Model(
        images, layers.Flatten(name="logits", dtype="float32")(x), name=architecture.scope
    )


def layer_name(scope: str) -> str:
    """The Keras layer of a slim scope; Keras allows no slash."""
    return scope.replace("/", "_")
