"""Model families: what the project knows about one, in one object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from training.models.layout import Architecture, Strides

if TYPE_CHECKING:
    import keras

# (width multiplier, outputs of the classifier, strides) -> the network's convolutions
Layout = Callable[[float, int, Strides], Architecture]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """A row of the original authors' table of a family.

    Attributes:
        width: Width multiplier as the table spells it.
        resolution: Side of the input, pixels.
        top1: Accuracy in percent.
        top5: Accuracy in percent.
        pixel1_ms: Latency on a Pixel 1, milliseconds; None if the table has no such column.
        macs_millions: As printed; None if the table prints what the code computes.
        parameters_millions: As printed; None if the table prints what the code computes.
    """

    width: str
    resolution: int
    top1: float
    top5: float
    pixel1_ms: float | None = None
    macs_millions: int | None = None
    parameters_millions: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class KerasApplication:
    """The network of `keras.applications` that has a family's layout.

    Attributes:
        build: Returns the class or function of `keras.applications`; Keras is imported by it.
        layer_names: For a slim scope, the names of the layer and of its batch normalisation.
    """

    build: Callable[[], Callable[..., keras.Model]]
    layer_names: Callable[[str], tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFamily:
    """Everything that distinguishes a family from the others.

    Activations and squeeze-and-excite belong to single blocks; `layout` says where they are.

    Attributes:
        name: First part of a variant's name, for example `mobilenet_v2`.
        title: Name in headings, for example `MobileNetV2`.
        layout: The network's convolutions, with slim's scopes, for a width and an input size.
        widths: Width multipliers that a variant may have, as its name spells them.
        published: Rows of the original table, in its order.
        keras_application: The same network in `keras.applications`, or None.
        model_settings: Values of `ModelConfig` in which the family's published recipe differs
            from the defaults.
    """

    name: str
    title: str
    layout: Layout
    widths: tuple[str, ...]
    published: tuple[PublishedRow, ...] = ()
    keras_application: KerasApplication | None = None
    model_settings: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: MappingProxyType({})
    )

    @property
    def published_rows(self) -> dict[str, PublishedRow]:
        """Rows of the original table by the variant's name, in the table's order."""
        return {f"{self.name}_{row.width}_{row.resolution}": row for row in self.published}
