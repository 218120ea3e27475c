"""What has to be true before an export is published."""

from __future__ import annotations

import os
from typing import Any

from pipeline.export import directory
from pipeline.publish import registry
from preprocessing.errors import CheckFailedError, DataError


def require_measured(folder: str, metrics: dict[str, Any]) -> None:
    """Refuse an export whose metrics are not of the files beside them.

    Raises:
        DataError: A file is missing, new, changed, or written after it was measured.
    """
    directory.require_intact(folder, metrics)
    measured_ns = os.stat(os.path.join(folder, directory.METRICS)).st_mtime_ns
    for name in directory.list_files(folder):
        newer_ns = os.stat(os.path.join(folder, name)).st_mtime_ns - measured_ns
        if newer_ns > 0:
            raise DataError(
                f"{folder}: {directory.METRICS} is {newer_ns / 1e9:.3g} s older than {name}, so it "
                "may tell of another file; export again (a copy keeps its times with `cp -a`)"
            )


def require_champion(metrics: dict[str, Any], best: registry.Version | None, force: bool) -> None:
    """Refuse an export that is worse than the best one registered, unless told to go on.

    Raises:
        CheckFailedError: Says by how much, and whether both saw the same images.
    """
    top1 = metrics["formats"]["checkpoint"]["top1"]
    if best is None or not top1 < best.top1 or force:
        return
    same = best.records_digest == metrics["lineage"]["records_digest"]
    raise CheckFailedError(
        f"{metrics['variant']}: top-1 {top1:.4f} is below {best.top1:.4f} of the champion (version "
        f"{best.version}, {'same' if same else 'other'} records); registered but not published, "
        "pass --force to publish it all the same"
    )
