"""The conversion: the checkpoint and every format as files, each finished one after the other."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from pipeline.export import calibration, history
from pipeline.export.conversion import runtimes, tf1_files
from pipeline.export.conversion.sources import ExportSources
from pipeline.export.formats.tensorflow_files import SAVED_MODEL
from pipeline.export.input_contract import input_contract, labels
from pipeline.export.job import CHUNK, VERSIONED_PACKAGES, Converted, Export
from pipeline.export.metrics import REFERENCE
from pipeline.export.predictions import Predictions, require_same_answers
from pipeline.export.unfinished import REFERENCE_GRAPH, Unfinished
from preprocessing import storage
from training.input.inception import eval_view
from training.input.records import Records
from training.weights.run_weights import load_result
from training.workdir.run_record import FILE as CONFIG_FILE

logger = logging.getLogger(__name__)

NUM_JPEG = 20  # images on which the signature for encoded images is compared
RUNTIMES = ("onnxruntime", "tf2onnx")  # these too decide what an interrupted export may keep


def convert(job: Export, unfinished: Unfinished) -> Converted:
    """Write every file of an export that is not finished.

    Args:
        job: The order.
        unfinished: What an interrupted export left; it is emptied if that was another one.

    Raises:
        CheckFailedError: A converted file is not what was asked for.
        DataError: The checkpoint or a record is damaged.
        UsageError: The run has no checkpoint.
    """
    calibrated = calibration.take(
        Records(job.records, job.manifest, "train"),
        job.run.config.evaluation,
        job.run.num_classes,
        job.variant.resolution,
    )
    sources = _sources(job, calibrated)
    unfinished.require_identity(_identity(job, sources.state.step))
    folder = unfinished.export
    storage.write_json(
        os.path.join(folder, calibration.FILE), calibrated.listing(job.manifest.digest)
    )
    storage.write_json(os.path.join(folder, CONFIG_FILE), job.run.to_json())
    history.write(folder, job.workdir)
    reference = runtimes.of_network(sources.reference).to_bytes()
    storage.write_bytes(os.path.join(unfinished.folder, REFERENCE_GRAPH), reference)
    files = {REFERENCE: tf1_files.checkpoint_file(job.variant.name)}
    logger.info("export: the checkpoint and its graphs")
    tf1_files.write(folder, sources)
    for export_format in job.export_formats:
        file = export_format.file_of(job.variant.name)
        files[export_format.name] = file
        if unfinished.is_finished(file):
            logger.info("export: %s, which is finished already", export_format.title)
            continue
        logger.info("export: %s", export_format.title)
        path = os.path.join(folder, file)
        storage.remove(path)
        export_format.write(sources, path)
        unfinished.finish(file)
    if SAVED_MODEL in job.export_formats:
        _require_same_from_jpeg(job, os.path.join(folder, files[SAVED_MODEL.name]))
    return Converted(
        step=sources.state.step,
        weights_digest=job.workdir.weights_digest(sources.state.step),
        macs=sources.layout.macs,
        parameters=sources.layout.parameters,
        contract=sources.contract,
        calibration=calibrated.summary(),
        files=files,
    )


def _sources(job: Export, calibration_images: Iterable[np.ndarray]) -> ExportSources:
    config = job.run.config
    return ExportSources(
        variant=job.variant,
        state=load_result(job.workdir, job.run),
        weights=job.weights,
        evaluation=config.evaluation,
        contract=input_contract(job.variant.resolution, config.evaluation, job.manifest),
        labels=labels(job.manifest),
        calibration_images=calibration_images,
        quantized=config.model.quantized,
    )


def _identity(job: Export, step: int) -> dict[str, object]:
    """Return what must be the same for an interrupted export to continue."""
    return {
        "weights_digest": job.workdir.weights_digest(step),
        "step": step,
        "weights": job.weights,
        "config_digest": job.run.config_digest,
        "records_digest": job.manifest.digest,
        "formats": [item.name for item in job.export_formats],
        "validation_images": job.num_images,
        "chunk": CHUNK,
        "versions": {
            name: importlib.metadata.version(name) for name in (*VERSIONED_PACKAGES, *RUNTIMES)
        },
    }


def _require_same_from_jpeg(job: Export, saved_model: str) -> None:
    """Compare the SavedModel's two signatures on the first validation images."""
    records = Records(job.records, job.manifest, "validation")
    read = [
        records.read(tf.constant(index, tf.int64))
        for index in range(min(NUM_JPEG, records.num_examples))
    ]
    encoded = [jpeg.numpy() for jpeg, _ in read]
    truth = np.asarray([int(label) for _, label in read])
    size, config = job.variant.resolution, job.run.config.evaluation
    images = np.stack([eval_view(jpeg, size, config).numpy() for jpeg in encoded])
    from_images, from_jpegs = runtimes.signatures(saved_model, images, encoded)
    require_same_answers(
        "saved_model's signature jpeg",
        Predictions.of(from_jpegs, truth, from_images),
        Predictions.of(from_images, truth),
    )
