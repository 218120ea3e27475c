"""The network is the paper's, and its counts are those of the published table."""

from __future__ import annotations

import pytest

from preprocessing.errors import UsageError
from training.models.architecture import architecture
from training.models.variants import Variant, published_variants

# MACs in millions and parameters in millions of slim's nets/mobilenet/README.md, row by row.
PUBLISHED = {
    "1.4": ([582], 6.06),
    "1.3": ([509], 5.34),
    "1.0": ([300, 221, 154, 99, 56], 3.47),
    "0.75": ([209, 153, 107, 69, 39], 2.61),
    "0.5": ([97, 71, 50, 32, 18], 1.95),
    "0.35": ([59, 43, 30, 20, 11], 1.66),
}
# Output channels of stem, the seven stages and the last convolution in slim.
CHANNELS = {
    "1.4": [48, 24, 32, 48, 88, 136, 224, 448, 1792],
    "1.3": [40, 24, 32, 40, 80, 128, 208, 416, 1664],
    "1.0": [32, 16, 24, 32, 64, 96, 160, 320, 1280],
    "0.75": [24, 16, 24, 24, 48, 72, 120, 240, 1280],
    "0.5": [16, 8, 16, 16, 32, 48, 80, 160, 1280],
    "0.35": [16, 8, 8, 16, 24, 32, 56, 112, 1280],
}


V2_VARIANTS = [name for name in published_variants() if "_v2_" in name]
# Computed by the original code: MACs at 224, 192, 160, 128, then kernel weights.
V1_EXACT = {
    "1.0": ([568741376, 418122752, 290676224, 186401792], 4210112),
    "0.75": ([325401216, 239274240, 166397568, 106771200], 2568912),
    "0.5": ([149497600, 109970944, 76525312, 49160704], 1320160),
    "0.25": ([41030528, 30212864, 21059456, 13570304], 463856),
}


@pytest.mark.parametrize("name", V2_VARIANTS)
def test_macs_and_parameters_are_the_published_ones_digit_for_digit(name: str) -> None:
    variant = Variant.parse(name)
    macs, parameters = PUBLISHED[variant.width]
    counted = architecture(variant, num_outputs=1001)
    row = [224, 192, 160, 128, 96].index(variant.resolution)
    assert counted.macs // 10**6 == macs[row]
    assert counted.parameters // 10**4 == round(100 * parameters)


@pytest.mark.parametrize("width", V1_EXACT)
def test_v1_counts_are_those_of_the_original_code(width: str) -> None:
    layouts = [
        architecture(Variant("mobilenet_v1", width, resolution), 1001)
        for resolution in (224, 192, 160, 128)
    ]
    macs, parameters = V1_EXACT[width]
    assert [layout.macs for layout in layouts] == macs
    assert {layout.parameters for layout in layouts} == {parameters}


def test_there_are_22_and_16_published_variants() -> None:
    assert len(set(V2_VARIANTS)) == 22
    assert len(set(published_variants())) == 22 + 16


@pytest.mark.parametrize("family", ["mobilenet_v1", "mobilenet_v2"])
@pytest.mark.parametrize(("output_stride", "side"), [(8, 28), (16, 14), (32, 7)])
def test_a_smaller_output_stride_keeps_the_map_larger_and_the_weights_the_same(
    family: str, output_stride: int, side: int
) -> None:
    variant = Variant(family, "1.0", 224)
    layout, plain = architecture(variant, 1001, output_stride), architecture(variant, 1001)
    assert layout.blocks[-1].convolutions[-1].output_size == side
    assert [(c.scope, c.num_weights) for c in layout.convolutions()] == [
        (c.scope, c.num_weights) for c in plain.convolutions()
    ]


def test_dilation_starts_after_the_layer_that_would_have_gone_too_far() -> None:
    """In slim, a layer that loses its stride keeps the current rate, and the next ones get more."""
    layout = architecture(Variant("mobilenet_v2", "1.0", 224), 1001, output_stride=8)
    dilations = [c.dilation for c in layout.convolutions() if c.depthwise]
    assert dilations == [1] * 7 + [2] * 7 + [4] * 3
    assert all(c.dilation == 1 for c in layout.convolutions() if c.kernel == 1)


def test_another_output_stride_is_refused() -> None:
    with pytest.raises(UsageError, match="one of"):
        architecture(Variant("mobilenet_v2", "1.0", 224), 1001, output_stride=4)


@pytest.mark.parametrize("width", CHANNELS)
def test_channels_are_slims(width: str) -> None:
    layout = architecture(Variant("mobilenet_v2", width, 224), 1001)
    last_of_stages = [
        layout.blocks[i].convolutions[-1].out_channels for i in (1, 3, 6, 10, 13, 16, 17)
    ]
    stem, last = (layout.blocks[i].convolutions[0].out_channels for i in (0, -1))
    found = [stem, *last_of_stages, last]
    assert found == CHANNELS[width]


@pytest.mark.parametrize("width", CHANNELS)
def test_ten_blocks_add_their_input_and_one_has_no_expansion(width: str) -> None:
    blocks = architecture(Variant("mobilenet_v2", width, 224), 1001).blocks[1:-1]
    assert len(blocks) == 17
    assert sum(block.residual for block in blocks) == 10
    assert [len(block.convolutions) for block in blocks] == [2] + [3] * 16


@pytest.mark.parametrize(("resolution", "side"), [(224, 7), (192, 6), (160, 5), (96, 3), (64, 2)])
def test_the_last_map_is_a_32nd_of_the_image(resolution: int, side: int) -> None:
    assert (
        architecture(Variant("mobilenet_v2", "1.0", resolution), 1001)
        .blocks[-1]
        .convolutions[0]
        .output_size
        == side
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenet_v2_1.0_225", "multiple of 32"),
        ("mobilenet_v2_1.0_22", "multiple of 32"),
        ("mobilenet_v2_1.1_224", "did you mean 'mobilenet_v2_1.4_224'|did you mean"),
        ("mobilnet_v2_1.0_224", "did you mean 'mobilenet_v2_1.0_224'"),
        ("resnet", "unknown variant 'resnet'"),
    ],
)
def test_what_is_no_variant_is_refused_with_a_way_out(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Variant.parse(name)
