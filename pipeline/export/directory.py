"""An export directory: its files, and whether they are intact. TensorFlow is not imported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from pipeline.export.metrics import ExportMetrics, FileDigest
from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.storage.contracts import ContractError
from training.workdir.run_record import FILE as CONFIG_FILE
from training.workdir.run_record import Run

METRICS = "metrics.json"
LABELS = "labels.txt"  # line i, counted from 0, names output i
MAX_LABELS_BYTES = 16 << 20


@contextlib.contextmanager
def at_hand(folder: str) -> Iterator[str]:
    """Yield an export as a local folder: itself, or a temporary copy of one in a bucket.

    Raises:
        UsageError: `folder` is not an export directory.
    """
    if not storage.is_remote(folder):
        yield folder
        return
    read_metrics(folder)  # nothing is fetched of a folder that is no complete export
    with storage.temporary_folder("export") as copies:
        copy = os.path.join(copies, os.path.basename(folder.rstrip("/")))
        storage.download_folder(folder, copy)
        yield copy


def size_bytes(path: str) -> int:
    """Return the size of a file, or of all files below a folder."""
    if os.path.isdir(path):
        return sum(storage.list_files(path).values())
    return os.path.getsize(path)


def file_digests(folder: str) -> dict[str, FileDigest]:
    """Return size and SHA-256 of every file but metrics.json."""
    return {
        name: FileDigest(
            bytes=size,
            sha256=storage.digest_of_file(storage.join(folder, name)),
        )
        for name, size in storage.list_files(folder).items()
        if name != METRICS
    }


def is_export(folder: str) -> bool:
    """Return whether `folder` is a complete export."""
    return storage.exists(storage.join(folder, METRICS))


def read_metrics(folder: str) -> ExportMetrics:
    """Read `metrics.json` of a complete export.

    Raises:
        UsageError: `folder` is not an export directory.
        DataError: The file is damaged; the message names the first wrong place.
    """
    path = storage.join(folder, METRICS)
    if not is_export(folder):
        raise UsageError(f"{folder} has no {METRICS}; make an export with `mobilenet export`")
    return ExportMetrics.from_json(storage.read_json(path), path)


def read_run(folder: str, metrics: ExportMetrics) -> Run:
    """Read the run of an export, `config.json`.

    Args:
        folder: The export directory.
        metrics: Its metrics, which know the records of exports that are older than the field.

    Raises:
        DataError: The file is damaged; the message names the first wrong place.
    """
    path = storage.join(folder, CONFIG_FILE)
    stored = storage.read_json(path)
    if isinstance(stored, dict):
        stored = {"records_digest": metrics.lineage.records_digest, **stored}
    try:
        return Run.from_json(stored, path)
    except ContractError as error:
        raise DataError(f"{error}; export again") from None


def read_labels(folder: str) -> list[str]:
    """Read the names of the outputs of an export.

    Raises:
        DataError: The file is no text, or longer than the names of any classes.
    """
    path = storage.join(folder, LABELS)
    content = storage.read_bytes(path, max_bytes=MAX_LABELS_BYTES + 1)
    try:
        if len(content) > MAX_LABELS_BYTES:
            raise DataError(f"{path} has more than {MAX_LABELS_BYTES:,} bytes; export again")
        return content.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 ({error}); export again") from error


def require_intact(folder: str, metrics: ExportMetrics) -> None:
    """Compare every file with the digests that were taken when it was measured.

    Raises:
        DataError: A file is missing, new or changed; the message says which.
    """
    measured, present = metrics.files, file_digests(folder)
    changed = sorted(
        name for name in {*measured, *present} if measured.get(name) != present.get(name)
    )
    if changed:
        raise DataError(
            f"{folder} is not what was measured: {', '.join(changed[:3])} changed; "
            "delete the folder and export again"
        )
