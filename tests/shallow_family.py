"""MobileNetV2 with three of its 17 bottlenecks, for laws that do not depend on the depth.

Tracing and optimizing a graph takes most of the time of a short run, and grows with the layers.
Every process of the tests has this family: `MOBILENET_EXTENSIONS` names this file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from training.models import mobilenet_v2
from training.models.families import FAMILIES
from training.models.mobilenet_v2 import Stage
from training.models.model_family import KerasApplication, ModelFamily

if TYPE_CHECKING:
    import keras


def _keras_application() -> Callable[..., keras.Model]:
    import keras

    def build(
        input_shape: tuple[int, int, int], alpha: float, classes: int, **options: None
    ) -> keras.Model:
        """Return the first layers of Keras' network, and the last two kinds."""
        whole = keras.applications.MobileNetV2(
            input_shape=input_shape, alpha=alpha, include_top=False, weights=None
        )
        x = whole.get_layer("block_2_add").output
        x = keras.layers.Conv2D(mobilenet_v2.LAST_CHANNELS, 1, use_bias=False, name="Conv_1")(x)
        x = keras.layers.BatchNormalization(epsilon=1e-3, name="Conv_1_bn")(x)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU(6.0)(x))
        return keras.Model(whole.input, keras.layers.Dense(classes, name="predictions")(x))

    return build


def _keras_layer_names(scope: str) -> tuple[str, str]:
    assert mobilenet_v2.FAMILY.keras_application
    return mobilenet_v2.FAMILY.keras_application.layer_names(scope)


SHALLOW = ModelFamily(
    name="shallow",
    title="Shallow",
    layout=functools.partial(mobilenet_v2.layout, stages=(Stage(1, 16, 1, 1), Stage(6, 24, 2, 2))),
    widths=("1.0", "0.35"),
    keras_application=KerasApplication(build=_keras_application, layer_names=_keras_layer_names),
)
VARIANT = "shallow_0.35_32"
NORMALISED = 10  # its convolutions with batch normalisation: all but the classifier

FAMILIES[SHALLOW.name] = SHALLOW
