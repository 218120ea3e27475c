"""Variant names as the published tables spell them: `mobilenet_v2_1.0_224`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from preprocessing.errors import UsageError, did_you_mean

WIDTHS = {
    "mobilenet_v1": ("1.0", "0.75", "0.5", "0.25"),
    "mobilenet_v2": ("1.4", "1.3", "1.0", "0.75", "0.5", "0.35"),
}
RESOLUTIONS = {
    "mobilenet_v1": (224, 192, 160, 128),
    "mobilenet_v2": (224, 192, 160, 128, 96),
}
# 1.4 and 1.3 are published at 224 only.
PUBLISHED_VARIANTS = tuple(
    f"{family}_{width}_{resolution}"
    for family in ("mobilenet_v2", "mobilenet_v1")
    for width in WIDTHS[family]
    for resolution in RESOLUTIONS[family]
    if resolution == 224 or width not in ("1.4", "1.3")
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A network: `width` keeps its spelling, `resolution` is the input side in pixels."""

    family: str
    width: str
    resolution: int

    @property
    def name(self) -> str:
        """As in the published table."""
        return f"{self.family}_{self.width}_{self.resolution}"

    @property
    def width_multiplier(self) -> float:
        """Alpha of the papers."""
        return float(self.width)

    @classmethod
    def parse(cls, name: str) -> Variant:
        """Read a variant name; any multiple of 32 will do as resolution.

        Raises:
            UsageError: Not a variant; names the nearest published one.
        """
        match = re.fullmatch(r"(mobilenet_v[12])_(\d\.\d+)_(\d+)", name)
        if not match or match[2] not in WIDTHS[match[1]]:
            widths = "; ".join(f"{key}: {', '.join(each)}" for key, each in WIDTHS.items())
            raise UsageError(
                f"unknown variant {name!r}; {did_you_mean(name, PUBLISHED_VARIANTS)} "
                f"A variant is FAMILY_WIDTH_RESOLUTION, resolution a multiple of 32, "
                f"widths of {widths}"
            )
        resolution = int(match[3])
        if resolution == 0 or resolution % 32:
            raise UsageError(f"the resolution of {name!r} must be a multiple of 32")
        return cls(match[1], match[2], resolution)
