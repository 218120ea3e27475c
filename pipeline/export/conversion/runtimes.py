"""The runtimes of the exported formats: images in, probabilities out, on one thread."""

from __future__ import annotations

import keras
import numpy as np
import onnxruntime
import tensorflow as tf

from pipeline.export.conversion import slim_graph
from pipeline.export.conversion.graph_runner import GraphRunner
from pipeline.export.conversion.litert import LiteRTModel
from pipeline.export.formats.export_format import Runner
from preprocessing import storage
from preprocessing.errors import DataError
from training.models.variants import Variant
from training.weights.keras_applications import application


def of_network(model: keras.Model) -> GraphRunner:
    """Return a runner of a network in memory, from images to logits."""
    return GraphRunner.of(
        lambda images: tf.nn.softmax(model(images, training=False)), model.input_shape[1]
    )


def of_saved_model(folder: str) -> GraphRunner:
    """Return a runner by `tf.saved_model.load`."""
    loaded = tf.saved_model.load(folder)  # named, because a signature does not keep its variables
    signature = loaded.signatures["serving_default"]
    size = signature.structured_input_signature[1]["images"].shape[1]
    return GraphRunner.of(lambda images: signature(images=images)["probabilities"], size)


def signatures(
    folder: str, images: np.ndarray, encoded: list[bytes]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities that both signatures of a SavedModel give the same images.

    Args:
        folder: The SavedModel.
        images: `float32 [N, S, S, 3]` in [-1, 1].
        encoded: The same images as JPEGs.
    """
    loaded = tf.saved_model.load(folder)
    outputs = (
        loaded.signatures["serving_default"](images=tf.constant(images)),
        loaded.signatures["jpeg"](encoded_images=tf.constant(encoded)),
    )
    from_images, from_jpegs = (output["probabilities"].numpy() for output in outputs)
    return from_images, from_jpegs


def of_keras_file(path: str) -> Runner:
    """Return a runner by `keras.models.load_model`."""
    model = keras.models.load_model(path, compile=False)
    return GraphRunner.of(lambda images: model(images, training=False), model.input_shape[1])


def of_keras_weights(path: str, variant: Variant, num_outputs: int) -> Runner:
    """Return a runner by `keras.applications` and `load_weights`."""
    model = application(variant, num_outputs)
    model.load_weights(path)
    return of_network(model)


def of_frozen_graph(path: str, output: str) -> Runner:
    """Return a runner by a TF1 session on a `_frozen.pb`.

    Args:
        path: The file.
        output: The tensor of probabilities, see `slim_graph.output_name`.
    """
    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(storage.read_bytes(path))
    except Exception as error:  # protobuf's DecodeError has no public home
        raise DataError(f"{path} is no complete graph ({error}); export it again") from error
    return GraphRunner(definition, slim_graph.INPUT, output)


def of_onnx(path: str) -> Runner:
    """Return a runner by ONNX Runtime on the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no public base class
        raise DataError(f"{path} is no complete ONNX model ({error}); export it again") from error
    return lambda images: np.asarray(session.run(None, {slim_graph.INPUT: images})[0])


def of_tflite_file(path: str, name: str) -> Runner:
    """Return a runner by LiteRT on the file at `path`; `name` stands in messages."""
    model = LiteRTModel(storage.read_bytes(path), 1, name)
    return lambda images: np.stack([model.probabilities(image) for image in images])
