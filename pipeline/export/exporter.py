"""From a trained run to an export directory, in which every file has been run and compared."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipeline.export import (
    calibration,
    directory,
    history,
    latency,
    per_image,
    worst_images,
)
from pipeline.export.formats import litert, runtimes, writers
from pipeline.export.formats.runtimes import Runner
from pipeline.export.input_contract import input_contract, labels
from pipeline.export.predictions import (
    DisagreementError,
    Predictions,
    measured,
    require_accuracy,
    require_same_answers,
)
from preprocessing import storage
from preprocessing.errors import CheckFailedError
from preprocessing.records.schema import Manifest
from training.input.data import SINGLE_PROCESS, Records, evaluation_batches, evaluation_steps
from training.input.inception import eval_view
from training.models.variants import Variant
from training.weights.run_weights import load_state
from training.workdir.run_record import FILE as CONFIG_FILE
from training.workdir.run_record import Run
from training.workdir.workdir import Workdir

BATCH = 100  # images per step of the comparison
NUM_JPEG = 20  # images on which the signature for encoded images is compared
FLOAT16_TOLERANCE = 0.002  # of top-1


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """What to export, and how far formats may differ.

    Attributes:
        workdir: The run; its newest checkpoint is exported.
        records: Validation to compare on, training images to calibrate with.
        run: `config.json` of `workdir`.
        manifest: `dataset.json` of `records`.
        weights: `ema` or `raw`.
        int8_tolerance: How much top-1 quantised formats may lose, as a fraction.
    """

    workdir: Workdir
    records: str
    run: Run
    manifest: Manifest
    weights: str = "ema"
    int8_tolerance: float = 0.02

    @property
    def variant(self) -> Variant:
        """What the run trains."""
        return self.run.config.variant

    @property
    def validation(self) -> Records:
        """What formats are compared on."""
        return Records(self.records, self.manifest, "validation")


def export(what: Export, output: str) -> dict[str, Any]:
    """Convert, run and compare every format, then let `output` appear.

    Args:
        what: Run, records and tolerances.
        output: Folder that must not exist yet.

    Returns:
        `metrics.json`.

    Raises:
        CheckFailedError: A format does not agree; nothing is written but a picture of the
            worst images beside `output`.
    """
    output = output.rstrip("/")
    partial = f"{output}{storage.PARTIAL}export"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        os.makedirs(partial)
        metrics = _export_to(partial, what)
        storage.write_json(os.path.join(partial, directory.METRICS), metrics)
        os.replace(partial, output)
    except DisagreementError as error:
        picture = f"{output}.worst.png"
        _show_worst(what, error, picture)
        raise CheckFailedError(f"{error}; the worst are shown in {picture}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return metrics


def _export_to(folder: str, what: Export) -> dict[str, Any]:
    variant, config = what.variant, what.run.config.evaluation
    state = load_state(what.workdir, what.run)
    contract = input_contract(variant.resolution, config, what.manifest)
    calibrated = calibration.take(
        Records(what.records, what.manifest, "train"),
        config,
        what.run.num_classes,
        variant.resolution,
    )
    written = writers.write(
        folder,
        name=variant.name,
        state=state,
        weights=what.weights,
        evaluation=config,
        contract=contract,
        labels=labels(what.manifest),
        calibration_images=calibrated.images,
        quantized=what.run.config.model.quantized,
    )
    storage.write_json(
        os.path.join(folder, calibration.FILE), calibrated.listing(what.manifest.digest)
    )
    storage.write_json(os.path.join(folder, CONFIG_FILE), what.run.to_json())

    found = _compare(what, {"checkpoint": runtimes.of_network(written.network), **written.runners})
    _require_agreement(found, what.int8_tolerance)
    _require_same_from_jpeg(what, os.path.join(folder, writers.SAVED_MODEL))
    per_image.write(folder, found)
    history.write(folder, what.workdir)
    reference = found["checkpoint"]
    return {
        "variant": variant.name,
        "recipe": what.run.config.recipe,
        "weights": what.weights,
        "macs": state.layout.macs,
        "parameters": state.layout.parameters,
        "formats": {name: measured(each, reference) for name, each in found.items()},
        "files_by_format": written.files,
        "sizes": {
            name: directory.size_bytes(os.path.join(folder, file))
            for name, file in written.files.items()
        },
        "arena_bytes": {name: litert.arena_bytes(each) for name, each in written.tflite.items()},
        "latency": {
            "host": latency.host(),
            "threads": 1,
            **_latencies(written.tflite),
        },
        "input_contract": contract,
        "calibration": calibrated.summary(),
        "rejected": len(what.manifest.rejects),
        "lineage": {
            "checkpoint_step": state.step,
            "records_digest": what.manifest.digest,
            "config_digest": what.run.config_digest,
            "git_commit": what.run.git_commit,
        },
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("ai-edge-litert", "keras", "mobilenet-pipeline", "tensorflow")
        },
        "files": directory.file_digests(folder),
    }


def _compare(what: Export, formats: Mapping[str, Runner]) -> dict[str, Predictions]:
    """What every format says about every validation image, in one pass over them."""
    records = what.validation
    batches = evaluation_batches(
        records,
        what.run.config.evaluation,
        size=what.variant.resolution,
        batch_per_replica=BATCH,
        share=SINGLE_PROCESS,
    ).take(evaluation_steps(records.num_examples, BATCH))
    scores: dict[str, list[np.ndarray]] = {name: [] for name in formats}
    truths: list[np.ndarray] = []
    with tqdm(total=records.num_examples, desc="export: comparing", unit=" images") as progress:
        for images, truth, weights in batches.as_numpy_iterator():
            counted = weights > 0
            truths.append(truth[counted])
            for name, run in formats.items():
                scores[name].append(run(images[counted]))
            progress.update(int(counted.sum()))
    truth = np.concatenate(truths)
    return {name: Predictions(np.concatenate(each), truth) for name, each in scores.items()}


def _require_agreement(found: Mapping[str, Predictions], int8_tolerance: float) -> None:
    """Every format within its tolerance of the checkpoint.

    Raises:
        DisagreementError: The first that is not.
    """
    reference = found["checkpoint"]
    for name, predictions in found.items():
        if name == "tflite_float16":
            require_accuracy(name, predictions, reference, FLOAT16_TOLERANCE)
        elif name in writers.QUANTIZED:
            advice = "--int8-tolerance changes that"
            require_accuracy(name, predictions, reference, int8_tolerance, advice)
        else:
            require_same_answers(name, predictions, reference)


def _require_same_from_jpeg(what: Export, saved_model: str) -> None:
    """The SavedModel's two signatures say the same about the first validation images."""
    records = what.validation
    read = [
        records.read(tf.constant(index, tf.int64))
        for index in range(min(NUM_JPEG, records.num_examples))
    ]
    encoded = [jpeg.numpy() for jpeg, _ in read]
    truth = np.asarray([int(label) for _, label in read])
    size, config = what.variant.resolution, what.run.config.evaluation
    images = np.stack([eval_view(jpeg, size, config).numpy() for jpeg in encoded])
    require_same_answers(
        "saved_model's signature jpeg",
        Predictions(runtimes.of_saved_model_jpeg(saved_model)(encoded), truth),
        Predictions(runtimes.of_saved_model(saved_model)(images), truth),
    )


def _latencies(flatbuffers: Mapping[str, bytes]) -> dict[str, Any]:
    progress = tqdm(flatbuffers.items(), desc="export: timing", unit=" formats")
    return {name: latency.measure_threads(each) for name, each in progress}


def _show_worst(what: Export, error: DisagreementError, picture: str) -> None:
    """Lines on stderr and a picture."""
    records, size = what.validation, what.variant.resolution
    names = ["background", *(each.text for each in what.manifest.classes)]
    images, captions = [], []
    for index in error.images:
        jpeg, label = records.read(tf.constant(index, tf.int64))
        images.append(eval_view(jpeg, size, what.run.config.evaluation).numpy())
        captions.append(f"validation image {index}\n{names[int(label)][:34]}\n{error.name}")
        print(
            f"export: {error.name} is wrong on validation image {index} ({names[int(label)]})",
            file=sys.stderr,
        )
    worst_images.draw(picture, images, captions)
