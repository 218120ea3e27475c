"""The exporter: from a trained run to an export directory in which every file was compared."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pipeline.export import (
    calibration,
    directory,
    history,
    latency,
    per_image,
)
from pipeline.export.conversion import litert, runtimes, tf1_files
from pipeline.export.conversion.sources import ExportSources
from pipeline.export.formats.export_format import Runner
from pipeline.export.formats.registry import EXPORT_FORMATS
from pipeline.export.formats.tensorflow_files import SAVED_MODEL
from pipeline.export.input_contract import input_contract, labels
from pipeline.export.metrics import REFERENCE, ExportMetrics, Latencies, Lineage, Weights
from pipeline.export.predictions import (
    DisagreementError,
    Predictions,
    measured,
    require_same_answers,
    require_within,
)
from preprocessing import storage
from preprocessing.errors import CheckFailedError
from preprocessing.records.schema import Manifest
from training.input.data import (
    EVALUATION_BATCH,
    SINGLE_PROCESS,
    evaluation_batches,
    evaluation_steps,
)
from training.input.inception import eval_view
from training.input.records import Records, damage_named
from training.models.variants import Variant
from training.monitoring.image_grid import captioned, grid, view_image
from training.optimization.state import TrainingState
from training.weights.run_weights import load_state
from training.workdir.run_record import FILE as CONFIG_FILE
from training.workdir.run_record import Run
from training.workdir.workdir import Workdir

logger = logging.getLogger(__name__)

WORST_PIXELS, WORST_COLUMNS = 224, 4  # picture of the worst images of a format
NUM_JPEG = 20  # images on which the signature for encoded images is compared
VERSIONED_PACKAGES = ("ai-edge-litert", "keras", "mobilenet-pipeline", "tensorflow")


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """A run to export, and how far formats may differ.

    Attributes:
        workdir: The run; its newest checkpoint is exported.
        records: The records, with validation images to compare on and training images to
            calibrate with.
        run: `config.json` of `workdir`.
        manifest: `dataset.json` of `records`.
        weights: Which weights are exported.
        int8_tolerance: The fraction of top-1 that quantised formats may lose; None takes each
            format's own.
    """

    workdir: Workdir
    records: str
    run: Run
    manifest: Manifest
    weights: Weights = "ema"
    int8_tolerance: float | None = None

    @property
    def variant(self) -> Variant:
        """The variant that the run trains."""
        return self.run.config.variant

    @property
    def validation(self) -> Records:
        """The images that formats are compared on."""
        return Records(self.records, self.manifest, "validation")

    @property
    def training(self) -> Records:
        """The images that calibration takes from."""
        return Records(self.records, self.manifest, "train")


def export(job: Export, output: str) -> ExportMetrics:
    """Convert, run and compare every format, then let `output` appear.

    Args:
        job: The run, records and tolerances.
        output: The folder to make, local or in a bucket. An export that is there is replaced at
            the end.

    Returns:
        What `metrics.json` holds.

    Raises:
        CheckFailedError: A format does not agree; nothing is written but a picture of the
            worst images next to `output`.
    """
    output = output.rstrip("/")
    try:
        with _partial(output) as partial:
            metrics = _export_to(partial, job)
            storage.write_json(os.path.join(partial, directory.METRICS), metrics.to_json())
            _replace(partial, output)
    except DisagreementError as error:
        picture = f"{output}.worst.png"
        _show_worst(job, error, picture)
        raise CheckFailedError(f"{error}; the worst are shown in {picture}") from error
    return metrics


@contextlib.contextmanager
def _partial(output: str) -> Iterator[str]:
    """Yield an empty local folder to export to, on the disk of `output` unless it is a bucket."""
    if storage.is_remote(output):
        with storage.temporary_folder("export") as folder:
            yield folder
        return
    partial = f"{output}{storage.PARTIAL}export"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        os.makedirs(partial)
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace(folder: str, output: str) -> None:
    """Give `folder` the name `output`; an export of that name ends when the new one is there."""
    if storage.is_remote(output):
        storage.upload_folder(folder, output, last=directory.METRICS)
        return
    old = f"{output}{storage.PARTIAL}old"
    shutil.rmtree(old, ignore_errors=True)
    if os.path.exists(output):
        os.replace(output, old)  # a folder cannot be replaced at once
    os.replace(folder, output)
    shutil.rmtree(old, ignore_errors=True)


def _export_to(folder: str, job: Export) -> ExportMetrics:
    """Write all files but metrics.json into `folder` and return what was measured on them."""
    state = load_state(job.workdir, job.run)
    calibrated = calibration.take(
        job.training,
        job.run.config.evaluation,
        job.run.num_classes,
        job.variant.resolution,
    )
    sources = _sources(job, state, calibrated.images)
    files = _write_files(folder, sources)
    storage.write_json(
        os.path.join(folder, calibration.FILE), calibrated.listing(job.manifest.digest)
    )
    storage.write_json(os.path.join(folder, CONFIG_FILE), job.run.to_json())

    predictions = _compare(job, _runners(files, sources))
    _require_agreement(predictions, job.int8_tolerance)
    _require_same_from_jpeg(job, files[SAVED_MODEL.name])
    per_image.write(folder, predictions)
    history.write(folder, job.workdir)
    reference = predictions[REFERENCE]
    flatbuffers = {
        item.name: storage.read_bytes(files[item.name]) for item in EXPORT_FORMATS if item.is_tflite
    }
    return ExportMetrics(
        variant=job.variant,
        recipe=job.run.config.recipe,
        weights=job.weights,
        macs=sources.layout.macs,
        parameters=sources.layout.parameters,
        formats={name: measured(scores, reference) for name, scores in predictions.items()},
        files_by_format={name: os.path.relpath(path, folder) for name, path in files.items()},
        sizes={name: directory.size_bytes(path) for name, path in files.items()},
        arena_bytes={name: litert.arena_bytes(content) for name, content in flatbuffers.items()},
        latency=_latencies(flatbuffers),
        input_contract=sources.contract,
        calibration=calibrated.summary(),
        rejected=len(job.manifest.rejects),
        lineage=Lineage(
            checkpoint_step=sources.state.step,
            records_digest=job.manifest.digest,
            config_digest=job.run.config_digest,
            git_commit=job.run.git_commit,
            weights_digest=job.workdir.weights_digest(sources.state.step),
        ),
        versions={name: importlib.metadata.version(name) for name in VERSIONED_PACKAGES},
        files=directory.file_digests(folder),
    )


def _sources(job: Export, state: TrainingState, calibration_images: np.ndarray) -> ExportSources:
    config = job.run.config
    return ExportSources(
        variant=job.variant,
        state=state,
        weights=job.weights,
        evaluation=config.evaluation,
        contract=input_contract(job.variant.resolution, config.evaluation, job.manifest),
        labels=labels(job.manifest),
        calibration_images=calibration_images,
        quantized=config.model.quantized,
    )


def _write_files(folder: str, sources: ExportSources) -> dict[str, str]:
    """Write the checkpoint and every format; return the path of each by format."""
    variant = sources.variant.name
    logger.info("export: the checkpoint and its graphs")
    tf1_files.write(folder, sources)
    files = {REFERENCE: os.path.join(folder, tf1_files.checkpoint_file(variant))}
    for export_format in EXPORT_FORMATS:
        logger.info("export: %s", export_format.title)
        path = os.path.join(folder, export_format.file_of(variant))
        export_format.write(sources, path)
        files[export_format.name] = path
    return files


def _runners(files: Mapping[str, str], sources: ExportSources) -> dict[str, Runner]:
    """Return the reference and every format in its own runtime, read back from its file."""
    return {
        REFERENCE: runtimes.of_network(sources.reference),
        **{item.name: item.open(files[item.name], sources) for item in EXPORT_FORMATS},
    }


def _compare(job: Export, formats: Mapping[str, Runner]) -> dict[str, Predictions]:
    """Return the predictions of every format on every validation image, from one pass."""
    records = job.validation
    batches = evaluation_batches(
        records,
        job.run.config.evaluation,
        size=job.variant.resolution,
        batch_per_replica=EVALUATION_BATCH,
        share=SINGLE_PROCESS,
    ).take(evaluation_steps(records.num_examples, EVALUATION_BATCH))
    scores: dict[str, list[np.ndarray]] = {name: [] for name in formats}
    truths: list[np.ndarray] = []
    with (
        damage_named(records),
        tqdm(total=records.num_examples, desc="export: comparing", unit=" images") as progress,
    ):
        for images, truth, weights in batches.as_numpy_iterator():
            counted = weights > 0
            truths.append(truth[counted])
            for name, run in formats.items():
                scores[name].append(run(images[counted]))
            progress.update(int(counted.sum()))
    truth = np.concatenate(truths)
    return {name: Predictions(np.concatenate(parts), truth) for name, parts in scores.items()}


def _require_agreement(
    predictions: Mapping[str, Predictions], int8_tolerance: float | None
) -> None:
    """Raise DisagreementError for the first format outside its tolerance of the checkpoint."""
    for export_format in EXPORT_FORMATS:
        require_within(
            export_format,
            predictions[export_format.name],
            predictions[REFERENCE],
            adjusted_top1_loss=int8_tolerance,
        )


def _require_same_from_jpeg(job: Export, saved_model: str) -> None:
    """Compare the SavedModel's two signatures on the first validation images."""
    records = job.validation
    read = [
        records.read(tf.constant(index, tf.int64))
        for index in range(min(NUM_JPEG, records.num_examples))
    ]
    encoded = [jpeg.numpy() for jpeg, _ in read]
    truth = np.asarray([int(label) for _, label in read])
    size, config = job.variant.resolution, job.run.config.evaluation
    images = np.stack([eval_view(jpeg, size, config).numpy() for jpeg in encoded])
    require_same_answers(
        "saved_model's signature jpeg",
        Predictions(runtimes.of_saved_model_jpeg(saved_model)(encoded), truth),
        Predictions(runtimes.of_saved_model(saved_model)(images), truth),
    )


def _latencies(flatbuffers: Mapping[str, bytes]) -> Latencies:
    progress = tqdm(flatbuffers.items(), desc="export: timing", unit=" formats")
    return Latencies(
        host=latency.host(),
        threads=1,
        formats={name: latency.measure_threads(content) for name, content in progress},
    )


def _show_worst(job: Export, error: DisagreementError, picture: str) -> None:
    """Name the worst images on stderr and draw them."""
    records, size = job.validation, job.variant.resolution
    names = ["background", *(image_class.text for image_class in job.manifest.classes)]
    tiles = []
    for index in error.images:
        jpeg, label = records.read(tf.constant(index, tf.int64))
        view = eval_view(jpeg, size, job.run.config.evaluation).numpy()
        caption = f"validation image {index}\n{names[int(label)]}\n{error.name}"
        tiles.append(captioned(view_image(view, WORST_PIXELS), caption))
        logger.warning(
            "export: %s is wrong on validation image %d (%s)", error.name, index, names[int(label)]
        )
    drawn = io.BytesIO()
    grid(tiles, WORST_COLUMNS).save(drawn, "PNG")
    storage.write_bytes(picture, drawn.getvalue())
