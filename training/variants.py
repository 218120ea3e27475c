"""Variant names as the published table spells them: `mobilenet_v2_1.0_224`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from preprocessing.errors import UsageError, did_you_mean

WIDTHS = ("1.4", "1.3", "1.0", "0.75", "0.5", "0.35")
RESOLUTIONS = (224, 192, 160, 128, 96)
# 1.4 and 1.3 are published at 224 only.
PUBLISHED_VARIANTS = tuple(
    f"mobilenet_v2_{width}_{resolution}"
    for width in WIDTHS
    for resolution in RESOLUTIONS
    if resolution == 224 or width not in ("1.4", "1.3")
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A network: `width` keeps its spelling, `resolution` is the input side in pixels."""

    width: str
    resolution: int

    @property
    def name(self) -> str:
        """As in the published table."""
        return f"mobilenet_v2_{self.width}_{self.resolution}"

    @property
    def width_multiplier(self) -> float:
        """Alpha of the paper."""
        return float(self.width)

    @classmethod
    def parse(cls, name: str) -> Variant:
        """Read a variant name; any multiple of 32 will do as resolution.

        Raises:
            UsageError: Not a variant; names the nearest published one.
        """
        match = re.fullmatch(r"mobilenet_v2_(\d\.\d+)_(\d+)", name)
        if not match or match[1] not in WIDTHS:
            raise UsageError(
                f"unknown variant {name!r}; {did_you_mean(name, PUBLISHED_VARIANTS)} "
                f"(mobilenet_v2_<width>_<resolution>, width one of {', '.join(WIDTHS)})"
            )
        resolution = int(match[2])
        if resolution == 0 or resolution % 32:
            raise UsageError(f"the resolution of {name!r} must be a multiple of 32")
        return cls(match[1], resolution)
