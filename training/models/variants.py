"""Variant names as the published tables spell them: `mobilenet_v2_1.0_224`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from preprocessing.errors import UsageError, did_you_mean
from training.models.families import FAMILIES
from training.models.model_family import ModelFamily


def published_variants() -> tuple[str, ...]:
    """Return the names of all variants in the original authors' tables, in the tables' order."""
    return tuple(name for family in FAMILIES.values() for name in family.published_rows)


@dataclass(frozen=True, slots=True)
class Variant:
    """One network: a family, a width and a resolution.

    Attributes:
        family: Name of the family in `FAMILIES`.
        width: Width multiplier, as the name spells it.
        resolution: Side of the input, pixels.
    """

    family: str
    width: str
    resolution: int

    @property
    def name(self) -> str:
        """Name as in the published table."""
        return f"{self.family}_{self.width}_{self.resolution}"

    @property
    def width_multiplier(self) -> float:
        """Alpha of the papers."""
        return float(self.width)

    @property
    def model_family(self) -> ModelFamily:
        """The family itself."""
        return FAMILIES[self.family]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def parse(cls, name: str) -> Variant:
        """Read a variant's name; the resolution may be any multiple of 32.

        Raises:
            UsageError: `name` is not a variant; names the nearest published one.
        """
        match = re.fullmatch(r"(\w+)_(\d\.\d+)_(\d+)", name)
        family = FAMILIES.get(match[1]) if match else None
        if match is None or family is None or match[2] not in family.widths:
            widths = "; ".join(
                f"{key}: {', '.join(family.widths)}" for key, family in FAMILIES.items()
            )
            raise UsageError(
                f"unknown variant {name!r}; {did_you_mean(name, published_variants())} "
                f"A variant is FAMILY_WIDTH_RESOLUTION, resolution a multiple of 32, "
                f"widths of {widths}"
            )
        resolution = int(match[3])
        if resolution == 0 or resolution % 32:
            raise UsageError(f"the resolution of {name!r} must be a multiple of 32")
        return cls(match[1], match[2], resolution)
