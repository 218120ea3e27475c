"""From a trained run to an export directory, in which every file has been run and compared."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipeline import exports, history, latency, per_image, tflite
from pipeline.predictions import (
    Predictions,
    measured,
    require_accuracy,
    require_same_answers,
)
from preprocessing import storage
from preprocessing.schema import Manifest
from training import slim_checkpoint
from training.checkpoint import load_state
from training.config import EvaluationConfig
from training.data import Records, Share, evaluation_batches, evaluation_steps
from training.inception import eval_view
from training.slim_checkpoint import slim_variables
from training.state import TrainingState
from training.variants import Variant
from training.workdir import Run

CALIBRATION_IMAGES = 500
BATCH = 100  # images per step of the comparison
_ALONE = Share(worker_index=0, num_workers=1, local_replicas=1)


def export(
    workdir: str, records: str, output: str, run: Run, manifest: Manifest, int8_tolerance: float
) -> dict[str, Any]:
    """Convert, run and compare every format, then let `output` appear.

    Args:
        workdir: The run; its newest checkpoint is exported.
        records: Validation to compare on, training images to calibrate with.
        output: Folder that must not exist yet.
        run: `config.json` of `workdir`.
        manifest: `dataset.json` of `records`.
        int8_tolerance: How much top-1 int8 may lose, as a fraction.

    Returns:
        `metrics.json`.

    Raises:
        CheckFailedError: A format does not agree; nothing is written.
    """
    partial = f"{output.rstrip('/')}{storage.PARTIAL}export"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        os.makedirs(partial)
        metrics = _export_to(partial, workdir, records, run, manifest, int8_tolerance)
        storage.write_json(os.path.join(partial, exports.METRICS), metrics)
        os.replace(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return metrics


def _export_to(
    folder: str, workdir: str, records: str, run: Run, manifest: Manifest, int8_tolerance: float
) -> dict[str, Any]:
    variant = Variant.parse(run.config.variant)
    state = load_state(workdir, run)
    model = state.averaged_model
    images, labels = _validation(
        Records(records, manifest, "validation"), run.config.evaluation, variant.resolution
    )

    def predict(name: str, probabilities: Callable[[np.ndarray], np.ndarray]) -> Predictions:
        chunks = np.array_split(images, max(1, len(images) // BATCH))
        scores = [
            probabilities(chunk) for chunk in tqdm(chunks, desc=f"export {name}", unit=" batches")
        ]
        return Predictions(np.concatenate(scores), labels)

    single = _with_softmax(model, batch_size=1)
    checkpoint = predict("checkpoint", _keras_runner(_with_softmax(model)))
    found = {"checkpoint": checkpoint}

    saved_model = os.path.join(folder, "saved_model")
    _write_saved_model(model, saved_model)
    found["saved_model"] = predict("saved_model", _saved_model_runner(saved_model))
    require_same_answers("saved_model", found["saved_model"], checkpoint)

    float32 = tflite.to_float32(single)
    found["tflite_float32"] = predict("tflite_float32", _litert_runner(float32))
    require_same_answers("tflite_float32", found["tflite_float32"], checkpoint)

    calibration, calibration_digest = _calibration_images(
        Records(records, manifest, "train"),
        run.config.evaluation,
        run.num_classes,
        variant.resolution,
    )
    int8 = tflite.to_int8(single, calibration)
    found["tflite_int8"] = predict("tflite_int8", _litert_runner(int8))
    require_accuracy("tflite_int8", found["tflite_int8"], checkpoint, int8_tolerance)

    for name, flatbuffer in (
        (f"{variant.name}.tflite", float32),
        (f"{variant.name}_int8.tflite", int8),
    ):
        storage.write_bytes(os.path.join(folder, name), flatbuffer)
    _write_slim_checkpoint(os.path.join(folder, f"{variant.name}.ckpt"), state)
    storage.write_bytes(os.path.join(folder, "labels.txt"), _labels(manifest))
    run.write(folder)
    per_image.write(folder, found)
    history.write(folder, workdir)
    return {
        "variant": variant.name,
        "recipe": run.config.recipe,
        "macs": state.layout.macs,
        "parameters": state.layout.parameters,
        "formats": {name: measured(each, checkpoint) for name, each in found.items()},
        "latency": {
            "host": latency.host(),
            "threads": 1,
            "tflite_float32": latency.measure(float32, images[0]),
            "tflite_int8": latency.measure(int8, images[0]),
        },
        "calibration": {"images": len(calibration), "sha256": calibration_digest},
        "rejected": len(manifest.rejects),
        "lineage": {
            "checkpoint_step": state.step,
            "records_digest": manifest.digest,
            "config_digest": run.config_digest,
            "git_commit": run.git_commit,
        },
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("ai-edge-litert", "keras", "mobilenet-pipeline", "tensorflow")
        },
        "files": exports.file_digests(folder),
    }


def _write_slim_checkpoint(prefix: str, state: TrainingState) -> None:
    """Raw weights and averages under slim's names, as in the published `.tgz`."""
    raw, averages = (
        {name: variable.numpy() for name, variable in slim_variables(model, state.layout).items()}
        for model in (state.model, state.averaged_model)
    )
    slim_checkpoint.write(prefix, raw, averages, state.step)


def _validation(
    records: Records, config: EvaluationConfig, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """All of `records`, once: `float32 [N, S, S, 3]` in [-1, 1] and `int64 [N]`."""
    batches = evaluation_batches(records, config, size=size, batch_per_replica=BATCH, share=_ALONE)
    images, labels, weights = zip(
        *batches.take(evaluation_steps(records.num_examples, BATCH)).as_numpy_iterator(),
        strict=True,
    )
    counted = np.concatenate(weights) > 0
    return np.concatenate(images)[counted], np.concatenate(labels)[counted]


def _calibration_images(
    records: Records, config: EvaluationConfig, num_classes: int, size: int
) -> tuple[np.ndarray, str]:
    """The first training images of every class, as in evaluation, and which they were."""
    per_class = -(-CALIBRATION_IMAGES // num_classes)
    taken: dict[int, int] = {}
    images: list[np.ndarray] = []
    indices: list[int] = []
    for index in range(records.num_examples):
        if len(images) == CALIBRATION_IMAGES:
            break
        jpeg, label = records.read(tf.constant(index, tf.int64))
        if taken.get(int(label), 0) < per_class:
            taken[int(label)] = taken.get(int(label), 0) + 1
            images.append(eval_view(jpeg, size, config).numpy())
            indices.append(index)
    return np.stack(images), storage.digest_of(indices)


def _with_softmax(model: keras.Model, batch_size: int | None = None) -> keras.Model:
    images = keras.Input(model.input_shape[1:], batch_size=batch_size, name="images")
    return keras.Model(images, keras.layers.Softmax(name="probabilities")(model(images)))


def _write_saved_model(model: keras.Model, folder: str) -> None:
    """`serving_default`: images `[N, S, S, 3]` in [-1, 1] to `logits` and `probabilities`."""
    module = tf.Module()
    module.model = model

    @tf.function(input_signature=[tf.TensorSpec(model.input_shape, tf.float32, name="images")])
    def serve(images: Any) -> dict[str, Any]:
        logits = model(images, training=False)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits)}

    tf.saved_model.save(module, folder, signatures={"serving_default": serve})


def _keras_runner(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    run = tf.function(lambda images: model(images, training=False))
    return lambda images: run(tf.constant(images)).numpy()


def _saved_model_runner(folder: str) -> Callable[[np.ndarray], np.ndarray]:
    loaded = tf.saved_model.load(folder)

    def run(images: np.ndarray) -> np.ndarray:
        # Through `loaded`, because a signature alone does not keep its variables alive.
        outputs = loaded.signatures["serving_default"](images=tf.constant(images))
        return np.asarray(outputs["probabilities"])

    return run


def _litert_runner(flatbuffer: bytes) -> Callable[[np.ndarray], np.ndarray]:
    model = tflite.LiteRTModel(flatbuffer)
    return lambda images: np.stack([model.probabilities(image) for image in images])


def _labels(manifest: Manifest) -> bytes:
    """Line i names output i; output 0 is the background."""
    return "".join(
        f"{name}\n" for name in ("background", *(c.text for c in manifest.classes))
    ).encode()
