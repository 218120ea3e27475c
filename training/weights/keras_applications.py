"""Weights of `keras.applications` MobileNet and MobileNetV2, to and from the networks here."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator

import h5py
import keras
import numpy as np

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.storage.tgz import MAX_UNPACKED_RATIO
from training.config import ModelConfig
from training.models.architecture import architecture
from training.models.layout import Architecture
from training.models.mobilenet import layer_name, mobilenet
from training.models.model_family import KerasApplication
from training.models.variants import Variant
from training.weights import checkpoint_format
from training.weights.shapes import require_fit
from training.weights.slim_checkpoint import slim_variables

MAX_DATASETS = 10_000  # the largest network here has 300 variables


def application(variant: Variant, num_outputs: int) -> keras.Model:
    """Return the Keras network of `variant`, without weights, ending in logits."""
    return _application_of(variant).build()(
        input_shape=(variant.resolution, variant.resolution, 3),
        alpha=variant.width_multiplier,
        weights=None,
        classes=num_outputs,
        classifier_activation=None,
    )


def _application_of(variant: Variant) -> KerasApplication:
    application = variant.model_family.keras_application
    if application is None:
        raise UsageError(
            f"keras.applications has no network of {variant.family}; pass a slim checkpoint"
        )
    return application


def copy_weights(
    ours: keras.Model,
    theirs: keras.Model,
    variant: Variant,
    layout: Architecture,
    *,
    to_ours: bool,
) -> None:
    """Copy every variable between two networks of the same layout."""
    layer_names = _application_of(variant).layer_names
    for convolution in layout.convolutions():
        name = layer_name(convolution.scope)
        their_name, their_norm = layer_names(convolution.scope)
        pairs = [(ours.get_layer(name), theirs.get_layer(their_name))]
        if not convolution.bias:
            pairs.append((ours.get_layer(f"{name}_BatchNorm"), theirs.get_layer(their_norm)))
        for our_layer, their_layer in pairs:
            source, target = (their_layer, our_layer) if to_ours else (our_layer, their_layer)
            for value, variable in zip(source.get_weights(), target.weights, strict=True):
                # Keras' V2 classifier is a dense layer [C, N]; the one here is a convolution.
                variable.assign(value.reshape(variable.shape))


def read_named(path: str, variant: Variant) -> dict[str, np.ndarray]:
    """Return all weights of a `.weights.h5` of the Keras network by slim's names.

    The file may have any number of classes.

    Raises:
        UsageError: The file does not exist.
        DataError: The file does not fit `variant`; the message lists all problems.
    """
    layout = architecture(variant, _num_outputs(path, variant))
    model = mobilenet(layout, ModelConfig(), resolution=variant.resolution)
    read_weights(path, model, variant, layout)
    return {name: variable.numpy() for name, variable in slim_variables(model, layout).items()}


def read_weights(path: str, model: keras.Model, variant: Variant, layout: Architecture) -> None:
    """Load a `.weights.h5` of the Keras network into `model`.

    Raises:
        UsageError: The file does not exist.
        DataError: Variables are missing or have another shape; the message lists all of them.
    """
    theirs = application(variant, layout.classifier.out_channels)
    require_fit(f"{path} does not fit {theirs.name}", _expected(theirs), _shapes(path))
    with _readable(path):
        theirs.load_weights(path)
    copy_weights(model, theirs, variant, layout, to_ours=True)


def write_weights(path: str, model: keras.Model, variant: Variant, layout: Architecture) -> None:
    """Write the weights as a `.weights.h5` that the Keras network loads."""
    theirs = application(variant, layout.classifier.out_channels)
    copy_weights(model, theirs, variant, layout, to_ours=False)
    theirs.save_weights(path)


def _num_outputs(path: str, variant: Variant) -> int:
    """Return the number of classes in a file; 1, which then does not fit, without a classifier."""
    unlikely = 7  # no other layer of the network is this wide
    shapes = _expected(application(variant, unlikely))
    bias = next(name for name, shape in shapes.items() if shape == (unlikely,))
    return int(_shapes(path).get(bias, (1,))[0])


def _expected(theirs: keras.Model) -> dict[str, tuple[int, ...]]:
    """Return the content that a file of `theirs` must have."""
    with storage.temporary_folder("weights") as folder:
        path = os.path.join(folder, "expected.weights.h5")
        theirs.save_weights(path)
        return _shapes(path)


def _shapes(path: str) -> dict[str, tuple[int, ...]]:
    if not os.path.isfile(path):
        raise UsageError(f"{path} does not exist; pass a .weights.h5 of keras.applications")
    shapes: dict[str, tuple[int, ...]] = {}

    promised_bytes = 0

    def visit(name: str, item: h5py.HLObject) -> None:
        nonlocal promised_bytes
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise DataError(f"{path}: {name!r:.80} lies in other files")
            shapes[name] = item.shape
            promised_bytes += math.prod(item.shape or ()) * item.dtype.itemsize
        if len(shapes) > MAX_DATASETS:
            raise DataError(f"{path} holds more than {MAX_DATASETS:,} datasets")

    with _readable(path), h5py.File(path) as file:
        file.visititems(visit)
    checkpoint_format.require_held(path, promised_bytes, [path], MAX_UNPACKED_RATIO)
    return shapes


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn what HDF5 and Keras raise for a damaged file into one line."""
    try:
        yield
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is no HDF5 file, or a damaged one: {reason}") from None
