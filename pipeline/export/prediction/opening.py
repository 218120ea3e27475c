"""Opening a model: an export, one file of it, or a TF-Lite file alone becomes a classifier."""

from __future__ import annotations

import json
import os

from pipeline.export import directory
from pipeline.export.conversion import runtimes, tflite_metadata
from pipeline.export.conversion.sources import ExportedNetwork
from pipeline.export.formats.export_format import ExportFormat
from pipeline.export.formats.registry import EXPORT_FORMATS
from pipeline.export.formats.tflite_files import FLOAT32
from pipeline.export.input_contract import evaluation_of
from pipeline.export.metrics import ExportMetrics, InputContract
from pipeline.export.prediction.classifier import Classifier
from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.storage import contracts

ALLOWED = (
    "expected a folder of `mobilenet export` or `mobilenet fetch`, a file in one, or a .tflite "
    "file of ours"
)
TFLITE = ".tflite"


def open_classifier(model: str, export_format: str | None = None) -> Classifier:
    """Open a model.

    Args:
        model: An export, local or in a bucket; a local file of one; or a local `.tflite` file
            that carries labels and input contract, as those of an export do.
        export_format: Name of the format to run, of an export; None runs `tflite_float32`, or the
            first that is there.

    Raises:
        UsageError: There is no such model or format.
        DataError: A file is damaged.
    """
    if not storage.exists(model):
        raise UsageError(f"{model} does not exist; {ALLOWED}")
    if directory.is_export(model):
        with directory.at_hand(model) as folder:
            return _of_export(folder, export_format)
    if export_format:
        raise UsageError(f"{model} is one file, so there is no choice of a format")
    folder, name = os.path.split(os.path.abspath(model))
    if not storage.is_remote(model) and directory.is_export(folder):
        files = directory.read_metrics(folder).files_by_format
        formats = {file: format_name for format_name, file in files.items()}
        if name in formats:
            return _of_export(folder, formats[name])
    if model.endswith(TFLITE) and os.path.isfile(model):
        return _of_tflite(model)
    raise UsageError(f"{model} is no model that can be opened; {ALLOWED}")


def _of_export(folder: str, wanted: str | None) -> Classifier:
    metrics = directory.read_metrics(folder)
    if metrics.input_contract is None:
        raise DataError(f"{folder} was made by an older version; export it again")
    network = ExportedNetwork(variant=metrics.variant, contract=metrics.input_contract)
    chosen = _chosen_format(folder, metrics, wanted)
    path = os.path.join(folder, metrics.files_by_format[chosen.name])
    return Classifier(
        labels=_checked(tuple(directory.read_labels(folder)), metrics.input_contract, folder),
        image_size=metrics.input_contract.image_size,
        evaluation=evaluation_of(metrics.input_contract),
        run=chosen.open(path, network),
    )


def _chosen_format(folder: str, metrics: ExportMetrics, wanted: str | None) -> ExportFormat:
    there = [item for item in EXPORT_FORMATS if item.name in metrics.files_by_format]
    if not there:
        raise UsageError(f"{folder} has no format that can be opened; export it with all formats")
    if wanted is None:
        return FLOAT32 if FLOAT32 in there else there[0]
    for item in there:
        if item.name == wanted:
            return item
    raise UsageError(
        f"{folder} has no format {wanted!r}; it has {', '.join(item.name for item in there)}"
    )


def _of_tflite(path: str) -> Classifier:
    files = tflite_metadata.read_files(storage.read_bytes(path))
    missing = {directory.LABELS, tflite_metadata.CONTRACT} - files.keys()
    if missing:
        raise DataError(
            f"{path} carries no {' and no '.join(sorted(missing))}, so its classes and its input "
            f"are not known; {ALLOWED}"
        )
    try:
        contract = contracts.from_json(
            InputContract, json.loads(files[tflite_metadata.CONTRACT]), path
        )
        labels = files[directory.LABELS].decode().removesuffix("\n").split("\n")
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); fetch or export it again") from None
    return Classifier(
        labels=_checked(tuple(labels), contract, path),
        image_size=contract.image_size,
        evaluation=evaluation_of(contract),
        run=runtimes.of_tflite_file(path, os.path.basename(path)),
    )


def _checked(labels: tuple[str, ...], contract: InputContract, where: str) -> tuple[str, ...]:
    if len(labels) != contract.outputs:
        raise DataError(
            f"{where} has {len(labels)} labels for {contract.outputs} outputs; fetch or export it "
            "again"
        )
    return labels
