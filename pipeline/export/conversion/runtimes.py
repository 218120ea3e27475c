"""The runtimes of the exported formats: images in, probabilities out."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import onnxruntime
import tensorflow as tf

from pipeline.export.conversion import slim_graph
from pipeline.export.conversion.litert import LiteRTModel
from pipeline.export.formats.export_format import Runner
from preprocessing import storage
from preprocessing.errors import DataError
from training.models.variants import Variant
from training.weights.keras_applications import application


def of_network(model: keras.Model) -> Runner:
    """Return a runner of a network in memory, from images to logits."""
    run = tf.function(lambda images: tf.nn.softmax(model(images, training=False)))
    return lambda images: run(tf.constant(images)).numpy()


def of_saved_model(folder: str) -> Runner:
    """Return a runner by `tf.saved_model.load`."""
    loaded = tf.saved_model.load(folder)

    def run(images: np.ndarray) -> np.ndarray:
        # Through `loaded`, because a signature alone does not keep its variables alive.
        outputs = loaded.signatures["serving_default"](images=tf.constant(images))
        return np.asarray(outputs["probabilities"])

    return run


def of_saved_model_jpeg(folder: str) -> Callable[[list[bytes]], np.ndarray]:
    """Return a function from encoded images to probabilities: the signature `jpeg`."""
    loaded = tf.saved_model.load(folder)

    def run(encoded: list[bytes]) -> np.ndarray:
        outputs = loaded.signatures["jpeg"](encoded_images=tf.constant(encoded))
        return np.asarray(outputs["probabilities"])

    return run


def of_keras_file(path: str) -> Runner:
    """Return a runner by `keras.models.load_model`."""
    model = keras.models.load_model(path, compile=False)
    run = tf.function(lambda images: model(images, training=False))
    return lambda images: run(tf.constant(images)).numpy()


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
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    session = tf.compat.v1.Session(graph=graph)
    return lambda images: np.asarray(session.run(output, {slim_graph.INPUT: images}))


def of_onnx(path: str) -> Runner:
    """Return a runner by ONNX Runtime on the processor."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no public base class
        raise DataError(f"{path} is no complete ONNX model ({error}); export it again") from error
    return lambda images: np.asarray(session.run(None, {slim_graph.INPUT: images})[0])


def of_tflite(flatbuffer: bytes, name: str = "the model") -> Runner:
    """Return a runner by LiteRT, one image at a time; every core has its own interpreter."""
    models = [LiteRTModel(flatbuffer, 1, name) for _ in range(os.cpu_count() or 1)]
    pool = ThreadPoolExecutor(len(models))

    def run(images: np.ndarray) -> np.ndarray:
        probabilities = np.empty((len(images), models[0].num_outputs), np.float32)

        def share(worker: int) -> None:
            for index in range(worker, len(images), len(models)):
                probabilities[index] = models[worker].probabilities(images[index])

        list(pool.map(share, range(len(models))))
        return probabilities

    return run


def of_tflite_file(path: str, name: str) -> Runner:
    """Return a runner by LiteRT on the file at `path`; `name` stands in messages."""
    return of_tflite(storage.read_bytes(path), name)
