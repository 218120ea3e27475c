"""Layouts: a network as a list of convolutions, which the Keras network and the counts follow.

Scopes, widths and dilation are those of slim's `nets/mobilenet/mobilenet.py` and
`conv_blocks.py`. What distinguishes one family from another is in its own module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, NotRequired, TypedDict

Activation = Literal["relu6", "relu", "hard_swish", "hard_sigmoid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Convolution:
    """One convolution, its slim scope and what it costs.

    Attributes:
        scope: Below the network's scope, for example `expanded_conv_3/expand`.
        output_size: Side of the square output map, pixels.
        activation: What follows; None for a linear convolution.
        bias: Whether a bias is added instead of a batch normalisation.
    """

    scope: str
    kernel: int
    stride: int
    in_channels: int
    out_channels: int
    output_size: int
    dilation: int = 1
    depthwise: bool = False
    activation: Activation | None = "relu6"
    bias: bool = False

    @property
    def linear(self) -> bool:
        """Whether no activation follows."""
        return self.activation is None

    @property
    def num_weights(self) -> int:
        """Number of kernel weights, without bias."""
        per_output = self.kernel**2 * (1 if self.depthwise else self.in_channels)
        return per_output * self.out_channels

    @property
    def num_trainable(self) -> int:
        """Number of kernel weights and of biases, or of BN's scales and offsets."""
        return self.num_weights + (1 if self.bias else 2) * self.out_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.num_weights * self.output_size**2


class Place(TypedDict):
    """The place of a convolution in the network, in the form that `Convolution` takes."""

    stride: int
    output_size: int
    dilation: NotRequired[int]


class SqueezeExcite(NamedTuple):
    """Channel weights from the average of each channel: reduce, expand, multiply.

    Hu et al., "Squeeze-and-Excitation Networks". Both convolutions have a bias.
    """

    reduce: Convolution
    expand: Convolution


class Block(NamedTuple):
    """Convolutions in a row; with `residual`, their input is added to their output.

    With `squeeze_excite`, the output of the depthwise convolution is weighted by channel.
    """

    scope: str
    convolutions: tuple[Convolution, ...]
    residual: bool = False
    squeeze_excite: SqueezeExcite | None = None


@dataclass(frozen=True, slots=True)
class Architecture:
    """The whole network: `scope` is slim's, `classifier` follows the average pool."""

    scope: str
    blocks: tuple[Block, ...]
    classifier: Convolution

    def convolutions(self) -> Iterator[Convolution]:
        """Return all convolutions in the order of computation."""
        for block in self.blocks:
            for convolution in block.convolutions:
                yield convolution
                if convolution.depthwise and block.squeeze_excite:
                    yield from block.squeeze_excite
        yield self.classifier

    @property
    def macs(self) -> int:
        """Multiply-accumulates as the published tables count them.

        Convolutions, depthwise and classifier kernels only: no bias, BN, pooling or
        additions. V2's table truncates to whole millions.
        """
        return sum(convolution.macs for convolution in self.convolutions())

    @property
    def parameters(self) -> int:
        """Number of kernel weights, as V2's table counts parameters: no bias, no BN."""
        return sum(convolution.num_weights for convolution in self.convolutions())

    @property
    def trainable(self) -> int:
        """Number of values that training changes: kernels, BN's scale and offset, biases.

        A gradient all-reduce sums as many float32 numbers.
        """
        return sum(convolution.num_trainable for convolution in self.convolutions())


class Strides:
    """Turns nominal strides into real ones, dilation and map sizes, from input to output.

    Args:
        resolution: Side of the input, pixels.
        output_stride: Side of the input over the side of the last map: 8, 16 or 32.
    """

    def __init__(self, resolution: int, output_stride: int) -> None:
        self.size = resolution
        self._left = output_stride
        self._dilation = 1

    def spatial(self, stride: int) -> Place:
        """Place the next 3x3 convolution; slim multiplies the rate only after the layer."""
        dilation = 1
        if self._left == 1:
            dilation = self._dilation
            self._dilation *= stride
            stride = 1
        self._left //= stride
        self.size //= stride
        return {"stride": stride, "dilation": dilation, "output_size": self.size}

    def pointwise(self) -> Place:
        """Place the next 1x1 convolution, which never strides nor dilates."""
        return {"stride": 1, "output_size": self.size}


def round_channels(channels: float, divisor: int = 8) -> int:
    """Return the nearest multiple of `divisor`, at least `divisor`, never more than 10 % below.

    slim's `conv_blocks._make_divisible`.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def full_convolution(
    scope: str,
    kernel: int,
    channels: int,
    out_channels: int,
    place: Place,
    *,
    activation: Activation | None = "relu6",
    bias: bool = False,
) -> Convolution:
    """Return an ordinary convolution, over all input channels."""
    return Convolution(
        scope=scope,
        kernel=kernel,
        in_channels=channels,
        out_channels=out_channels,
        activation=activation,
        bias=bias,
        **place,
    )


def depthwise_convolution(
    scope: str, channels: int, place: Place, *, kernel: int = 3, activation: Activation = "relu6"
) -> Convolution:
    """Return a convolution of each channel by itself."""
    return Convolution(
        scope=scope,
        kernel=kernel,
        in_channels=channels,
        out_channels=channels,
        depthwise=True,
        activation=activation,
        **place,
    )


def single(scope: str, kernel: int, channels: int, out_channels: int, place: Place) -> Block:
    """Return a block of one ordinary convolution."""
    return Block(scope, (full_convolution(scope, kernel, channels, out_channels, place),))


def squeeze_excite(scope: str, channels: int, reduced: int) -> SqueezeExcite:
    """Return the two convolutions of a block's squeeze-and-excite, under slim's scopes.

    Args:
        scope: The block's scope.
        channels: Channels of the depthwise convolution.
        reduced: Channels between the two convolutions.
    """
    place = Place(stride=1, output_size=1)
    scope = f"{scope}/squeeze_excite"
    return SqueezeExcite(
        full_convolution(
            f"{scope}/Conv", 1, channels, reduced, place, activation="relu", bias=True
        ),
        full_convolution(
            f"{scope}/Conv_1", 1, reduced, channels, place, activation="hard_sigmoid", bias=True
        ),
    )


def classifier(channels: int, num_outputs: int) -> Convolution:
    """Return the convolution that makes logits of the pooled features."""
    place = Place(stride=1, output_size=1)
    scope = "Logits/Conv2d_1c_1x1"
    return full_convolution(scope, 1, channels, num_outputs, place, activation=None, bias=True)
