"""The files that earlier runs left in a records folder, and which of them are still right."""

from __future__ import annotations

import dataclasses
from typing import Any

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.ingest_plan import IngestPlan, ShardPlan
from preprocessing.progress import progress_bar
from preprocessing.records import schema, verify
from preprocessing.records.schema import SPLITS, Manifest
from preprocessing.shards import REPORTS, read_reports
from preprocessing.sources.references import Source


def _plan_path(records: str) -> str:
    return storage.join(records, REPORTS, "plan.json")


def write_plan(records: str, plan: IngestPlan) -> None:
    """Write what another run compares its plan with until there is a manifest."""
    identity = {"fingerprint": plan.fingerprint, "options": plan.options}
    storage.write_json(_plan_path(records), identity)


def refuse_foreign(records: str) -> None:
    """Refuse a folder that holds files but neither records nor unfinished ones."""
    ours = {schema.MANIFEST, REPORTS}
    names = [name for name in storage.list_names(records) if storage.PARTIAL not in name]
    if names and not ours & set(names):
        raise UsageError(
            f"{records} is not empty and holds no records; choose another folder for --records"
        )


def of_this_plan(records: str, plan: IngestPlan, overwrite: bool) -> Manifest | None:
    """Return the manifest if the folder holds complete records of this plan.

    The files of another plan are removed if that is wanted.

    Raises:
        UsageError: The folder holds records of another plan.
    """
    manifest: Manifest | None = None
    if storage.exists(storage.join(records, schema.MANIFEST)):
        if overwrite:
            _clear(records)
            return None
        manifest = Manifest.read(records)
        stored: dict[str, Any] | None = {
            "fingerprint": manifest.fingerprint,
            "options": manifest.options,
        }
    else:
        stored = _unfinished_plan(records)
    if not stored or stored["fingerprint"] == plan.fingerprint:
        return manifest
    if not overwrite:
        raise UsageError(
            f"{records} holds records of {_difference(stored['options'], manifest, plan)}; "
            "choose another folder or pass --overwrite"
        )
    _clear(records)
    return None


def _unfinished_plan(records: str) -> dict[str, Any] | None:
    """Return what `write_plan` wrote; without it, nobody knows what the reports speak of."""
    path = _plan_path(records)
    try:
        stored = storage.read_json(path) if storage.exists(path) else None
    except DataError:
        stored = None
    if isinstance(stored, dict) and {"fingerprint", "options"} <= stored.keys():
        return stored
    storage.remove(storage.join(records, REPORTS))
    return None


def missing_shards(records: str, plan: IngestPlan, plans: str) -> list[ShardPlan]:
    """Return the shards to write: those that are lost, cut or of images that have changed."""
    current: set[str] = set()
    shards = {shard.file: shard for shard in plan.shards}
    with progress_bar(total=plan.num_images, desc="compare", unit=" images", delay=5) as bar:
        for report in read_reports(records, list(shards)):
            shard = shards[report.shard.file]
            contents = report.source.compared(shard.images(plans))
            bar.update(shard.num_images)
            if contents is None:
                continue
            current.add(shard.file)
            if contents != report.source:
                dataclasses.replace(report, source=contents).write(records)
    return [shard for shard in plan.shards if shard.file not in current]


def is_current(records: str, manifest: Manifest, source: Source) -> bool:
    """Return whether all files are as the manifest says, and the source is as it describes."""
    try:
        verify.check_files(records, manifest)
    except DataError:
        return False
    return manifest.source == source.description


def remove_outdated(records: str, plan: IngestPlan, missing: list[ShardPlan]) -> None:
    """Remove the manifest first, then the reports of missing shards and shards of no plan."""
    storage.remove(storage.join(records, schema.MANIFEST))
    reports = set(storage.list_names(storage.join(records, REPORTS)))
    for report in sorted(reports & {f"{shard.file}.json" for shard in missing}):
        storage.remove(storage.join(records, REPORTS, report))
    planned = {shard.file for shard in plan.shards}
    for name in storage.list_names(records):
        if name.startswith(tuple(f"{split}-" for split in SPLITS)) and name not in planned:
            storage.remove(storage.join(records, name))


def _difference(options: dict[str, Any], manifest: Manifest | None, plan: IngestPlan) -> str:
    changed = [
        f"{name} {options[name]} (now {value})"
        for name, value in plan.options.items()
        if name in options and options[name] != value
    ]
    if manifest and manifest.classes != plan.classes:
        changed.append("other classes or descriptions of them")
    return ", ".join(changed) or (
        "other images or boxes, or ones that another program or version wrote"
    )


def _clear(records: str) -> None:
    """Remove our files, the manifest first, so that nobody reads an incomplete folder."""
    storage.remove(storage.join(records, schema.MANIFEST))
    for name in storage.list_names(records):
        if name in (REPORTS, schema.RECORD_OFFSETS) or name.split("-")[0] in SPLITS:
            storage.remove(storage.join(records, name))


def clear_partial(records: str) -> None:
    """Remove the partial files that a killed run left."""
    for folder in (records, storage.join(records, REPORTS)):
        for name in storage.list_names(folder):
            if storage.PARTIAL in name:
                storage.remove(storage.join(folder, name))
