"""A check that a TF-Lite file holds the whole network: every operator and every weight."""

from __future__ import annotations

from collections import Counter

from pipeline.export.conversion import litert
from preprocessing.errors import CheckFailedError
from training.models.layout import Architecture

# Besides the weights, a channel has a bias, a scale and a zero point in up to 24 bytes, and every
# tensor and operator has its description in the flatbuffer.
_BYTES_PER_CHANNEL = 24
_BYTES_PER_CONVOLUTION = 2048


def require_whole(
    name: str,
    flatbuffer: bytes,
    layout: Architecture,
    *,
    bytes_per_weight: int,
    extra_bytes: int,
) -> None:
    """Refuse a file with too few or too many operators or weights.

    Args:
        name: The format.
        flatbuffer: The file.
        layout: The network that the file should hold.
        bytes_per_weight: The size of a weight in this format.
        extra_bytes: The size of labels and other files inside.

    Raises:
        CheckFailedError: Something is missing; the message says what.
    """
    op_counts, expected = litert.op_counts(flatbuffer), expected_ops(layout)
    wrong = [
        f"{op_counts[op]} {op} instead of {count}"
        for op, count in expected.items()
        if op_counts[op] != count
    ]
    if wrong:
        raise CheckFailedError(f"{name} holds {', '.join(wrong)}; nothing was exported")
    least, most = _size_range(bytes_per_weight, layout)
    if not least <= len(flatbuffer) <= most + extra_bytes:
        raise CheckFailedError(
            f"{name} is {len(flatbuffer)} bytes, {layout.parameters} weights need between "
            f"{least} and {most + extra_bytes}; nothing was exported"
        )


def expected_ops(layout: Architecture) -> Counter[str]:
    """Return the operators of a layout; the converter folds BN and ReLU6 into convolutions."""
    convolutions = list(layout.convolutions())
    depthwise = sum(convolution.depthwise for convolution in convolutions)
    return Counter(
        {
            "CONV_2D": len(convolutions) - depthwise,
            "DEPTHWISE_CONV_2D": depthwise,
            "ADD": sum(block.residual for block in layout.blocks),
            "AVERAGE_POOL_2D": 1,
            "SOFTMAX": 1,
        }
    )


def _size_range(bytes_per_weight: int, layout: Architecture) -> tuple[int, int]:
    """Return the smallest and largest plausible size of a file in bytes."""
    weights = bytes_per_weight * layout.parameters
    convolutions = list(layout.convolutions())
    channels = sum(convolution.out_channels for convolution in convolutions)
    overhead = _BYTES_PER_CHANNEL * channels + _BYTES_PER_CONVOLUTION * len(convolutions)
    # The dynamic-range converter leaves kernels of fewer than 1024 weights in float32.
    small = sum(
        convolution.num_weights
        for convolution in convolutions
        if convolution.num_weights < 1024 or convolution.depthwise
    )
    return weights, weights + overhead + 4 * small
