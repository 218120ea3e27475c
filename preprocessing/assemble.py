"""The last step of an ingest: the reports of all shards become `dataset.json`."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.ingest_plan import IngestPlan
from preprocessing.records import schema, statistics
from preprocessing.records.records_folder import key_of, read_at
from preprocessing.records.schema import SPLITS, ImageClass, Manifest, Reject, Shard
from preprocessing.records.statistics import ShardStatistics
from preprocessing.shards import read_reports
from preprocessing.sources.references import Source

# Those that decide which images are accepted, and what is written.
PACKAGES = ("apache-beam", "mobilenet-pipeline", "pillow", "simplejpeg")


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
    return manifest_of(
        records,
        plan.classes,
        by_split,
        fingerprint=plan.fingerprint,
        rejects=tuple(reject for report in reports for reject in report.rejects),
        repaired=dict(sorted(repaired.items())),
        source=source.description,
        options=plan.options,
    )


class FinishedShard(Protocol):
    """One finished shard, as its report or its reader describes it."""

    @property
    def shard(self) -> Shard:
        """The file, its size and digest."""

    @property
    def offsets(self) -> np.ndarray:
        """`int64 [examples]`, the byte at which each record starts."""

    @property
    def statistics(self) -> ShardStatistics:
        """Counts over the records."""


def manifest_of(
    records: str,
    classes: tuple[ImageClass, ...],
    by_split: Mapping[str, Sequence[FinishedShard]],
    *,
    source: dict[str, Any],
    fingerprint: str | None = None,
    rejects: tuple[Reject, ...] = (),
    repaired: dict[str, int] | None = None,
    options: dict[str, Any] | None = None,
    packages: Sequence[str] = PACKAGES,
) -> Manifest:
    """Write `record_offsets.npz` and return the manifest of finished shards.

    Args:
        records: The records folder.
        classes: The classes in label order.
        by_split: The shards of each split, in order.
        source: Description of the source.
        fingerprint: Identity of the plan; None for the digest of the records.
        rejects: Images that are not in the records.
        repaired: Number of re-encoded images, by their original kind.
        options: Options of `prepare`.
        packages: Packages whose versions the manifest names.
    """
    shards = {split: tuple(one.shard for one in written) for split, written in by_split.items()}
    digest = schema.records_digest(classes, shards)
    return Manifest(
        schema_version=schema.SCHEMA_VERSION,
        digest=digest,
        fingerprint=fingerprint or digest,
        classes=classes,
        shards=shards,
        rejects=rejects,
        repaired=repaired or {},
        record_offsets=schema.write_record_offsets(
            records,
            {split: [one.offsets for one in written] for split, written in by_split.items()},
        ),
        statistics=statistics.merge(
            {split: [one.statistics for one in written] for split, written in by_split.items()},
            len(classes),
            partial(_key_at, records, by_split),
        ),
        source=source,
        options=options or {},
        versions={name: importlib.metadata.version(name) for name in packages},
    )


def _key_at(
    records: str,
    by_split: Mapping[str, Sequence[FinishedShard]],
    split: str,
    shard: int,
    record: int,
) -> str:
    one = by_split[split][shard]
    path = storage.join(records, one.shard.file)
    with storage.open_read(path) as stream:
        return key_of(split, read_at(stream, int(one.offsets[record]), path))
