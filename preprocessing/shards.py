"""Shards: one planned shard becomes one finished file and its report. Beam is not needed."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.images.contents import SourceContents
from preprocessing.images.orientation import UPRIGHT, upright_box
from preprocessing.images.reader import read_images
from preprocessing.images.repair import RejectedImageError, RepairedImage, repair, shrink
from preprocessing.ingest_plan import ImageOptions, ShardPlan
from preprocessing.records import schema, tfrecord
from preprocessing.records.schema import ImageClass, Reject, Shard
from preprocessing.records.statistics import ShardStatistics
from preprocessing.sources.names import is_recordable, printable
from preprocessing.sources.references import Box, ImageReference

REPORTS = ".ingest"  # folder inside the records folder, with one report per finished shard
PLANS = f"{REPORTS}/plans"  # one file per shard until dataset.json is written
BATCH_REPORTS, BATCH_BYTES = 64, 8 << 20  # most reports read at the same time


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardReport:
    """The content of a finished shard; written after it, so that another run can skip it.

    It stays beside the complete records, so that a later run sees which images changed.

    Attributes:
        split: `train` or `validation`.
        shard: The file, its size and digest.
        offsets: `int64 [examples]`, the byte at which each record starts.
        rejects: Images that were planned for the shard and are not in it.
        repaired: Number of re-encoded images, by their original kind.
        statistics: Counts over the records.
        source: Contents of the planned images.
    """

    split: str
    shard: Shard
    offsets: np.ndarray
    rejects: list[Reject]
    repaired: dict[str, int]
    statistics: ShardStatistics
    source: SourceContents

    @property
    def counts(self) -> Counter[str]:
        """The counts `images`, `rejected`, `repaired` and `bytes`."""
        return Counter(
            images=self.shard.examples,
            rejected=len(self.rejects),
            repaired=sum(self.repaired.values()),
            bytes=self.shard.bytes,
        )

    def write(self, records: str) -> None:
        """Write the report; from here on the shard counts as finished."""
        fields = {
            "split": self.split,
            "shard": dataclasses.asdict(self.shard),
            "offsets": base64.b64encode(self.offsets.astype("<i8").tobytes()).decode(),
            "rejects": [dataclasses.asdict(reject) for reject in self.rejects],
            "repaired": self.repaired,
            "tally": self.statistics.to_json(),
            "source": self.source.to_json(),
        }
        storage.write_json(storage.join(records, REPORTS, f"{self.shard.file}.json"), fields)

    @classmethod
    def from_json(cls, content: bytes) -> ShardReport:
        """Return the report that `write` wrote."""
        fields = storage.parse_json(content, "a shard report")
        return cls(
            split=fields["split"],
            shard=Shard(**fields["shard"]),
            offsets=np.frombuffer(base64.b64decode(fields["offsets"]), "<i8"),
            rejects=[Reject(**reject) for reject in fields["rejects"]],
            repaired=fields["repaired"],
            statistics=ShardStatistics.from_json(fields["tally"]),
            source=SourceContents.from_json(fields["source"]),
        )


def read_reports(records: str, files: Iterable[str]) -> Iterator[ShardReport]:
    """Yield the reports of those shards among `files` that are finished, in that order.

    A shard with a damaged report, or one of another version of this program, is not finished.
    """
    shards = storage.list_sizes(records)
    reports = storage.list_sizes(storage.join(records, REPORTS))
    finished = [
        (storage.join(records, REPORTS, f"{file}.json"), 0, reports[f"{file}.json"])
        for file in files
        if file in shards and f"{file}.json" in reports
    ]
    for batch in _batches(finished):
        for content in storage.read_ranges(batch):
            try:
                report = ShardReport.from_json(content)
            except (DataError, ValueError, TypeError, LookupError, AttributeError):
                continue
            if shards[report.shard.file] == report.shard.bytes:
                yield report


def _batches(parts: list[tuple[str, int, int]]) -> Iterator[list[tuple[str, int, int]]]:
    """Cut the parts into runs of limited number and size."""
    batch: list[tuple[str, int, int]] = []
    for part in parts:
        num_bytes = part[2] + sum(size for _, _, size in batch)
        if batch and (len(batch) == BATCH_REPORTS or num_bytes > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(part)
    if batch:
        yield batch


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardWriter:
    """The data that all shards of one ingest share; it is small, so it travels to any worker."""

    records: str
    classes: tuple[ImageClass, ...]
    image: ImageOptions

    def write(self, plan: ShardPlan) -> Counter[str]:
        """Read, check and write the images of one shard, then write its report.

        The same plan gives the same bytes. Rejected images are listed, not written.

        Returns:
            The counts `images`, `rejected`, `repaired` and `bytes`.
        """
        rejects: list[Reject] = []
        repaired: Counter[str] = Counter()
        offsets = array("q")
        statistics = ShardStatistics()
        source = SourceContents()
        digest = hashlib.sha256()
        position = 0
        references = plan.images(storage.join(self.records, PLANS))
        with storage.open_write(storage.join(self.records, plan.file)) as out:
            for reference, content in read_images(references):
                content_digest = source.add(reference, content)
                try:
                    image = self._prepared(reference, content)
                except RejectedImageError as error:
                    rejects.append(Reject(key=printable(reference.key), reason=str(error)))
                    continue
                if image.repaired:
                    repaired[image.repaired] += 1
                image_class = self.classes[reference.label - 1]
                boxes = self._boxes(reference, image)
                record = tfrecord.record(features(reference, image, image_class, boxes))
                out.write(record)
                digest.update(record)
                assert isinstance(content, bytes)  # or it would have been rejected
                statistics.add(
                    content,
                    digest=content_digest,
                    height=image.height,
                    width=image.width,
                    label=reference.label,
                    boxes=len(boxes),
                    is_oriented=image.orientation != UPRIGHT,
                )
                offsets.append(position)
                position += len(record)
        shard = Shard(
            file=plan.file, examples=len(offsets), bytes=position, sha256=digest.hexdigest()
        )
        report = ShardReport(
            split=plan.split,
            shard=shard,
            offsets=np.asarray(offsets, np.int64),
            rejects=rejects,
            repaired=dict(sorted(repaired.items())),
            statistics=statistics,
            source=source,
        )
        report.write(self.records)
        return report.counts

    def finished(self, plan: ShardPlan) -> Counter[str] | None:
        """Return the counts of a shard that is finished and up to date; None without one.

        An ingest removes the reports of the shards that it writes before it writes the first, so
        a report is from this ingest: a runner that lost a worker repeats what others have done.
        """
        if not storage.exists(storage.join(self.records, REPORTS, f"{plan.file}.json")):
            return None
        for report in read_reports(self.records, [plan.file]):
            references = plan.images(storage.join(self.records, PLANS))
            if report.source.compared(references) == report.source:
                return report.counts
        return None

    def _boxes(self, reference: ImageReference, image: RepairedImage) -> tuple[Box, ...]:
        """Return the boxes of the image as it is in the record."""
        if not self.image.apply_orientation:
            return reference.boxes
        return tuple(upright_box(box, image.orientation) for box in reference.boxes)

    def _prepared(
        self, reference: ImageReference, content: bytes | RejectedImageError
    ) -> RepairedImage:
        """Return the image of the record.

        Raises:
            RejectedImageError: The image cannot be used, whatever went wrong with it.
        """
        if isinstance(content, RejectedImageError):
            raise content
        if not is_recordable(reference.filename):
            raise RejectedImageError("its name holds control characters or is not UTF-8; rename it")
        try:
            image = repair(
                content,
                decode_check=self.image.decode_check,
                apply_orientation=self.image.apply_orientation,
            )
            if not self.image.short_side:
                return image
            return shrink(image, self.image.short_side, self.image.quality)
        except (RejectedImageError, MemoryError):
            raise
        except Exception as error:  # one bad image must not end the ingest of the others
            raise RejectedImageError(f"{type(error).__name__}: {error}") from error


def features(
    reference: ImageReference,
    image: RepairedImage,
    image_class: ImageClass,
    boxes: Sequence[Box],
) -> dict[str, Any]:
    """Return the features of one image, in the published schema, for `tfrecord.record`."""
    xmin, ymin, xmax, ymax = zip(*boxes, strict=True) if boxes else [()] * 4
    return {
        schema.HEIGHT: [image.height],
        schema.WIDTH: [image.width],
        schema.COLORSPACE: [b"RGB"],
        schema.CHANNELS: [3],
        schema.LABEL: [reference.label],
        schema.SYNSET: [image_class.synset.encode()],
        schema.TEXT: [image_class.text.encode()],
        schema.BBOX_XMIN: xmin,
        schema.BBOX_XMAX: xmax,
        schema.BBOX_YMIN: ymin,
        schema.BBOX_YMAX: ymax,
        schema.BBOX_LABEL: [reference.label] * len(boxes),
        schema.FORMAT: [b"JPEG"],
        schema.FILENAME: [reference.filename.encode()],
        schema.ENCODED: [image.jpeg],
    }
