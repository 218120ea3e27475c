"""Whether a TF-Lite file holds the whole network: every operator and every weight."""

from __future__ import annotations

from collections import Counter

from pipeline.export.formats import litert
from preprocessing.errors import CheckFailedError
from training.models.layout import Architecture

BYTES_PER_WEIGHT = {
    "tflite_float32": 4,
    "tflite_float16": 2,
    "tflite_dynamic": 1,
    "tflite_int8": 1,
    "tflite_int8_signed": 1,
}
# Beside the weights: per channel a bias, a scale and a zero point in up to 24 bytes, and per
# tensor and operator what the flatbuffer says about them.
_BYTES_PER_CHANNEL = 24
_BYTES_PER_CONVOLUTION = 2048


def require_whole(name: str, flatbuffer: bytes, layout: Architecture, extra_bytes: int) -> None:
    """Refuse a file that lacks, or has too many, operators or weights.

    Args:
        name: Format.
        flatbuffer: The file.
        layout: The network it should be.
        extra_bytes: Of labels and other files inside.

    Raises:
        CheckFailedError: Says what is missing.
    """
    found, expected = litert.op_counts(flatbuffer), expected_ops(layout)
    wrong = [
        f"{found[op]} {op} instead of {count}"
        for op, count in expected.items()
        if found[op] != count
    ]
    if wrong:
        raise CheckFailedError(f"{name} holds {', '.join(wrong)}; nothing was exported")
    least, most = _size_range(name, layout)
    if not least <= len(flatbuffer) <= most + extra_bytes:
        raise CheckFailedError(
            f"{name} is {len(flatbuffer)} bytes, {layout.parameters} weights need between "
            f"{least} and {most + extra_bytes}; nothing was exported"
        )


def expected_ops(layout: Architecture) -> Counter[str]:
    """What the converter makes of a layout: BN and ReLU6 are folded into the convolutions."""
    convolutions = list(layout.convolutions())
    depthwise = sum(each.depthwise for each in convolutions)
    return Counter(
        {
            "CONV_2D": len(convolutions) - depthwise,
            "DEPTHWISE_CONV_2D": depthwise,
            "ADD": sum(block.residual for block in layout.blocks),
            "AVERAGE_POOL_2D": 1,
            "SOFTMAX": 1,
        }
    )


def _size_range(name: str, layout: Architecture) -> tuple[int, int]:
    weights = BYTES_PER_WEIGHT[name] * layout.parameters
    convolutions = list(layout.convolutions())
    channels = sum(each.out_channels for each in convolutions)
    overhead = _BYTES_PER_CHANNEL * channels + _BYTES_PER_CONVOLUTION * len(convolutions)
    # The dynamic-range converter leaves kernels of fewer than 1024 weights in float32.
    small = sum(
        each.num_weights for each in convolutions if each.num_weights < 1024 or each.depthwise
    )
    return weights, weights + overhead + 4 * small
