"""The exporter: from a trained run to an export directory in which every file was compared."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import io
import logging
import os
import shutil
from collections.abc import Iterator, Mapping

from pipeline.export import directory, latency, per_image, unfinished
from pipeline.export.conversion import litert
from pipeline.export.job import CHUNK, VERSIONED_PACKAGES, Converted, Export
from pipeline.export.metrics import REFERENCE, ExportMetrics, InputContract, Latencies, Lineage
from pipeline.export.predictions import (
    DisagreementError,
    Predictions,
    from_bytes,
    measured,
    require_within,
)
from pipeline.export.stages import Stages, stages
from pipeline.export.unfinished import Unfinished
from pipeline.local.quiet import import_tensorflow
from preprocessing import storage
from preprocessing.errors import CheckFailedError, StorageFullError
from preprocessing.progress import progress_bar

logger = logging.getLogger(__name__)

WORST_PIXELS, WORST_COLUMNS = 224, 4  # picture of the worst images of a format


def export(job: Export, output: str) -> ExportMetrics:
    """Convert, run and compare every format, then let `output` appear.

    What is finished of an interrupted export of the same weights to the same output is kept.

    Args:
        job: The run, records and tolerances.
        output: The folder to make, local or in a bucket. An export that is there is replaced at
            the end.

    Returns:
        What `metrics.json` holds.

    Raises:
        CheckFailedError: A format does not agree; `output` is as it was, and a picture of the
            worst images is next to it.
    """
    output = output.rstrip("/")
    try:
        with _removed_from_a_full_disk(output), unfinished.unfinished(output) as kept:
            metrics = _export_to(kept, job)
            storage.write_json(os.path.join(kept.export, directory.METRICS), metrics.to_json())
            _replace(kept.export, output)
    except DisagreementError as error:
        picture = f"{output}.worst.png"
        _show_worst(job, error, picture)
        raise CheckFailedError(f"{error}; the worst are shown in {picture}") from error
    unfinished.remove(output)
    return metrics


@contextlib.contextmanager
def _removed_from_a_full_disk(output: str) -> Iterator[None]:
    """Remove the unfinished export when there is no space for the rest of it."""
    try:
        yield
    except (StorageFullError, OSError) as error:
        if isinstance(error, StorageFullError) or error.errno in (errno.ENOSPC, errno.EDQUOT):
            unfinished.remove(output)
        raise


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


def _export_to(kept: Unfinished, job: Export) -> ExportMetrics:
    """Write all files but metrics.json and return what was measured on them."""
    with stages(job, kept) as work:
        converted = work.convert()
        predictions = _predictions(work, converted.contract)
    reference = predictions[REFERENCE]
    for export_format in job.export_formats:
        require_within(
            export_format,
            predictions[export_format.name],
            reference,
            adjusted_top1_loss=job.int8_tolerance,
        )
    folder = kept.export
    per_image.write(
        folder,
        predictions,
        converted.contract.outputs,
        job.positions if job.sample else None,
    )
    files = {name: os.path.join(folder, file) for name, file in converted.files.items()}
    flatbuffers = {
        item.name: storage.read_bytes(files[item.name])
        for item in job.export_formats
        if item.is_tflite
    }
    return ExportMetrics(
        variant=job.variant,
        recipe=job.run.config.recipe,
        weights=job.weights,
        macs=converted.macs,
        parameters=converted.parameters,
        formats={name: measured(scores, reference) for name, scores in predictions.items()},
        files_by_format=converted.files,
        sizes={name: directory.size_bytes(path) for name, path in files.items()},
        arena_bytes={name: litert.arena_bytes(content) for name, content in flatbuffers.items()},
        latency=_latencies(flatbuffers),
        input_contract=converted.contract,
        calibration=converted.calibration,
        sample=job.sample,
        rejected=len(job.manifest.rejects),
        lineage=_lineage(job, converted),
        versions={name: importlib.metadata.version(name) for name in VERSIONED_PACKAGES},
        files=directory.file_digests(folder),
    )


def _lineage(job: Export, converted: Converted) -> Lineage:
    return Lineage(
        checkpoint_step=converted.step,
        records_digest=job.manifest.digest,
        config_digest=job.run.config_digest,
        git_commit=job.run.git_commit,
        weights_digest=converted.weights_digest,
    )


def _predictions(work: Stages, contract: InputContract) -> dict[str, Predictions]:
    """Return the predictions of the reference and of every format on every image."""
    job, kept = work.job, work.unfinished
    missing = sorted({*range(job.num_chunks)} - {*kept.chunk_numbers()})
    with progress_bar(total=job.num_images, desc="export: comparing", unit=" images") as progress:
        progress.update(job.num_images - sum(_size(job, number) for number in missing))
        for number in work.compare(contract, missing):
            progress.update(_size(job, number))
    chunks = [from_bytes(kept.read_chunk(number)) for number in range(job.num_chunks)]
    return {name: Predictions.joined([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _size(job: Export, number: int) -> int:
    """Return the number of images in a chunk."""
    return min(CHUNK, job.num_images - number * CHUNK)


def _latencies(flatbuffers: Mapping[str, bytes]) -> Latencies:
    progress = progress_bar(flatbuffers.items(), desc="export: timing", unit=" formats")
    return Latencies(
        host=latency.host(),
        threads=1,
        formats={name: latency.measure_threads(content) for name, content in progress},
    )


def _show_worst(job: Export, error: DisagreementError, picture: str) -> None:
    """Name the worst images on stderr and draw them."""
    import_tensorflow()
    import tensorflow as tf

    from training.input.inception import eval_view
    from training.input.records import Records
    from training.monitoring.image_grid import captioned, grid, view_image

    records, size = Records(job.records, job.manifest, "validation"), job.variant.resolution
    names = ["background", *(image_class.text for image_class in job.manifest.classes)]
    tiles = []
    for index in job.positions[error.images].tolist():
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
