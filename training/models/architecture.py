"""The architecture of a variant: its convolutions and their cost."""

from __future__ import annotations

from preprocessing.errors import UsageError
from training.models.layout import Architecture, Strides
from training.models.variants import Variant

OUTPUT_STRIDES = (8, 16, 32)


def architecture(variant: Variant, num_outputs: int, output_stride: int = 32) -> Architecture:
    """Return the layout of `variant`.

    Args:
        variant: Family, width and resolution.
        num_outputs: Outputs of the classifier, background included.
        output_stride: Side of the input over the side of the last map: 8, 16 or 32. Below 32,
            the layers that would have gone further keep their stride at 1 and dilate instead.

    Raises:
        UsageError: `output_stride` is another one.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise UsageError(f"output stride must be one of {OUTPUT_STRIDES}, got {output_stride}")
    strides = Strides(variant.resolution, output_stride)
    return variant.model_family.layout(variant.width_multiplier, num_outputs, strides)
