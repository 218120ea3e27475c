"""Helpers that publish exports for tests."""

from __future__ import annotations

from pathlib import Path

from pipeline.publish import published_index
from pipeline.publish.publication import publish
from tests.pipeline.an_export import metrics_of


def publish_to(
    export: Path, folder: Path | str, overwrite: bool = False
) -> published_index.PublishedEntry:
    metrics = metrics_of(export)
    registered = published_index.RegistryReference(model=metrics.variant.name, version=1)
    return publish(str(export), metrics, registered, str(folder), overwrite=overwrite)


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }
