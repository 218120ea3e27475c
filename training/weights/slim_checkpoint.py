"""slim's checkpoints, the format of the published weights: TF1 variables under slim's names.

slim keeps every model variable twice, raw and as `<name>/ExponentialMovingAverage`.
Tools that read the published files (slim, TF Object Detection, DeepLab) read these too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf

from preprocessing.errors import DataError, UsageError
from preprocessing.storage import temporary_folder
from preprocessing.storage.tgz import unpack
from training.models.layout import Architecture
from training.models.mobilenet import layer_name
from training.weights import checkpoint_format
from training.weights.shapes import require_fit

SHADOW = "/ExponentialMovingAverage"
GLOBAL_STEP = "global_step"
# slim's variables_to_restore() lists only trainable variables, so its mobilenet_example.ipynb
# restores averages of the trained variables and raw BN statistics: the weights `notebook`.
_NOT_TRAINED = ("/moving_mean", "/moving_variance")


def slim_variables(model: keras.Model, architecture: Architecture) -> dict[str, keras.Variable]:
    """Return the model's variables by slim's names, in the order of computation."""
    named: dict[str, keras.Variable] = {}
    for convolution in architecture.convolutions():
        scope = f"{architecture.scope}/{convolution.scope}"
        layer = model.get_layer(layer_name(convolution.scope))
        named[f"{scope}/{'depthwise_' * convolution.depthwise}weights"] = layer.kernel
        if convolution.bias:
            named[f"{scope}/biases"] = layer.bias
            continue
        norm = model.get_layer(f"{layer_name(convolution.scope)}_BatchNorm")
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            named[f"{scope}/BatchNorm/{part}"] = getattr(norm, part)
    return named


def slim_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return the shapes by slim's names, without building a network."""
    shapes: dict[str, tuple[int, ...]] = {}
    for convolution in architecture.convolutions():
        scope = f"{architecture.scope}/{convolution.scope}"
        window, out = (convolution.kernel, convolution.kernel), convolution.out_channels
        if convolution.depthwise:
            shapes[f"{scope}/depthwise_weights"] = (*window, convolution.in_channels, 1)
        else:
            shapes[f"{scope}/weights"] = (*window, convolution.in_channels, out)
        if convolution.bias:
            shapes[f"{scope}/biases"] = (out,)
            continue
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{scope}/BatchNorm/{part}"] = (out,)
    return shapes


def is_head(name: str) -> bool:
    """Return whether a slim variable belongs to the classifier."""
    return "/Logits/" in name


def read(
    path: str, shapes: Mapping[str, tuple[int, ...]], weights: str = "ema"
) -> tuple[dict[str, np.ndarray], int]:
    """Read the variables that `shapes` names.

    Args:
        path: A checkpoint's prefix (`x.ckpt`), a folder or a `.tgz` that holds one.
        shapes: Needed shapes by slim name.
        weights: The kind of weights: `ema`, `raw` or `notebook`.

    Returns:
        Values by slim name, and the global step (0 if the file has none).

    Raises:
        UsageError: The path holds no checkpoint.
        DataError: Variables are missing or have another shape; the message lists all of them.
    """
    with _prefix(path) as prefix:
        reader = _open(prefix, path)
        stored_shapes = reader.get_variable_to_shape_map()
        stored = {name: name + SHADOW * _averaged(name, weights) for name in shapes}
        needed = {stored[name]: shape for name, shape in shapes.items()}
        require_fit(f"{path} does not fit", needed, stored_shapes)
        has_step = GLOBAL_STEP in stored_shapes
        _require_numbers(reader, path, needed, has_step)
        types = reader.get_variable_to_dtype_map()
        promised_bytes = sum(math.prod(shape) * types[key].size for key, shape in needed.items())
        files, ratio = checkpoint_format.files_of(prefix)
        checkpoint_format.require_held(path, promised_bytes, files, ratio)
        with _readable(path):
            step = int(reader.get_tensor(GLOBAL_STEP)) if has_step else 0
            found = {name: reader.get_tensor(key) for name, key in stored.items()}
        if step < 0:
            raise DataError(f"{path} is of step {step}; it is damaged")
        return found, step


def has(path: str, names: Iterable[str]) -> bool:
    """Return whether a checkpoint holds all of `names`."""
    return set(names) <= _stored_shapes(path).keys()


def holds_only_raw(path: str, names: Iterable[str]) -> bool:
    """Return whether a checkpoint has raw weights but no averages, as slim writes by default."""
    raw, stored = set(names), _stored_shapes(path).keys()
    return raw <= stored and stored.isdisjoint(name + SHADOW for name in raw)


def head_shape(path: str, architecture: Architecture) -> tuple[int, ...]:
    """Return the shape of the classifier's kernel in a checkpoint; empty if it has none."""
    name = f"{architecture.scope}/{architecture.classifier.scope}/weights"
    shapes = _stored_shapes(path)
    return tuple(shapes.get(name, shapes.get(name + SHADOW, ())))


def write(
    prefix: str,
    raw: Mapping[str, np.ndarray | tf.Tensor],
    averages: Mapping[str, np.ndarray | tf.Tensor],
    global_step: int,
) -> None:
    """Write `prefix.index` and `prefix.data-00000-of-00001`.

    Args:
        prefix: Path without ending, e.g. `folder/mobilenet_v2_1.0_224.ckpt`.
        raw: Values by slim name.
        averages: Moving averages of the values, by the same names.
        global_step: Number of updates.
    """
    tensors: dict[str, np.ndarray | tf.Tensor | np.int64] = {
        **raw,
        **{name + SHADOW: value for name, value in averages.items()},
        GLOBAL_STEP: np.int64(global_step),
    }
    names = sorted(tensors)
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.convert_to_tensor(tensors[name]) for name in names],
    )


def _stored_shapes(path: str) -> dict[str, list[int]]:
    """Return the shapes of all variables of a checkpoint by name."""
    with _prefix(path) as prefix:
        shapes: dict[str, list[int]] = _open(prefix, path).get_variable_to_shape_map()
        return shapes


def _open(prefix: str, shown: str) -> tf.train.CheckpointReader:
    files, _ = checkpoint_format.files_of(prefix)
    index = f"{prefix}{checkpoint_format.INDEX}"
    files += [index] * os.path.isfile(index)
    checkpoint_format.require_size(shown, sum(map(os.path.getsize, files)))
    with _readable(shown):
        return tf.train.load_checkpoint(prefix)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn what TensorFlow raises for a damaged checkpoint into one line."""
    try:
        yield
    except (tf.errors.OpError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is no TensorFlow checkpoint, or a damaged one: {reason}") from None


def _require_numbers(
    reader: tf.train.CheckpointReader, path: str, needed: Iterable[str], has_step: bool
) -> None:
    """Refuse weights that are no floats, and a step that is no whole number."""
    types = reader.get_variable_to_dtype_map()
    wrong = [name for name in needed if not types[name].is_floating]
    if wrong:
        raise DataError(f"{path} does not fit: {wrong[0]} is {types[wrong[0]].name}, not float32")
    if has_step:
        shape = reader.get_variable_to_shape_map()[GLOBAL_STEP]
        if shape or not types[GLOBAL_STEP].is_integer:
            raise DataError(
                f"{path} does not fit: {GLOBAL_STEP} is {types[GLOBAL_STEP].name} {shape}, not a "
                "whole number"
            )


def _averaged(name: str, weights: str) -> bool:
    if weights == "notebook":
        return not name.endswith(_NOT_TRAINED)
    return weights == "ema"


@contextmanager
def _prefix(path: str) -> Iterator[str]:
    """Yield the prefix of the only checkpoint at `path`."""
    if os.path.exists(f"{path}.index"):
        yield path
    elif os.path.isdir(path):
        yield _only_prefix(path, path)
    elif os.path.isfile(path) and path.endswith((".tgz", ".tar.gz")):
        checkpoint_format.require_size(path, os.path.getsize(path))
        with temporary_folder("weights") as folder:
            unpack(path, folder, with_folders=True)
            yield _only_prefix(folder, path)
    elif checkpoint_format.is_single_file(path):
        yield path
    else:
        raise UsageError(
            f"{path} is no checkpoint; pass its prefix (the part before .index), a single file of "
            "format V1, its folder or the published .tgz"
        )


def describe_format(path: str) -> str:
    """Return the format of a checkpoint in words: V2 has an index and data files, V1 one file."""
    with _prefix(path) as prefix:
        return "V1 (a single file)" if checkpoint_format.is_single_file(prefix) else "V2"


def _only_prefix(folder: str, shown: str) -> str:
    prefixes = checkpoint_format.prefixes_in(folder)
    if len(prefixes) != 1:
        named = ", ".join(os.path.relpath(prefix, folder) for prefix in prefixes[:3])
        raise UsageError(
            f"{shown} holds {len(prefixes)} checkpoints{': ' * bool(named)}{named}; pass the "
            "prefix of one"
        )
    return prefixes[0]
