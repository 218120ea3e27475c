"""MobileNetV1: Howard et al., "MobileNets: Efficient CNNs for Mobile Vision Applications".

Table 1 of the paper; widths, names and dilation as in slim's `nets/mobilenet_v1.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from training.models.layout import (
    Architecture,
    Block,
    Strides,
    classifier,
    depthwise_convolution,
    full_convolution,
    single,
)
from training.models.model_family import KerasApplication, ModelFamily, PublishedRow

if TYPE_CHECKING:
    import keras


class Separable(NamedTuple):
    """A row of table 1: depthwise stride s, pointwise channels c."""

    stride: int
    channels: int


STEM_CHANNELS = 32
LAYERS = (
    #         s   c      table 1, below the first convolution
    Separable(1, 64),
    Separable(2, 128),
    Separable(1, 128),
    Separable(2, 256),
    Separable(1, 256),
    Separable(2, 512),
    *[Separable(1, 512)] * 5,
    Separable(2, 1024),
    Separable(1, 1024),
)


def layout(width_multiplier: float, num_outputs: int, strides: Strides) -> Architecture:
    """Return the network's convolutions."""

    def width(channels: int) -> int:
        return max(8, int(channels * width_multiplier))

    channels = width(STEM_CHANNELS)
    blocks = [single("Conv2d_0", 3, 3, channels, strides.spatial(2))]
    for number, layer in enumerate(LAYERS, start=1):
        scope, out_channels = f"Conv2d_{number}", width(layer.channels)
        depthwise = depthwise_convolution(
            f"{scope}_depthwise", channels, strides.spatial(layer.stride)
        )
        pointwise = full_convolution(
            f"{scope}_pointwise", 1, channels, out_channels, strides.pointwise()
        )
        blocks.append(Block(scope, (depthwise, pointwise)))
        channels = out_channels
    return Architecture("MobilenetV1", tuple(blocks), classifier(channels, num_outputs))


def _keras_application() -> Callable[..., keras.Model]:
    import keras

    build: Callable[..., keras.Model] = keras.applications.MobileNet
    return build


def _keras_layer_names(scope: str) -> tuple[str, str]:
    if scope == "Conv2d_0":
        return "conv1", "conv1_bn"
    if scope.startswith("Logits"):
        return "conv_preds", ""
    _, number, kind = scope.split("_")
    name = f"conv_{'dw' if kind == 'depthwise' else 'pw'}_{number}"
    return name, f"{name}_bn"


def _row(
    width: str, resolution: int, macs_millions: int, parameters_millions: float, *top: float
) -> PublishedRow:
    top1, top5 = top
    return PublishedRow(
        width=width,
        resolution=resolution,
        macs_millions=macs_millions,
        parameters_millions=parameters_millions,
        top1=top1,
        top5=top5,
    )


# slim's nets/mobilenet_v1.md, in its order. Its MACs were rounded by hand: six of them are not
# what the code computes.
PUBLISHED = (
    #           MACs M  parameters M  top-1 %  top-5 %
    _row("1.0", 224, 569, 4.24, 70.9, 89.9),
    _row("1.0", 192, 418, 4.24, 70.0, 89.2),
    _row("1.0", 160, 291, 4.24, 68.0, 87.7),
    _row("1.0", 128, 186, 4.24, 65.2, 85.8),
    _row("0.75", 224, 317, 2.59, 68.4, 88.2),
    _row("0.75", 192, 233, 2.59, 67.2, 87.3),
    _row("0.75", 160, 162, 2.59, 65.3, 86.0),
    _row("0.75", 128, 104, 2.59, 62.1, 83.9),
    _row("0.5", 224, 150, 1.34, 63.3, 84.9),
    _row("0.5", 192, 110, 1.34, 61.7, 83.6),
    _row("0.5", 160, 77, 1.34, 59.1, 81.9),
    _row("0.5", 128, 49, 1.34, 56.3, 79.4),
    _row("0.25", 224, 41, 0.47, 49.8, 74.2),
    _row("0.25", 192, 34, 0.47, 47.7, 72.3),
    _row("0.25", 160, 21, 0.47, 45.5, 70.3),
    _row("0.25", 128, 14, 0.47, 41.5, 66.3),
)

FAMILY = ModelFamily(
    name="mobilenet_v1",
    title="MobileNetV1",
    layout=layout,
    widths=("1.0", "0.75", "0.5", "0.25"),
    published=PUBLISHED,
    keras_application=KerasApplication(build=_keras_application, layer_names=_keras_layer_names),
    # Two constants of its arg scope in slim's nets/mobilenet_v1.py.
    model_settings={"dropout": 0.001, "bn_momentum": 0.9997},
)
