"""MobileNetV1 and V2 as lists of convolutions, which the networks and the counts both follow.

V1: Howard et al., "MobileNets", table 1. V2: Sandler et al., "MobileNetV2: Inverted
Residuals and Linear Bottlenecks", table 2. Widths, names and dilation as in slim's
`nets/mobilenet_v1.py`, `nets/mobilenet/mobilenet_v2.py`, `mobilenet.py` and `conv_blocks.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, NotRequired, TypedDict

from preprocessing.errors import UsageError
from training.models.variants import Variant

OUTPUT_STRIDES = (8, 16, 32)


class Separable(NamedTuple):
    """A row of V1's table 1: depthwise stride s, pointwise channels c."""

    stride: int
    channels: int


class Stage(NamedTuple):
    """A row of V2's table 2: expansion t, channels c, repeats n, first stride s."""

    expansion: int
    channels: int
    repeats: int
    stride: int


V1_LAYERS = (
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
V2_STAGES = (
    #     t   c    n  s     table 2, rows 2-8
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
STEM_CHANNELS = 32  # of both
V2_LAST_CHANNELS = 1280


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution, its slim scope and what it costs.

    Attributes:
        scope: Below `MobilenetV2/`, e.g. `expanded_conv_3/expand`.
        output_size: Side of the square output map, pixels.
        linear: No activation behind it.
    """

    scope: str
    kernel: int
    stride: int
    in_channels: int
    out_channels: int
    output_size: int
    dilation: int = 1
    depthwise: bool = False
    linear: bool = False

    @property
    def num_weights(self) -> int:
        """Kernel weights, without bias."""
        per_output = self.kernel**2 * (1 if self.depthwise else self.in_channels)
        return per_output * self.out_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.num_weights * self.output_size**2


class Place(TypedDict):
    """Where in the network a convolution stands, as `Convolution` takes it."""

    stride: int
    output_size: int
    dilation: NotRequired[int]


class Block(NamedTuple):
    """Convolutions in a row; with `residual`, their input is added to their output."""

    scope: str
    convolutions: tuple[Convolution, ...]
    residual: bool = False


@dataclass(frozen=True, slots=True)
class Architecture:
    """The whole network: `scope` is slim's, `classifier` follows the average pool."""

    scope: str
    blocks: tuple[Block, ...]
    classifier: Convolution

    def convolutions(self) -> Iterator[Convolution]:
        """All kernels in the order of computation."""
        for block in self.blocks:
            yield from block.convolutions
        yield self.classifier

    @property
    def macs(self) -> int:
        """Multiply-accumulates as the published tables count them.

        Convolutions, depthwise and classifier kernels only: no bias, BN, pooling or
        additions. V2's table truncates to whole millions.
        """
        return sum(each.macs for each in self.convolutions())

    @property
    def parameters(self) -> int:
        """Kernel weights, as V2's table counts parameters: no bias, no BN."""
        return sum(each.num_weights for each in self.convolutions())

    @property
    def trainable(self) -> int:
        """Numbers that training changes: kernels, BN's scale and offset, the classifier's bias.

        Also what a gradient all-reduce sums, one float32 each.
        """
        normalised = [each for block in self.blocks for each in block.convolutions]
        scales = sum(2 * each.out_channels for each in normalised)
        return self.parameters + scales + self.classifier.out_channels


def architecture(variant: Variant, num_outputs: int, output_stride: int = 32) -> Architecture:
    """Lay out `variant`.

    Args:
        variant: Family, width and resolution.
        num_outputs: Of the classifier, background included.
        output_stride: Input side over the last map's side: 8, 16 or 32. Below 32, the
            layers that would have gone further keep their stride at 1 and dilate instead.

    Raises:
        UsageError: Another output stride.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise UsageError(f"output stride must be one of {OUTPUT_STRIDES}, got {output_stride}")
    layout = {"mobilenet_v1": _v1, "mobilenet_v2": _v2}[variant.family]
    return layout(variant, num_outputs, _Strides(variant.resolution, output_stride))


def round_channels(channels: float, divisor: int = 8) -> int:
    """Nearest multiple of `divisor`, at least `divisor`, never more than 10 % below.

    slim's `conv_blocks._make_divisible`.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class _Strides:
    """Turns nominal strides into real ones, dilation and map sizes, from input to output."""

    def __init__(self, resolution: int, output_stride: int) -> None:
        self.size = resolution
        self._left = output_stride
        self._dilation = 1

    def spatial(self, stride: int) -> Place:
        """Of the next 3x3 convolution; slim multiplies the rate only after the layer."""
        dilation = 1
        if self._left == 1:
            dilation = self._dilation
            self._dilation *= stride
            stride = 1
        self._left //= stride
        self.size //= stride
        return {"stride": stride, "dilation": dilation, "output_size": self.size}

    def pointwise(self) -> Place:
        """Of the next 1x1 convolution, which never strides nor dilates."""
        return {"stride": 1, "output_size": self.size}


def _v1(variant: Variant, num_outputs: int, strides: _Strides) -> Architecture:
    def width(channels: int) -> int:
        return max(8, int(channels * variant.width_multiplier))

    channels = width(STEM_CHANNELS)
    blocks = [_single("Conv2d_0", 3, 3, channels, strides.spatial(2))]
    for number, layer in enumerate(V1_LAYERS, start=1):
        scope, out_channels = f"Conv2d_{number}", width(layer.channels)
        depthwise = _depthwise(f"{scope}_depthwise", channels, strides.spatial(layer.stride))
        pointwise = _full(f"{scope}_pointwise", 1, channels, out_channels, strides.pointwise())
        blocks.append(Block(scope, (depthwise, pointwise)))
        channels = out_channels
    return Architecture("MobilenetV1", tuple(blocks), _classifier(channels, num_outputs))


def _v2(variant: Variant, num_outputs: int, strides: _Strides) -> Architecture:
    def width(channels: int) -> int:
        return round_channels(channels * variant.width_multiplier)

    channels = width(STEM_CHANNELS)
    blocks = [_single("Conv", 3, 3, channels, strides.spatial(2))]
    for stage in V2_STAGES:
        for repeat in range(stage.repeats):
            scope = f"expanded_conv_{len(blocks) - 1}".removesuffix("_0")
            stride = stage.stride if repeat == 0 else 1
            out_channels = width(stage.channels)
            blocks.append(
                _bottleneck(scope, channels, out_channels, stage.expansion, stride, strides)
            )
            channels = out_channels
    # Section 4: the last convolution is not narrowed when alpha < 1 (slim: finegrain mode).
    last_channels = max(V2_LAST_CHANNELS, width(V2_LAST_CHANNELS))
    blocks.append(_single("Conv_1", 1, channels, last_channels, strides.pointwise()))
    return Architecture("MobilenetV2", tuple(blocks), _classifier(last_channels, num_outputs))


def _bottleneck(
    scope: str, channels: int, out_channels: int, expansion: int, stride: int, strides: _Strides
) -> Block:
    inner = channels * expansion
    expand = _full(f"{scope}/expand", 1, channels, inner, strides.pointwise())
    depthwise = _depthwise(f"{scope}/depthwise", inner, strides.spatial(stride))
    project = _full(f"{scope}/project", 1, inner, out_channels, strides.pointwise(), linear=True)
    # slim tests the layer's real stride, which dilation makes 1.
    residual = depthwise.stride == 1 and channels == out_channels
    convolutions = (expand, depthwise, project) if expansion > 1 else (depthwise, project)
    return Block(scope, convolutions, residual)


def _single(scope: str, kernel: int, channels: int, out_channels: int, place: Place) -> Block:
    return Block(scope, (_full(scope, kernel, channels, out_channels, place),))


def _full(
    scope: str,
    kernel: int,
    channels: int,
    out_channels: int,
    place: Place,
    linear: bool = False,
) -> Convolution:
    """An ordinary convolution, over all input channels."""
    return Convolution(
        scope=scope,
        kernel=kernel,
        in_channels=channels,
        out_channels=out_channels,
        linear=linear,
        **place,
    )


def _depthwise(scope: str, channels: int, place: Place) -> Convolution:
    return Convolution(
        scope=scope,
        kernel=3,
        in_channels=channels,
        out_channels=channels,
        depthwise=True,
        **place,
    )


def _classifier(channels: int, num_outputs: int) -> Convolution:
    place = Place(stride=1, output_size=1)
    return _full("Logits/Conv2d_1c_1x1", 1, channels, num_outputs, place, linear=True)
