"""MobileNetV2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks".

Table 2 of the paper; widths, names and dilation as in slim's `nets/mobilenet/mobilenet_v2.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from training.models.layout import (
    Architecture,
    Block,
    Strides,
    classifier,
    depthwise_convolution,
    full_convolution,
    round_channels,
    single,
)
from training.models.model_family import KerasApplication, ModelFamily, PublishedRow

if TYPE_CHECKING:
    import keras


class Stage(NamedTuple):
    """A row of table 2: expansion t, channels c, repeats n, first stride s."""

    expansion: int
    channels: int
    repeats: int
    stride: int


STEM_CHANNELS = 32
STAGES = (
    #     t   c    n  s     table 2, rows 2-8
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
LAST_CHANNELS = 1280


def layout(
    width_multiplier: float,
    num_outputs: int,
    strides: Strides,
    *,
    stages: Sequence[Stage] = STAGES,
) -> Architecture:
    """Return the network's convolutions, or those of one with other `stages`."""

    def width(channels: int) -> int:
        return round_channels(channels * width_multiplier)

    channels = width(STEM_CHANNELS)
    blocks = [single("Conv", 3, 3, channels, strides.spatial(2))]
    for stage in stages:
        for repeat in range(stage.repeats):
            scope = f"expanded_conv_{len(blocks) - 1}".removesuffix("_0")
            row = stage._replace(
                channels=width(stage.channels), stride=stage.stride if repeat == 0 else 1
            )
            blocks.append(_bottleneck(scope, channels, row, strides))
            channels = row.channels
    # Section 4: the last convolution is not narrowed when alpha < 1 (slim: finegrain mode).
    last_channels = max(LAST_CHANNELS, width(LAST_CHANNELS))
    blocks.append(single("Conv_1", 1, channels, last_channels, strides.pointwise()))
    return Architecture("MobilenetV2", tuple(blocks), classifier(last_channels, num_outputs))


def _bottleneck(scope: str, channels: int, row: Stage, strides: Strides) -> Block:
    inner = channels * row.expansion
    expand = full_convolution(f"{scope}/expand", 1, channels, inner, strides.pointwise())
    depthwise = depthwise_convolution(f"{scope}/depthwise", inner, strides.spatial(row.stride))
    project = full_convolution(
        f"{scope}/project", 1, inner, row.channels, strides.pointwise(), activation=None
    )
    # slim tests the layer's real stride, which dilation makes 1.
    residual = depthwise.stride == 1 and channels == row.channels
    convolutions = (expand, depthwise, project) if row.expansion > 1 else (depthwise, project)
    return Block(scope, convolutions, residual)


def _keras_application() -> Callable[..., keras.Model]:
    import keras

    build: Callable[..., keras.Model] = keras.applications.MobileNetV2
    return build


def _keras_layer_names(scope: str) -> tuple[str, str]:
    if scope == "Conv":
        return "Conv1", "bn_Conv1"
    if scope == "Conv_1":
        return "Conv_1", "Conv_1_bn"
    if scope.startswith("Logits"):
        return "predictions", ""
    block, part = scope.split("/")
    name = f"{block.replace('expanded_conv_', 'block_')}_{part}"
    return name, f"{name}_BN"


def _row(width: str, resolution: int, top1: float, top5: float, pixel1_ms: float) -> PublishedRow:
    return PublishedRow(
        width=width, resolution=resolution, top1=top1, top5=top5, pixel1_ms=pixel1_ms
    )


# slim's nets/mobilenet/README.md, in its order; 1.4 and 1.3 are published at 224 only.
PUBLISHED = (
    #               top-1 % top-5 % Pixel 1 ms
    _row("1.4", 224, 75.0, 92.5, 138.0),
    _row("1.3", 224, 74.4, 92.1, 123.0),
    _row("1.0", 224, 71.8, 91.0, 73.8),
    _row("1.0", 192, 70.7, 90.1, 55.1),
    _row("1.0", 160, 68.8, 89.0, 40.2),
    _row("1.0", 128, 65.3, 86.9, 27.6),
    _row("1.0", 96, 60.3, 83.2, 17.6),
    _row("0.75", 224, 69.8, 89.6, 55.8),
    _row("0.75", 192, 68.7, 88.9, 41.6),
    _row("0.75", 160, 66.4, 87.3, 30.4),
    _row("0.75", 128, 63.2, 85.3, 21.9),
    _row("0.75", 96, 58.8, 81.6, 14.2),
    _row("0.5", 224, 65.4, 86.4, 28.7),
    _row("0.5", 192, 63.9, 85.4, 21.1),
    _row("0.5", 160, 61.0, 83.2, 14.9),
    _row("0.5", 128, 57.7, 80.8, 9.9),
    _row("0.5", 96, 51.2, 75.8, 6.4),
    _row("0.35", 224, 60.3, 82.9, 19.7),
    _row("0.35", 192, 58.2, 81.2, 14.6),
    _row("0.35", 160, 55.7, 79.1, 10.5),
    _row("0.35", 128, 50.8, 75.0, 6.9),
    _row("0.35", 96, 45.5, 70.4, 4.5),
)

FAMILY = ModelFamily(
    name="mobilenet_v2",
    title="MobileNetV2",
    layout=layout,
    widths=("1.4", "1.3", "1.0", "0.75", "0.5", "0.35"),
    published=PUBLISHED,
    keras_application=KerasApplication(build=_keras_application, layer_names=_keras_layer_names),
)
