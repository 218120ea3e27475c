"""The last step of an ingest: the reports of all shards become `dataset.json`."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.ingest_plan import IngestPlan
from preprocessing.records import schema
from preprocessing.records.records_folder import key_of, read_at
from preprocessing.records.schema import SPLITS, ImageClass, Manifest, Reject, Shard
from preprocessing.records.statistics import DatasetStatistics, ShardStatistics
from preprocessing.shards import read_reports
from preprocessing.sources.references import Source
from preprocessing.storage.spool import Spool

# Those that decide which images are accepted, and what is written.
PACKAGES = ("apache-beam", "mobilenet-pipeline", "pillow", "simplejpeg")


def assemble(source: Source, plan: IngestPlan, records: str) -> Manifest:
    """Write `record_offsets.npz` and return the manifest, which the caller writes last.

    Raises:
        DataError: A shard is missing, or a split is empty.
    """
    finished = FinishedShards()
    rejects: list[Reject] = []
    reasons: dict[str, list[str]] = {split: [] for split in SPLITS}
    repaired: Counter[str] = Counter()
    for report in read_reports(records, [shard.file for shard in plan.shards]):
        finished.add(report.split, report)
        rejects += report.rejects
        reasons[report.split] += [reject.reason for reject in report.rejects[:1]]
        repaired.update(report.repaired)
    written = {shard.file for shards in finished.shards.values() for shard in shards}
    if missing := {shard.file for shard in plan.shards} - written:
        raise DataError(f"shard {min(missing)} vanished from {records}; run prepare again")
    for split, shards in finished.shards.items():
        if shards and not sum(shard.examples for shard in shards):
            first = "; ".join(reasons[split])
            raise DataError(f"no {split} image could be read; reasons of the first: {first[:200]}")
    return manifest_of(
        records,
        plan.classes,
        finished,
        fingerprint=plan.fingerprint,
        rejects=tuple(rejects),
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


class FinishedShards:
    """All finished shards of a dataset; what grows with the number of images is on disk.

    Attributes:
        shards: The shards of each split, in order.
    """

    def __init__(self) -> None:
        self.shards: dict[str, list[Shard]] = {split: [] for split in SPLITS}
        self.offsets = {split: Spool("<i8") for split in SPLITS}
        self.statistics = DatasetStatistics()

    def add(self, split: str, finished: FinishedShard) -> None:
        """Take the next shard of a split."""
        self.shards[split].append(finished.shard)
        self.offsets[split].append(finished.offsets)
        self.statistics.add(split, finished.statistics)

    def key_at(self, records: str, split: str, shard: int, record: int) -> str:
        """Return the key of a record in the folder `records`."""
        before = sum(one.examples for one in self.shards[split][:shard])
        path = storage.join(records, self.shards[split][shard].file)
        with storage.open_read(path) as stream:
            return key_of(split, read_at(stream, self.offsets[split][before + record], path))


def manifest_of(
    records: str,
    classes: tuple[ImageClass, ...],
    finished: FinishedShards,
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
        finished: The shards.
        source: Description of the source.
        fingerprint: Identity of the plan; None for the digest of the records.
        rejects: Images that are not in the records.
        repaired: Number of re-encoded images, by their original kind.
        options: Options of `prepare`.
        packages: Packages whose versions the manifest names.
    """
    shards = {split: tuple(written) for split, written in finished.shards.items()}
    digest = schema.records_digest(classes, shards)
    return Manifest(
        schema_version=schema.SCHEMA_VERSION,
        digest=digest,
        fingerprint=fingerprint or digest,
        classes=classes,
        shards=shards,
        rejects=rejects,
        repaired=repaired or {},
        record_offsets=schema.write_record_offsets(records, finished.offsets),
        statistics=finished.statistics.result(len(classes), partial(finished.key_at, records)),
        source=source,
        options=options or {},
        versions={name: importlib.metadata.version(name) for name in packages},
    )
