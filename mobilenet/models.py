"""Networks to build on, and exported models to use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.config.recipes import DEFAULT_RECIPE, configured
from training.models.variants import Variant

if TYPE_CHECKING:
    import keras

    from pipeline.export.prediction.classifier import Classifier
    from training.optimization.state import TrainingState

OUTPUT_STRIDES = (8, 16, 32)
POOL = "pool"  # the layer that averages the last map


def build(
    variant: str,
    *,
    classes: int = 1000,
    weights: str | os.PathLike[str] | None = None,
    recipe: str = DEFAULT_RECIPE,
) -> keras.Model:
    """Return a network with its preprocessing and dropout, to train or change in Keras.

    Args:
        variant: Name of the network, for example `mobilenet_v2_1.0_224`.
        classes: Number of classes, without the background.
        weights: A slim checkpoint (prefix, folder or `.tgz`), an export, or a `.weights.h5` of
            `keras.applications`; its averages are taken. None starts as slim does. A classifier
            for another number of classes keeps its initial values, with a warning.
        recipe: Recipe whose dropout, normalisation and weight decay the network has.

    Returns:
        A model from pixels `[N, S, S, 3]` in [0, 255] to logits `float32 [N, classes + 1]`; output
        0 is the background, and class i of `records` is output i.

    Raises:
        UsageError: There is no such variant, recipe or file.
        DataError: The weights do not fit.
    """
    import keras

    state = _state(variant, classes, weights, recipe)
    pixels = keras.Input((*state.features.input.shape[1:],), name="pixels")
    features = state.features(_rescaled(pixels))
    dropout = configured(recipe, Variant.parse(variant)).model.dropout
    logits = state.classifier(keras.layers.Dropout(dropout, name="dropout")(features))
    return keras.Model(pixels, keras.layers.Flatten(name="logits")(logits), name=_name(variant))


def feature_maps(
    variant: str,
    *,
    strides: Sequence[int] = (8, 16),
    output_stride: int = 32,
    weights: str | os.PathLike[str] | None = None,
    size: int | None = None,
) -> keras.Model:
    """Return the network without its classifier, for detection and segmentation.

    The map of a stride is the last one of the network with that stride: the expansion of the block
    that shrinks it, or the last convolution, as detectors and segmentation networks take them.

    Args:
        variant: Name of the network.
        strides: Pixels of the input per cell of each wanted map, up to `output_stride`.
        output_stride: 8, 16 or 32: from this stride on, convolutions are dilated instead of
            shrinking the map further, as for DeepLab.
        weights: As for `build`.
        size: Side of the input, pixels, a multiple of `output_stride`; None takes the variant's.

    Returns:
        A model from pixels `[N, size, size, 3]` in [0, 255] to a list with one map
        `float32 [N, size / stride, size / stride, C]` per stride, in the order of `strides`.

    Raises:
        UsageError: There is no such variant, stride or file.
        DataError: The weights do not fit.
    """
    import keras

    from preprocessing.errors import UsageError
    from training.models.architecture import architecture
    from training.models.mobilenet import mobilenet

    parsed = Variant.parse(variant)
    if output_stride not in OUTPUT_STRIDES:
        raise UsageError(f"output_stride must be 8, 16 or 32, got {output_stride}")
    side = parsed.resolution if size is None else size
    if side < 1 or side % output_stride:
        raise UsageError(f"size must be a positive multiple of {output_stride}, got {side}")
    state = _state(variant, 1, weights, DEFAULT_RECIPE)
    network = mobilenet(
        architecture(parsed, 2, output_stride),
        configured(DEFAULT_RECIPE, parsed).model,
        resolution=side,
    )
    network.set_weights(state.model.get_weights())
    maps = _last_maps(network, side)
    missing = [stride for stride in strides if stride not in maps]
    if missing or not strides:
        allowed = ", ".join(map(str, sorted(maps)))
        raise UsageError(f"strides must be some of {allowed}, got {list(strides)}")
    extractor = keras.Model(network.input, [maps[stride] for stride in strides])
    pixels = keras.Input((side, side, 3), name="pixels")
    return keras.Model(pixels, extractor(_rescaled(pixels)), name=f"{_name(variant)}_features")


def _last_maps(network: keras.Model, side: int) -> dict[int, keras.KerasTensor]:
    """Return the last map of each stride, before the maps are averaged to one cell."""
    maps = {}
    for layer in network.layers[1:]:
        if layer.name == POOL:
            break
        maps[side // layer.output.shape[1]] = layer.output
    return maps


def load(model: str | os.PathLike[str], *, format: str | None = None) -> Classifier:
    """Open an exported model: `load(model)(image)` classifies an image.

    Args:
        model: An export, local or in a bucket, a file of one, or a `.tflite` file of ours.
        format: Format of an export to run; None runs the float TF-Lite file.

    Returns:
        A classifier of paths, bytes and `uint8 [H, W, 3]`, whose `classify` takes many images.

    Raises:
        UsageError: There is no such model or format.
        DataError: A file is damaged.
    """
    from pipeline.export.prediction.opening import open_classifier

    return open_classifier(os.fspath(model), format)


def _state(
    variant: str, classes: int, weights: str | os.PathLike[str] | None, recipe: str
) -> TrainingState:
    from preprocessing.errors import UsageError
    from training.optimization.state import TrainingState
    from training.weights.at_hand import at_hand
    from training.weights.initial import start_from

    if classes < 1:
        raise UsageError(f"classes must be positive, got {classes}")
    config = configured(recipe, Variant.parse(variant))
    state = TrainingState(config, num_outputs=classes + 1, num_examples=1, num_replicas=1)
    if weights is not None:
        with at_hand(os.fspath(weights)) as checkpoint:
            start_from(checkpoint, state)
    return state


def _rescaled(pixels: keras.KerasTensor) -> keras.KerasTensor:
    import keras

    return keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(pixels)


def _name(variant: str) -> str:
    return variant.replace(".", "_")
