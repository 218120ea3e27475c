"""The network is the paper's and counts as the published table counts."""

from __future__ import annotations

import pytest

from preprocessing.errors import UsageError
from training.architecture import architecture
from training.variants import PUBLISHED_VARIANTS, Variant

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


@pytest.mark.parametrize("name", PUBLISHED_VARIANTS)
def test_macs_and_parameters_are_the_published_ones_digit_for_digit(name: str) -> None:
    variant = Variant.parse(name)
    macs, parameters = PUBLISHED[variant.width]
    counted = architecture(variant, num_classes=1001)
    row = [224, 192, 160, 128, 96].index(variant.resolution)
    assert counted.macs // 10**6 == macs[row]
    assert counted.parameters // 10**4 == round(100 * parameters)


def test_there_are_22_published_variants() -> None:
    assert len(set(PUBLISHED_VARIANTS)) == 22


@pytest.mark.parametrize("width", CHANNELS)
def test_channels_are_slims(width: str) -> None:
    layout = architecture(Variant(width, 224), 1001)
    last_of_stages = [layout.blocks[i].project.out_channels for i in (0, 2, 5, 9, 12, 15, 16)]
    found = [layout.stem.out_channels, *last_of_stages, layout.last.out_channels]
    assert found == CHANNELS[width]


@pytest.mark.parametrize("width", CHANNELS)
def test_ten_blocks_add_their_input_and_one_has_no_expansion(width: str) -> None:
    blocks = architecture(Variant(width, 224), 1001).blocks
    assert len(blocks) == 17
    assert sum(block.residual for block in blocks) == 10
    assert [block.expand is None for block in blocks] == [True] + [False] * 16


@pytest.mark.parametrize(("resolution", "side"), [(224, 7), (192, 6), (160, 5), (96, 3), (64, 2)])
def test_the_last_map_is_a_32nd_of_the_image(resolution: int, side: int) -> None:
    assert architecture(Variant("1.0", resolution), 1001).last.output_size == side


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
