"""Files for TensorFlow's and Keras' own loaders; the same network gives the same bytes."""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import Any

import keras
import tensorflow as tf

from preprocessing import storage
from training.config import EvaluationConfig
from training.input.inception import eval_view

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def write_saved_model(model: keras.Model, folder: str, config: EvaluationConfig) -> None:
    """Write a SavedModel that needs none of this project's code.

    It has two signatures, which return `logits` and `probabilities` `[N, outputs]`:
        serving_default: takes `images`, `float32 [N, S, S, 3]` in [-1, 1].
        jpeg: takes `encoded_images`, `string [N]`, and prepares them as evaluation does.
    """
    size = model.input_shape[1]
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]

    @tf.function(input_signature=[tf.TensorSpec(model.input_shape, tf.float32, name="images")])
    def from_images(images: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = model(images, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="encoded_images")])
    def from_jpeg(encoded_images: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.map_fn(
            lambda jpeg: eval_view(jpeg, size, config),
            encoded_images,
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32),
        )
        return dict(from_images(images))

    signatures = {"serving_default": from_images, "jpeg": from_jpeg}
    tf.saved_model.save(module, folder, signatures=signatures)
    os.remove(os.path.join(folder, "fingerprint.pb"))  # optional, and random


def write_keras(model: keras.Model, path: str) -> None:
    """Write a `.keras` file of plain Keras layers, from images to probabilities.

    Args:
        model: A network of plain layers (see `training.models.mobilenet`), from images to logits.
        path: The file, whose name ends in `.keras`.
    """
    probabilities = keras.layers.Softmax(name="probabilities")(model.output)
    keras.Model(model.input, probabilities, name=model.name).save(path)
    storage.write_bytes(path, _undated(path))


def _undated(path: str) -> bytes:
    """Return the zip at `path` without the times and memory addresses in it."""
    undated = io.BytesIO()
    with zipfile.ZipFile(path) as dated, zipfile.ZipFile(undated, "w") as archive:
        for name in sorted(dated.namelist()):
            content = dated.read(name)
            if name == "metadata.json":
                version = json.loads(content)["keras_version"]
                content = json.dumps({"keras_version": version, "date_saved": ""}).encode()
            if name == "config.json":
                content = json.dumps(_renumbered(json.loads(content), {})).encode()
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)
    return undated.getvalue()


def _renumbered(config: Any, numbers: dict[int, int]) -> Any:
    """Return a Keras config whose shared objects are numbered instead of named by address."""
    if isinstance(config, list):
        return [_renumbered(item, numbers) for item in config]
    if not isinstance(config, dict):
        return config
    renumbered = {key: _renumbered(value, numbers) for key, value in config.items()}
    if "shared_object_id" in config:
        identity = config["shared_object_id"]
        renumbered["shared_object_id"] = numbers.setdefault(identity, len(numbers))
    return renumbered
