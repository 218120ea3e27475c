"""The check that records are those of a run, for commands that take both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preprocessing.errors import UsageError

if TYPE_CHECKING:
    from preprocessing.records.schema import Manifest
    from training.workdir.run_record import Run


def require_same_records(run: Run, records: str) -> Manifest:
    """Return the manifest of `records`.

    Raises:
        UsageError: The run was trained on other records.
    """
    from preprocessing.records.schema import Manifest

    manifest = Manifest.read(records)
    if not run.records_digest:  # imported: all records with its number of classes will do
        if len(manifest.classes) != run.num_classes:
            raise UsageError(
                f"{records} have {len(manifest.classes)} classes, the imported checkpoint has "
                f"{run.num_classes}"
            )
        return manifest
    if manifest.digest != run.records_digest:
        raise UsageError(
            f"{records} are not the records this run was trained on (digest "
            f"{manifest.digest[:12]}, trained on {run.records_digest[:12]})"
        )
    return manifest
