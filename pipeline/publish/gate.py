"""The gate: conditions that an export must meet before it is published."""

from __future__ import annotations

from pipeline.export import directory
from pipeline.export.metrics import ExportMetrics
from pipeline.publish import registry
from preprocessing.errors import CheckFailedError, UsageError


def require_measured(folder: str, metrics: ExportMetrics) -> None:
    """Refuse an export whose metrics do not describe its files, or only a sample of the images.

    Raises:
        DataError: A file is missing, new or changed; digests decide, not times.
        UsageError: The accuracy was not measured on all validation images.
    """
    if metrics.sample:
        raise UsageError(
            f"{folder} was compared on {metrics.sample.images} of {metrics.sample.of} validation "
            "images, which are no figures to publish; export again without --validation-images"
        )
    directory.require_intact(folder, metrics)


def require_champion(metrics: ExportMetrics, best: registry.Version | None, force: bool) -> None:
    """Refuse an export that is worse than the best one on its records, unless `force` is set.

    Args:
        metrics: The figures of the export.
        best: The best registered version on the same records, which may be this export.
        force: Whether a worse one passes.

    Raises:
        CheckFailedError: The message says by how much, and which version is better.
    """
    top1 = metrics.checkpoint.top1
    if best is None or not top1 < best.top1 or force:
        return
    raise CheckFailedError(
        f"{metrics.variant.name}: top-1 {top1:.4f} is below {best.top1:.4f} of {described(best)}; "
        "registered but not published, pass --force to publish it nevertheless"
    )


def described(champion: registry.Version) -> str:
    """Return what identifies a champion: its version and its records."""
    return (
        f"the champion on the same records (version {champion.version}, "
        f"records {champion.records_digest[:8]}, {champion.num_examples} validation images)"
    )
