"""The gate: conditions that an export must meet before it is published."""

from __future__ import annotations

from pipeline.export import directory
from pipeline.export.metrics import ExportMetrics
from pipeline.publish import registry
from preprocessing.errors import CheckFailedError


def require_measured(folder: str, metrics: ExportMetrics) -> None:
    """Refuse an export whose metrics do not describe its files.

    Raises:
        DataError: A file is missing, new or changed; digests decide, not times.
    """
    directory.require_intact(folder, metrics)


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
