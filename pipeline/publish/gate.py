"""The gate: conditions that an export must meet before it is published."""

from __future__ import annotations

import os

from pipeline.export import directory
from pipeline.export.metrics import ExportMetrics
from pipeline.publish import registry
from preprocessing.errors import CheckFailedError, DataError


def require_measured(folder: str, metrics: ExportMetrics) -> None:
    """Refuse an export whose metrics do not describe its files.

    Raises:
        DataError: A file is missing, new, changed, or was written after it was measured.
    """
    directory.require_intact(folder, metrics)
    measured_ns = os.stat(os.path.join(folder, directory.METRICS)).st_mtime_ns
    for name in directory.list_files(folder):
        newer_ns = os.stat(os.path.join(folder, name)).st_mtime_ns - measured_ns
        if newer_ns > 0:
            raise DataError(
                f"{folder}: {directory.METRICS} is {newer_ns / 1e9:.3g} s older than {name}, so it "
                "may describe another file; export again (a copy keeps its times with `cp -a`)"
            )


def require_champion(metrics: ExportMetrics, best: registry.Version | None, force: bool) -> None:
    """Refuse an export that is worse than the best registered one, unless `force` is set.

    Raises:
        CheckFailedError: The message says by how much, and whether the records are the same.
    """
    top1 = metrics.checkpoint.top1
    if best is None or not top1 < best.top1 or force:
        return
    same = best.records_digest == metrics.lineage.records_digest
    raise CheckFailedError(
        f"{metrics.variant.name}: top-1 {top1:.4f} is below {best.top1:.4f} of the champion "
        f"(version {best.version}, {'same' if same else 'other'} records); registered but not "
        "published, "
        "pass --force to publish it nevertheless"
    )
