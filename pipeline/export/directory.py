"""An export directory on disk: what is in it, and whether it is intact. No TensorFlow here."""

from __future__ import annotations

import os
from typing import Any

from preprocessing import storage
from preprocessing.errors import DataError, UsageError

METRICS = "metrics.json"


def list_files(folder: str) -> list[str]:
    """Sorted paths of all files below `folder`, relative to it."""
    return sorted(
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
    )


def size_bytes(path: str) -> int:
    """Of a file, or of all files below a folder."""
    if os.path.isdir(path):
        return sum(os.path.getsize(os.path.join(path, name)) for name in list_files(path))
    return os.path.getsize(path)


def file_digests(folder: str) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file but metrics.json."""
    return {
        name: {
            "bytes": os.path.getsize(os.path.join(folder, name)),
            "sha256": storage.digest_of_file(os.path.join(folder, name)),
        }
        for name in list_files(folder)
        if name != METRICS
    }


def is_export(folder: str) -> bool:
    """Whether `folder` is a complete export."""
    return os.path.exists(os.path.join(folder, METRICS))


def read_metrics(folder: str) -> dict[str, Any]:
    """`metrics.json` of a complete export.

    Raises:
        UsageError: `folder` is no export directory.
    """
    path = os.path.join(folder, METRICS)
    if not is_export(folder):
        raise UsageError(f"{folder} has no {METRICS}; make an export with `mobilenet export`")
    metrics: dict[str, Any] = storage.read_json(path)
    return metrics


def require_intact(folder: str, metrics: dict[str, Any]) -> None:
    """Compare every file with the digests taken when it was measured.

    Raises:
        DataError: A file is missing, new or changed; says which.
    """
    files, now = metrics["files"], file_digests(folder)
    changed = sorted(name for name in {*files, *now} if files.get(name) != now.get(name))
    if changed:
        raise DataError(
            f"{folder} is not what was measured: {', '.join(changed[:3])} changed; "
            "delete the folder and export again"
        )


def export_digest(metrics: dict[str, Any]) -> str:
    """Identity of an export: SHA-256 of its metrics.json."""
    return storage.digest_of(metrics)
