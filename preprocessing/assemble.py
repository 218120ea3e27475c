"""The last step of an ingest: the reports of all shards become `dataset.json`."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from functools import partial

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.ingest_plan import IngestPlan
from preprocessing.records import schema, statistics
from preprocessing.records.records_folder import key_of, read_at
from preprocessing.records.schema import SPLITS, Manifest
from preprocessing.shards import ShardReport, read_reports
from preprocessing.sources.references import Source


def assemble(source: Source, plan: IngestPlan, records: str) -> Manifest:
    """Write `record_offsets.npz` and return the manifest, which the caller writes last.

    Raises:
        DataError: A shard is missing, or a split is empty.
    """
    reports = list(read_reports(records, [shard.file for shard in plan.shards]))
    if missing := {shard.file for shard in plan.shards} - {report.shard.file for report in reports}:
        raise DataError(f"shard {min(missing)} vanished from {records}; run prepare again")
    by_split = {split: [report for report in reports if report.split == split] for split in SPLITS}
    for split, written in by_split.items():
        if written and not sum(report.shard.examples for report in written):
            first = "; ".join(reject.reason for report in written for reject in report.rejects[:1])
            raise DataError(f"no {split} image could be read; reasons of the first: {first[:200]}")
    repaired: Counter[str] = Counter()
    for report in reports:
        repaired.update(report.repaired)
    shards = {
        split: tuple(report.shard for report in written) for split, written in by_split.items()
    }
    return Manifest(
        schema_version=schema.SCHEMA_VERSION,
        digest=schema.records_digest(plan.classes, shards),
        fingerprint=plan.fingerprint,
        classes=plan.classes,
        shards=shards,
        rejects=tuple(reject for report in reports for reject in report.rejects),
        repaired=dict(sorted(repaired.items())),
        record_offsets=schema.write_record_offsets(
            records,
            {split: [report.offsets for report in written] for split, written in by_split.items()},
        ),
        statistics=statistics.merge(
            {
                split: [report.statistics for report in written]
                for split, written in by_split.items()
            },
            len(plan.classes),
            partial(_key_at, records, by_split),
        ),
        source=source.description,
        options=plan.options,
        versions={
            name: importlib.metadata.version(name)
            for name in ("apache-beam", "mobilenet-pipeline", "pillow", "simplejpeg")
        },
    )


def _key_at(
    records: str, by_split: dict[str, list[ShardReport]], split: str, shard: int, record: int
) -> str:
    report = by_split[split][shard]
    path = storage.join(records, report.shard.file)
    with storage.open_read(path) as stream:
        return key_of(split, read_at(stream, int(report.offsets[record]), path))
