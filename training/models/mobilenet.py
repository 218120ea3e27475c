"""The Keras network of a layout, initialised, normalised and regularised as slim does."""

from __future__ import annotations

import contextlib
import contextvars
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

import keras
import tensorflow as tf
from keras import layers

from training.models.layout import Activation, Architecture, Block, Convolution
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
    """Normalise by the batch while the block runs, but leave the moving statistics alone."""
    token = _frozen.set(True)
    try:
        yield
    finally:
        _frozen.reset(token)


@keras.saving.register_keras_serializable("mobilenet")
class SlimL2(keras.regularizers.Regularizer):
    """`weight_decay * sum(w^2) / 2`, as in `slim.l2_regularizer`; Keras' own L2 has no half."""

    def __init__(self, weight_decay: float) -> None:
        self.weight_decay = weight_decay

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Return the scalar term of one kernel."""
        return self.weight_decay * tf.nn.l2_loss(x)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments, for Keras' serialisation."""
        return {"weight_decay": self.weight_decay}


@keras.saving.register_keras_serializable("mobilenet")
class FusedBatchNormalization(layers.BatchNormalization):
    """Batch normalisation by TensorFlow's fused kernel, as slim's `fused=True`.

    Normalises with the biased batch variance and feeds the moving variance the
    unbiased one; Keras' own layer feeds the biased one and is several times slower.
    Per replica: statistics are never exchanged in a step.
    """

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Normalise `[N, H, W, C]`."""
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


class NetworkSettings(Protocol):
    """The part of `ModelConfig` that the network depends on."""

    @property
    def bn_momentum(self) -> float:
        """Share that moving statistics keep in a step."""

    @property
    def weight_decay(self) -> float:
        """Factor of half the squared norm of the kernels."""

    @property
    def quantized(self) -> bool:
        """Whether kernels and activations are rounded as int8 will round them."""


def mobilenet(
    architecture: Architecture,
    config: NetworkSettings,
    *,
    resolution: int,
    seed: int = 0,
    batch_normalization: type[layers.BatchNormalization] = FusedBatchNormalization,
    dtype: str = "float32",
) -> keras.Model:
    """Build the network: `float32 [N, S, S, 3]` in [-1, 1] to logits `[N, outputs]`.

    Dropout is not part of the graph: `training.loop.step` applies it between the layers
    `pool` and `Logits_Conv2d_1c_1x1`, from a seed of its own.

    Args:
        architecture: The layout.
        config: Normalisation, weight decay and rounding.
        resolution: S, pixels.
        seed: Every kernel's initial value follows from it and the kernel's name.
        batch_normalization: The layer to use; plain Keras' for files that others load.
        dtype: Keras policy of all layers before the classifier: `float32`, or
            `mixed_bfloat16` for bfloat16 activations and float32 variables.
    """
    network = _Layers(config, seed, batch_normalization, dtype)
    images = keras.Input((resolution, resolution, 3), name="images")
    x = network.rounded(images, "images")
    for block in architecture.blocks:
        x = network.block(x, block)
    return keras.Model(images, network.logits(x, architecture), name=architecture.scope)


class _Layers:
    """Adds layers to a network, all with the same settings."""

    def __init__(
        self,
        config: NetworkSettings,
        seed: int,
        batch_normalization: type[layers.BatchNormalization],
        dtype: str,
    ) -> None:
        self._config = config
        self._seed = seed
        self._batch_normalization = batch_normalization
        self._dtype = dtype
        self._full, self._depthwise = layers.Conv2D, layers.DepthwiseConv2D
        if config.quantized:
            self._full, self._depthwise = QuantizedConv2D, QuantizedDepthwiseConv2D

    def block(self, x: tf.Tensor, block: Block) -> tf.Tensor:
        """Add a block with its residual connection, if it has one."""
        shortcut = x
        for convolution in block.convolutions:
            x = self.convolution(x, convolution)
            if convolution.depthwise and block.squeeze_excite:
                x = self.squeeze_excite(x, block)
        if block.residual:
            name = f"{layer_name(block.scope)}_add"
            x = layers.Add(name=name, dtype=self._dtype)([shortcut, x])
            x = self.rounded(x, name)
        return x

    def convolution(self, x: tf.Tensor, convolution: Convolution) -> tf.Tensor:
        """Add a convolution, its batch normalisation or bias, and its activation."""
        name = layer_name(convolution.scope)
        make = self._depthwise if convolution.depthwise else self._full
        shape = () if convolution.depthwise else (convolution.out_channels,)
        x = make(
            *shape,
            kernel_size=convolution.kernel,
            strides=convolution.stride,
            dilation_rate=convolution.dilation,
            padding="same",
            use_bias=convolution.bias,
            name=name,
            dtype=self._dtype,
            **self._kernel(convolution),
        )(x)
        if not convolution.bias:
            x = self._batch_normalization(
                momentum=self._config.bn_momentum,
                epsilon=BN_EPSILON,
                name=f"{name}_BatchNorm",
                dtype=self._dtype,
            )(x)
        if convolution.activation:
            x = _activation(convolution.activation, output_name(convolution), self._dtype)(x)
        return self.rounded(x, name)

    def squeeze_excite(self, x: tf.Tensor, block: Block) -> tf.Tensor:
        """Weight the channels of `x` by what the block's squeeze-and-excite makes of them."""
        name = layer_name(f"{block.scope}/squeeze_excite")
        weights = layers.AveragePooling2D(
            x.shape[1:3], padding="valid", name=f"{name}_pool", dtype=self._dtype
        )(x)
        for convolution in block.squeeze_excite or ():
            weights = self.convolution(weights, convolution)
        x = layers.Multiply(name=f"{name}_multiply", dtype=self._dtype)([x, weights])
        return self.rounded(x, f"{name}_multiply")

    def logits(self, x: tf.Tensor, architecture: Architecture) -> tf.Tensor:
        """Add the pool and the classifier."""
        # Over the whole map; slim's kernel, which rounds otherwise than a mean does.
        x = layers.AveragePooling2D(x.shape[1:3], padding="valid", name="pool", dtype=self._dtype)(
            x
        )
        x = self._full(
            architecture.classifier.out_channels,
            1,
            name=layer_name(architecture.classifier.scope),
            dtype="float32",
            **self._kernel(architecture.classifier),
        )(x)
        return layers.Flatten(name="logits", dtype="float32")(x)

    def rounded(self, x: tf.Tensor, name: str) -> tf.Tensor:
        """Round where int8 will store a tensor: behind the activation that it computes with."""
        return QuantizedActivation(name=f"{name}_quantized")(x) if self._config.quantized else x

    def _kernel(self, convolution: Convolution) -> dict[str, object]:
        """Return the initializer and the regularizer of a kernel, as Keras' arguments."""
        role = "depthwise" if convolution.depthwise else "kernel"
        options: dict[str, object] = {
            f"{role}_initializer": keras.initializers.TruncatedNormal(
                stddev=INIT_STDDEV, seed=zlib.crc32(f"{self._seed}/{convolution.scope}".encode())
            )
        }
        if not convolution.depthwise and self._config.weight_decay:
            options["kernel_regularizer"] = SlimL2(self._config.weight_decay)
        return options


def _activation(kind: Activation, name: str, dtype: str) -> layers.Layer:
    if kind == "relu6":
        return layers.ReLU(6.0, name=name, dtype=dtype)
    return layers.Activation(kind, name=name, dtype=dtype)


def output_name(convolution: Convolution) -> str:
    """Return the name of the last layer of a convolution, before any rounding."""
    name = layer_name(convolution.scope)
    if convolution.activation:
        return f"{name}_{convolution.activation.capitalize()}"
    return name if convolution.bias else f"{name}_BatchNorm"


def layer_name(scope: str) -> str:
    """Return the name of the Keras layer of a slim scope; Keras allows no slash."""
    return scope.replace("/", "_")
