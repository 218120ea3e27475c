"""A model family that only tests know: one bottleneck with squeeze-and-excite and hard swish."""

from __future__ import annotations

from training.models.layout import (
    Architecture,
    Block,
    Strides,
    classifier,
    depthwise_convolution,
    full_convolution,
    single,
    squeeze_excite,
)
from training.models.model_family import ModelFamily, PublishedRow

CHANNELS = 16


def layout(width_multiplier: float, num_outputs: int, strides: Strides) -> Architecture:
    """Return the layers, of kinds that future families may have."""
    channels = int(CHANNELS * width_multiplier)
    stem = single("Conv", 3, 3, channels, strides.spatial(2))
    depthwise = depthwise_convolution(
        "block/depthwise", channels, strides.spatial(1), kernel=5, activation="hard_swish"
    )
    project = full_convolution(
        "block/project", 1, channels, channels, strides.pointwise(), activation=None
    )
    block = Block(
        "block",
        (depthwise, project),
        residual=True,
        squeeze_excite=squeeze_excite("block", channels, 4),
    )
    return Architecture("Tiny", (stem, block), classifier(channels, num_outputs))


TINY = ModelFamily(
    name="tiny",
    title="Tiny",
    layout=layout,
    widths=("1.0", "0.5"),
    published=(PublishedRow(width="1.0", resolution=32, top1=1.0, top5=5.0),),
    model_settings={"dropout": 0.001},
)
