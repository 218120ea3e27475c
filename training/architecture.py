"""MobileNetV2 as a list of convolutions: one walk that both the network and the counts follow.

Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 2;
widths and names as in slim's `nets/mobilenet/mobilenet_v2.py` and `conv_blocks.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from training.variants import Variant


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of table 2: expansion t, channels c, repeats n, first stride s."""

    expansion: int
    channels: int
    repeats: int
    stride: int


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
STEM_CHANNELS = 32
LAST_CHANNELS = 1280


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution, its slim scope and what it costs.

    Attributes:
        scope: Below `MobilenetV2/`, e.g. `expanded_conv_3/expand`.
        output_size: Side of the square output map, pixels.
    """

    scope: str
    kernel: int
    stride: int
    in_channels: int
    out_channels: int
    output_size: int
    depthwise: bool = False

    @property
    def num_weights(self) -> int:
        """Kernel weights, without bias."""
        per_output = self.kernel**2 * (1 if self.depthwise else self.in_channels)
        return per_output * self.out_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.num_weights * self.output_size**2


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """An inverted residual block; `expand` is None where t is 1."""

    expand: Convolution | None
    depthwise: Convolution
    project: Convolution
    residual: bool

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """In the order of computation."""
        inner = (self.depthwise, self.project)
        return (self.expand, *inner) if self.expand else inner


@dataclass(frozen=True, slots=True)
class Architecture:
    """The whole network, stem to classifier."""

    stem: Convolution
    blocks: tuple[Bottleneck, ...]
    last: Convolution
    classifier: Convolution

    def convolutions(self) -> Iterator[Convolution]:
        """All 53 kernels in the order of computation."""
        yield self.stem
        for block in self.blocks:
            yield from block.convolutions
        yield self.last
        yield self.classifier

    @property
    def macs(self) -> int:
        """Multiply-accumulates as the published table counts them.

        Convolutions, depthwise and classifier kernels only: no bias, BN, pooling or
        additions. The table truncates to whole millions.
        """
        return sum(each.macs for each in self.convolutions())

    @property
    def parameters(self) -> int:
        """Kernel weights as the published table counts them: no bias, no BN."""
        return sum(each.num_weights for each in self.convolutions())


def round_channels(channels: float, divisor: int = 8) -> int:
    """Nearest multiple of `divisor`, at least `divisor`, never more than 10 % below.

    slim's `conv_blocks._make_divisible`.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def architecture(variant: Variant, num_classes: int) -> Architecture:
    """Lay out `variant` with `num_classes` outputs, background included."""

    def width(channels: int) -> int:
        return round_channels(channels * variant.width_multiplier)

    size = variant.resolution // 2
    channels = width(STEM_CHANNELS)
    stem = Convolution("Conv", 3, 2, 3, channels, size)
    blocks: list[Bottleneck] = []
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            scope = f"expanded_conv_{len(blocks)}" if blocks else "expanded_conv"
            block = _bottleneck(
                scope, channels, width(stage.channels), stage.expansion, stride, size
            )
            blocks.append(block)
            channels, size = block.project.out_channels, block.project.output_size
    # Section 4: the last convolution is not narrowed when alpha < 1 (slim: finegrain mode).
    last_channels = max(LAST_CHANNELS, width(LAST_CHANNELS))
    return Architecture(
        stem=stem,
        blocks=tuple(blocks),
        last=Convolution("Conv_1", 1, 1, channels, last_channels, size),
        classifier=Convolution("Logits/Conv2d_1c_1x1", 1, 1, last_channels, num_classes, 1),
    )


def _bottleneck(
    scope: str, channels: int, out_channels: int, expansion: int, stride: int, size: int
) -> Bottleneck:
    inner = channels * expansion
    out_size = size // stride
    return Bottleneck(
        expand=Convolution(f"{scope}/expand", 1, 1, channels, inner, size)
        if expansion > 1
        else None,
        depthwise=Convolution(f"{scope}/depthwise", 3, stride, inner, inner, out_size, True),
        project=Convolution(f"{scope}/project", 1, 1, inner, out_channels, out_size),
        residual=stride == 1 and channels == out_channels,
    )
