"""The TF-Lite converter: a network as float32, float16, dynamic-range and full int8 files.

The network is traced and its weights made constants once; every file is converted from that.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python.util import modify_model_io_type
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def convert(model: keras.Model, calibration_images: Iterable[np.ndarray]) -> dict[str, bytes]:
    """Convert a network into every TF-Lite format.

    Args:
        model: `float32 [N, S, S, 3]` in [-1, 1] to logits `[N, outputs]`.
        calibration_images: Images `float32 [S, S, 3]` in [-1, 1], as in evaluation; they are
            taken one at a time.

    Returns:
        Flatbuffers by format, from `images [1, S, S, 3]` to `probabilities [1, outputs]`; all take
        and give float32 but `tflite_int8` (uint8) and `tflite_int8_signed` (int8).
    """
    function = _frozen(model)
    int8 = _to_int8(function, calibration_images)
    return {
        "tflite_float32": _converted(_converter(function)),
        "tflite_float16": _converted(_optimizing(function, types=[tf.float16])),
        "tflite_dynamic": _converted(_optimizing(function)),
        "tflite_int8": bytes(modify_model_io_type(int8, tf.uint8, tf.uint8)),
        "tflite_int8_signed": bytes(modify_model_io_type(int8, tf.int8, tf.int8)),
    }


def to_float32(model: keras.Model) -> bytes:
    """Convert a network into the float32 file alone."""
    return _converted(_converter(_frozen(model)))


def _frozen(model: keras.Model) -> Any:
    """Return a function from one image to probabilities whose weights are constants.

    They are constants because with Keras 3 `from_concrete_functions([f], model)` finds no
    variables and writes a file without weights; `from_keras_model` writes them but takes minutes.
    """
    shape = (1, *model.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(model(images, training=False))}

    return convert_variables_to_constants_v2(classify.get_concrete_function())


def _converter(function: Any) -> Any:
    # Only with an object to save does the converter keep the signature, which LiteRT's newer
    # interface calls by name.
    return tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())


def _optimizing(function: Any, types: list[Any] | None = None) -> Any:
    converter = _converter(function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = types or []
    return converter


def _to_int8(function: Any, calibration_images: Iterable[np.ndarray]) -> bytes:
    """Quantise weights per channel and all activations to int8, with float32 at both ends."""

    def representative() -> Iterator[list[np.ndarray]]:
        for image in calibration_images:
            yield [image[np.newaxis]]

    converter = _optimizing(function)
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return _converted(converter)


def _converted(converter: Any) -> bytes:
    with warnings.catch_warnings(), _silent():
        warnings.simplefilter("ignore", UserWarning)
        flatbuffer: bytes = converter.convert()
    return flatbuffer


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hide what the converter's C++ code prints straight to file descriptor 2."""
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
