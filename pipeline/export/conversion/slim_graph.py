"""The network as a TF1 graph with slim's names: the frozen graph, the eval graph and .meta.

Ops and names are those of slim's `export_inference_graph.py` and `eval_image_classifier.py`:
`input:0` in, `MobilenetV2/Predictions/Reshape_1:0` out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from training.models.layout import Activation, Architecture, Block, Convolution
from training.models.mobilenet import BN_EPSILON
from training.weights.slim_checkpoint import SHADOW

INPUT = "input:0"  # float32 [N, S, S, 3] in [-1, 1]
Parameter = Callable[[str], tf.Tensor]  # from a slim name to a tensor


def output_name(layout: Architecture) -> str:
    """Return the name of the tensor of probabilities `float32 [N, outputs]`."""
    return f"{layout.scope}/Predictions/Reshape_1:0"


def frozen_graph(
    layout: Architecture, resolution: int, values: Mapping[str, np.ndarray]
) -> tf.compat.v1.GraphDef:
    """Return the graph with its weights as constants.

    Args:
        layout: The network's layers.
        resolution: S, pixels.
        values: The weights by slim name.
    """
    with tf.Graph().as_default() as graph:
        _network(layout, resolution, lambda name: tf.constant(values[name], name=name))
    return graph.as_graph_def()


def eval_graph(
    layout: Architecture, resolution: int, values: Mapping[str, np.ndarray], *, averaged: bool
) -> tf.compat.v1.MetaGraphDef:
    """Return the graph with variables and a Saver that restores them from a checkpoint.

    Args:
        layout: The network's layers.
        resolution: S, pixels.
        values: Arrays with the variables' shapes, by slim name.
        averaged: Whether the Saver reads the moving averages, as slim's evaluation does.
    """
    variables: dict[str, Any] = {}

    def variable(name: str) -> tf.Tensor:
        created = tf.compat.v1.get_variable(name, values[name].shape, use_resource=False)
        variables[name + SHADOW * averaged] = created
        return created

    with tf.Graph().as_default():
        _network(layout, resolution, variable)
        return tf.compat.v1.train.Saver(variables).export_meta_graph()


def _network(layout: Architecture, resolution: int, parameter: Parameter) -> None:
    """Add the whole network to the default graph."""
    x = tf.compat.v1.placeholder(tf.float32, [None, resolution, resolution, 3], name="input")
    for block in layout.blocks:
        x = _block(x, layout.scope, block, parameter)
    logits = _logits(x, layout, parameter)
    scope = f"{layout.scope}/Predictions"
    flat = tf.reshape(logits, [-1, logits.shape[1]], name=f"{scope}/Reshape")
    softmax = tf.nn.softmax(flat, name=f"{scope}/Softmax")
    tf.reshape(softmax, tf.shape(logits, name=f"{scope}/Shape"), name=f"{scope}/Reshape_1")


def _block(x: tf.Tensor, root: str, block: Block, parameter: Parameter) -> tf.Tensor:
    shortcut = x
    for convolution in block.convolutions:
        x = _layer(x, root, convolution, parameter)
        if convolution.depthwise and block.squeeze_excite:
            x = _squeeze_excite(x, root, block, parameter)
    return tf.add(shortcut, x, name=f"{root}/{block.scope}/add") if block.residual else x


def _squeeze_excite(x: tf.Tensor, root: str, block: Block, parameter: Parameter) -> tf.Tensor:
    scope = f"{root}/{block.scope}/squeeze_excite"
    weights = tf.nn.avg_pool2d(x, x.shape[1:3], 1, "VALID", name=f"{scope}/AvgPool")
    for convolution in block.squeeze_excite or ():
        weights = _layer(weights, root, convolution, parameter)
    return tf.multiply(x, weights, name=f"{scope}/mul")


def _layer(x: tf.Tensor, root: str, convolution: Convolution, parameter: Parameter) -> tf.Tensor:
    """Add a convolution, its batch normalisation or bias, and its activation."""
    scope = f"{root}/{convolution.scope}"
    x = _convolution(x, scope, convolution, parameter)
    if convolution.bias:
        x = tf.nn.bias_add(x, parameter(f"{scope}/biases"), name=f"{scope}/BiasAdd")
    else:
        x, *_ = tf.raw_ops.FusedBatchNorm(  # V1, because the readers of that time do not know V3
            x=x,
            scale=parameter(f"{scope}/BatchNorm/gamma"),
            offset=parameter(f"{scope}/BatchNorm/beta"),
            mean=parameter(f"{scope}/BatchNorm/moving_mean"),
            variance=parameter(f"{scope}/BatchNorm/moving_variance"),
            epsilon=BN_EPSILON,
            is_training=False,
            name=f"{scope}/BatchNorm/FusedBatchNorm",
        )
    return _activated(x, scope, convolution.activation)


def _activated(x: tf.Tensor, scope: str, activation: Activation | None) -> tf.Tensor:
    if activation is None:
        return x
    if activation == "relu6":
        return tf.nn.relu6(x, name=f"{scope}/Relu6")
    if activation == "relu":
        return tf.nn.relu(x, name=f"{scope}/Relu")
    gate = tf.multiply(tf.nn.relu6(x + 3.0), 1.0 / 6.0, name=f"{scope}/hard_sigmoid")
    return gate if activation == "hard_sigmoid" else tf.multiply(x, gate, f"{scope}/hard_swish")


def _convolution(
    x: tf.Tensor, scope: str, convolution: Convolution, parameter: Parameter
) -> tf.Tensor:
    strides = [1, convolution.stride, convolution.stride, 1]
    dilations = [convolution.dilation] * 2
    if convolution.depthwise:
        return tf.nn.depthwise_conv2d(
            x,
            parameter(f"{scope}/depthwise_weights"),
            strides,
            "SAME",
            dilations=dilations,
            name=f"{scope}/depthwise",
        )
    return tf.nn.conv2d(
        x,
        parameter(f"{scope}/weights"),
        strides,
        "SAME",
        dilations=dilations,
        name=f"{scope}/Conv2D",
    )


def _logits(x: tf.Tensor, layout: Architecture, parameter: Parameter) -> tf.Tensor:
    """Add the classifier, from the last map to logits `[N, outputs]`."""
    logits = f"{layout.scope}/Logits"
    x = tf.nn.avg_pool2d(x, x.shape[1:3], 1, "VALID", name=f"{logits}/AvgPool")
    x = _layer(x, layout.scope, layout.classifier, parameter)
    return tf.squeeze(x, [1, 2], name=f"{logits}/Squeeze")
