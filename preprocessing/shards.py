"""One planned shard to one finished file and its report; no Beam here."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import IO, Any

from preprocessing import schema, storage, tfrecord
from preprocessing.errors import DataError
from preprocessing.plan import ShardPlan
from preprocessing.repair import RejectedImageError, RepairedImage, repair
from preprocessing.schema import ImageClass, Reject, Shard
from preprocessing.sources import ImageReference
from preprocessing.tally import Tally

REPORTS = ".ingest"  # folder inside the records folder, gone once dataset.json is there


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardReport:
    """What is in a finished shard; written after it, so that a rerun can skip it."""

    split: str
    shard: Shard
    offsets: list[int]
    rejects: list[Reject]
    repaired: dict[str, int]
    tally: dict[str, Any]

    @classmethod
    def read(cls, records: str, file: str) -> ShardReport | None:
        """The report of shard `file`, if that shard is finished."""
        path = report_path(records, file)
        if not storage.exists(path) or not storage.exists(storage.join(records, file)):
            return None
        fields = storage.read_json(path)
        report = cls(
            split=fields["split"],
            shard=Shard(**fields["shard"]),
            offsets=fields["offsets"],
            rejects=[Reject(**each) for each in fields["rejects"]],
            repaired=fields["repaired"],
            tally=fields["tally"],
        )
        if storage.size_bytes(storage.join(records, file)) != report.shard.bytes:
            return None
        return report


def report_path(records: str, file: str) -> str:
    """Where the report of shard `file` is while ingest is under way."""
    return storage.join(records, REPORTS, f"{file}.json")


def write_shard(plan: ShardPlan, classes: tuple[ImageClass, ...], records: str) -> ShardReport:
    """Read, check and write the images of one shard, then its report.

    The same plan gives the same bytes. Rejected images are listed, not written.
    """
    rejects: list[Reject] = []
    repaired: Counter[str] = Counter()
    offsets: list[int] = []
    tally = Tally()
    digest = hashlib.sha256()
    position = 0
    with _ImageReader() as reader, storage.open_write(storage.join(records, plan.file)) as out:
        for reference in plan.images:
            content = reader.read(reference)
            try:
                image = repair(content)
            except RejectedImageError as error:
                rejects.append(Reject(key=reference.key, reason=str(error)))
                continue
            if image.repaired:
                repaired[image.repaired] += 1
            record = tfrecord.frame(encode_record(reference, image, classes[reference.label - 1]))
            out.write(record)
            digest.update(record)
            tally.add(
                content,
                height=image.height,
                width=image.width,
                label=reference.label,
                boxes=len(reference.boxes),
            )
            offsets.append(position)
            position += len(record)
    report = ShardReport(
        split=plan.split,
        shard=Shard(
            file=plan.file, examples=len(offsets), bytes=position, sha256=digest.hexdigest()
        ),
        offsets=offsets,
        rejects=rejects,
        repaired=dict(sorted(repaired.items())),
        tally=tally.to_json(),
    )
    storage.write_json(report_path(records, plan.file), dataclasses.asdict(report))
    return report


def encode_record(
    reference: ImageReference, image: RepairedImage, image_class: ImageClass
) -> bytes:
    """The record of one image, in the published schema."""
    xmin, ymin, xmax, ymax = zip(*reference.boxes, strict=True) if reference.boxes else [()] * 4
    return tfrecord.serialize(
        {
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
            schema.BBOX_LABEL: [reference.label] * len(reference.boxes),
            schema.FORMAT: [b"JPEG"],
            schema.FILENAME: [reference.filename.encode()],
            schema.ENCODED: [image.jpeg],
        }
    )


class _ImageReader:
    """Reads references by offset, keeping each archive open."""

    def __init__(self) -> None:
        self._open: dict[str, IO[bytes]] = {}

    def __enter__(self) -> _ImageReader:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._open.values():
            stream.close()

    def read(self, reference: ImageReference) -> bytes:
        if reference.path not in self._open:
            self._open[reference.path] = storage.open_read(reference.path)
        stream = self._open[reference.path]
        stream.seek(reference.offset)
        content = stream.read(reference.size)
        if len(content) < reference.size:
            raise DataError(
                f"{reference.path} ends inside {reference.key}; it was cut since it was listed"
            )
        return content
