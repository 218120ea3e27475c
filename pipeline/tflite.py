"""TF-Lite: convert with TensorFlow, run with LiteRT."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from preprocessing.errors import CheckFailedError


def to_float32(model: keras.Model) -> bytes:
    """A flatbuffer from `float32 [1, S, S, 3]` in [-1, 1] to probabilities `[1, classes]`."""
    flatbuffer: bytes = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    # With Keras 3 some conversion routes silently write a file without weights.
    weights_bytes = 4 * model.count_params()
    if len(flatbuffer) < 0.9 * weights_bytes:
        raise CheckFailedError(
            f"the converter wrote {len(flatbuffer)} bytes for {weights_bytes} bytes of weights; "
            "the weights are missing, nothing was exported"
        )
    return flatbuffer


def to_int8(model: keras.Model, calibration_images: np.ndarray) -> bytes:
    """Full integer quantisation, per channel, `uint8` in and out.

    Args:
        model: From `[1, S, S, 3]` to probabilities.
        calibration_images: `float32 [N, S, S, 3]` in [-1, 1], as in evaluation.
    """

    def representative() -> Iterator[list[np.ndarray]]:
        for image in calibration_images:
            yield [image[np.newaxis]]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8
    with warnings.catch_warnings():
        # "Statistics for quantized inputs were expected": the converter warns of uint8 inputs
        # that it has calibrated all the same.
        warnings.simplefilter("ignore", UserWarning)
        flatbuffer: bytes = converter.convert()
    return flatbuffer


class LiteRTModel:
    """A loaded flatbuffer: float images in, probabilities out, whatever its own types."""

    def __init__(self, flatbuffer: bytes, num_threads: int = 1) -> None:
        self._interpreter = Interpreter(model_content=flatbuffer, num_threads=num_threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """`float32 [S, S, 3]` in [-1, 1] to `float32 [classes]`."""
        self.set_image(image)
        self.invoke()
        output = self._interpreter.get_tensor(self._output["index"])[0]
        scale, zero_point = self._output["quantization"]
        if scale:
            output = (output.astype(np.float32) - zero_point) * scale
        return np.asarray(output, np.float32)

    def set_image(self, image: np.ndarray) -> None:
        """Put `float32 [S, S, 3]` in [-1, 1] into the input tensor."""
        scale, zero_point = self._input["quantization"]
        if scale:
            kind = np.iinfo(self._input["dtype"])
            image = np.clip(np.round(image / scale) + zero_point, kind.min, kind.max)
        self._interpreter.set_tensor(
            self._input["index"], image[np.newaxis].astype(self._input["dtype"])
        )

    def invoke(self) -> Any:
        """Run once on what is in the input tensor."""
        return self._interpreter.invoke()
