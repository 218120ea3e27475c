"""Adoption: finished shards that others wrote become a records folder, without being rewritten.

The records must have the features of slim's `build_imagenet_data.py`. Every byte is read once;
then `record_offsets.npz` and, last, `dataset.json` are written beside the shards.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any, cast

import numpy as np

from preprocessing import limits, storage
from preprocessing.assemble import FinishedShards, manifest_of
from preprocessing.errors import DataError, UsageError
from preprocessing.images.orientation import UPRIGHT
from preprocessing.images.repair import RejectedImageError, repair
from preprocessing.progress import progress_bar
from preprocessing.records import schema, tfrecord
from preprocessing.records.records_folder import is_ours, key_of
from preprocessing.records.schema import SPLITS, ImageClass, Manifest, Shard
from preprocessing.records.shard_names import ShardName
from preprocessing.records.statistics import ShardStatistics
from preprocessing.records.verify import DigestingStream
from preprocessing.sources.ignored import is_ignored
from preprocessing.sources.names import first_of, is_recordable, printable

logger = logging.getLogger(__name__)

LAYOUT = "adopted records"
MAX_NAMED = 3  # problems that one error names
PACKAGES = ("mobilenet-pipeline", "simplejpeg")  # those that accept the records
FEATURES = "features of slim's build_imagenet_data.py"


@dataclass(kw_only=True, slots=True)
class _ReadShard:
    """One shard as it was found.

    Attributes:
        offsets: The byte at which each record starts.
        classes: Synset and description by label.
        problems: What keeps records from being adopted, one line each.
    """

    shard: Shard
    offsets: np.ndarray
    statistics: ShardStatistics
    classes: dict[int, tuple[str, str]]
    problems: list[str] = field(default_factory=list)


def adopt(records: str) -> Manifest:
    """Check the shards in a folder, and write `record_offsets.npz` and `dataset.json`.

    Args:
        records: Folder of shards named `train-00000-of-01024` or, as TFDS does,
            `NAME-train.tfrecord-00000-of-01024`; local or a URL.

    Returns:
        The manifest.

    Raises:
        UsageError: The folder holds no shards, or records that `prepare` wrote.
        DataError: A shard is missing or damaged, or records lack something that training needs;
            the message names the first.
    """
    _refuse_prepared(records)
    with storage.exclusive(records, "adopt"):
        files = _shard_files(records)
        read = _read_all(records, files)
        classes = _classes(
            (label, names)
            for shards in read.values()
            for one in shards
            for label, names in one.classes.items()
        )
        finished = FinishedShards()
        for split, shards in read.items():
            for one in shards:
                finished.add(split, one)
        manifest = manifest_of(
            records, classes, finished, source={"layout": LAYOUT}, packages=PACKAGES
        )
        manifest.write(records)
        return manifest


def _refuse_prepared(records: str) -> None:
    if storage.exists(storage.join(records, schema.MANIFEST)):
        layout = Manifest.read(records).source.get("layout")
        if layout != LAYOUT:
            raise UsageError(
                f"{records} holds complete records that `mobilenet prepare` wrote; nothing to adopt"
            )


def _shard_files(records: str) -> dict[str, list[storage.Entry]]:
    """Return the files of each split's shards, in order."""
    found: dict[str, dict[ShardName, storage.Entry]] = {split: {} for split in SPLITS}
    unread = []
    for entry in storage.list_entries(records):
        name = ShardName.parse(entry.name)
        if name is None or entry.is_folder:
            if entry.name not in (schema.MANIFEST, schema.RECORD_OFFSETS):
                unread.append(entry.name)
        elif name in found[name.split]:
            other = found[name.split][name].name
            raise DataError(f"{records} holds both {other} and {entry.name}; remove one of them")
        else:
            found[name.split][name] = entry
    unread = [name for name in unread if not is_ignored(name)]
    if unread:
        logger.warning("adopt: not read in %s: %s", records, first_of(unread))
    if not found["validation"]:
        raise UsageError(
            f"{records} holds no validation shards; expected names such as "
            "validation-00000-of-00128"
        )
    for split, named in found.items():
        _require_all(records, split, named)
    return {split: [named[name] for name in sorted(named)] for split, named in found.items()}


def _require_all(records: str, split: str, named: dict[ShardName, storage.Entry]) -> None:
    counts = sorted({name.num_shards for name in named})
    if len(counts) > 1:
        raise DataError(
            f"{records} holds {split} shards of {counts[0]} and of {counts[1]}; keep one set"
        )
    num_shards = counts[0] if counts else 0
    missing = [
        number for number in range(num_shards) if ShardName(split, number, num_shards) not in named
    ]
    if missing:
        raise DataError(
            f"{records} lacks {len(missing)} of its {num_shards} {split} shards, first number "
            f"{missing[0]}; fetch it again"
        )


def _read_all(records: str, files: dict[str, list[storage.Entry]]) -> dict[str, list[_ReadShard]]:
    """Read every shard once, as many at a time as there are cores."""
    total = sum(file.size for named in files.values() for file in named)
    read: dict[str, list[_ReadShard]] = {split: [] for split in SPLITS}
    with (
        progress_bar(total=total, desc="adopt", unit="B", unit_scale=True) as bar,
        ThreadPoolExecutor(limits.num_cores()) as pool,
    ):
        submitted = [
            (split, pool.submit(_read_shard, records, split, file.name))
            for split, named in files.items()
            for file in named
        ]
        for split, future in submitted:
            one = future.result()
            read[split].append(one)
            bar.update(one.shard.bytes)
    problems = [problem for shards in read.values() for one in shards for problem in one.problems]
    if problems:
        raise DataError(
            f"{len(problems)} records of {records} cannot be adopted, first "
            f"{'; '.join(problems[:MAX_NAMED])}; write records from the images with "
            "`mobilenet prepare`"
        )
    return read


def _read_shard(records: str, split: str, file: str) -> _ReadShard:
    offsets, position = [], 0
    counts = ShardStatistics()
    classes: dict[int, tuple[str, str]] = {}
    problems = []
    with storage.open_read(storage.join(records, file)) as stream:
        digesting = DigestingStream(stream)
        for payload in tfrecord.read_records(cast(IO[bytes], digesting), file):
            offsets.append(position)
            problem, key = _problem(payload, split, classes, counts)
            if problem:
                problems.append(f"{file} at byte {position}{key}: {problem}")
            position += tfrecord.HEADER_BYTES + len(payload) + tfrecord.FOOTER_BYTES
    return _ReadShard(
        shard=Shard(
            file=file, examples=len(offsets), bytes=position, sha256=digesting.digest.hexdigest()
        ),
        offsets=np.asarray(offsets, np.int64),
        statistics=counts,
        classes=classes,
        problems=problems,
    )


def _problem(
    payload: bytes, split: str, classes: dict[int, tuple[str, str]], counts: ShardStatistics
) -> tuple[str | None, str]:
    """Count one record; return instead what keeps it from being adopted, and its key."""
    try:
        features = tfrecord.parse(payload)
    except DataError:
        return "it is no tf.train.Example", ""
    if not is_ours(features):
        return f"it lacks {FEATURES}", ""
    key = f" ({printable(key_of(split, features))})"
    return _problem_of_image(features, classes, counts), key


def _problem_of_image(
    features: dict[str, list[Any]], classes: dict[int, tuple[str, str]], counts: ShardStatistics
) -> str | None:
    label: int = features[schema.LABEL][0]
    content: bytes = features[schema.ENCODED][0]
    if label < 1:
        return f"its label is {label}; labels are 1 to the number of classes, 0 is the background"
    synset, text = (
        features[name][0].decode(errors="replace") for name in (schema.SYNSET, schema.TEXT)
    )
    if not is_recordable(synset) or "\ufffd" in synset + text:
        return "the name of its class is empty, not UTF-8 or not printable"
    names = (synset, text)
    if classes.setdefault(label, names) != names:
        return f"label {label} is class {names[0]!r} here and {classes[label][0]!r} before"
    try:
        image = repair(content)
    except RejectedImageError as error:
        return str(error)
    if image.repaired:
        return f"it holds a {image.repaired}, which the trainer does not read"
    counts.add(
        content,
        height=image.height,
        width=image.width,
        label=label,
        boxes=len(features.get(schema.BBOX_XMIN, ())),
        is_oriented=image.orientation != UPRIGHT,
    )
    return None


def _classes(named: Iterable[tuple[int, tuple[str, str]]]) -> tuple[ImageClass, ...]:
    """Return the classes of all shards in label order.

    Raises:
        DataError: A label has two classes, or a label between 1 and the largest has none.
    """
    classes: dict[int, tuple[str, str]] = {}
    for label, names in named:
        if classes.setdefault(label, names) != names:
            raise DataError(
                f"label {label} is class {names[0]!r} in one shard and {classes[label][0]!r} in "
                "another; these shards are not of one dataset"
            )
    missing = [label for label in range(1, max(classes, default=0) + 1) if label not in classes]
    if missing:
        raise DataError(
            f"no record has label {missing[0]}, but others have larger ones, so its class is not "
            "known; adopt the shards of all classes together"
        )
    return tuple(
        ImageClass(index=label, synset=classes[label][0], text=classes[label][1])
        for label in sorted(classes)
    )
