"""Verification of a finished records folder against its manifest, down to every byte."""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import IO, cast

import numpy as np

from preprocessing import limits, storage
from preprocessing.errors import DataError, describe_os_error
from preprocessing.progress import progress_bar
from preprocessing.records import schema, tfrecord
from preprocessing.records.schema import SPLITS, ImageClass, Manifest, Shard

MAX_NAMED = 5  # problems that one error names


def check_sizes(records: str, manifest: Manifest) -> None:
    """Compare names and sizes of the shards, from one listing.

    Raises:
        DataError: A shard is missing, of another size, or not in the manifest.
    """
    sizes = storage.list_sizes(records)
    problems = []
    expected = {shard.file: shard.bytes for split in SPLITS for shard in manifest.shards[split]}
    for file, size in expected.items():
        if file not in sizes:
            problems.append(f"{file} is missing")
        elif sizes[file] != size:
            problems.append(f"{file} has {sizes[file]} bytes instead of {size}")
    for name in sizes:
        # Readers take every file that begins like this.
        if name.startswith(tuple(f"{split}-" for split in SPLITS)) and name not in expected:
            problems.append(f"{name} does not belong to it")
    _raise(records, problems, len(expected))


def check_files(records: str, manifest: Manifest) -> None:
    """Check that every file of a records folder exists, without reading a shard.

    Raises:
        DataError: A shard is missing or of another size, or the offsets are not the manifest's.
    """
    check_sizes(records, manifest)
    schema.read_record_offsets(records, manifest, SPLITS[0])


def verify(records: str, manifest: Manifest) -> None:
    """Read every shard again and check its SHA-256, CRCs, offsets, labels and counts.

    As many shards are read at a time as there are cores; progress is shown on stderr.
    Memory: one record per core.

    Raises:
        DataError: Something differs; the message names the first shards.
    """
    check_sizes(records, manifest)
    if manifest.digest != schema.records_digest(manifest.classes, manifest.shards):
        raise DataError(f"{records}: the manifest's digest is not that of its shards")
    starts = {}
    for split in SPLITS:
        shard_index, offsets = schema.read_record_offsets(records, manifest, split)
        for number, shard in enumerate(manifest.shards[split]):
            starts[shard.file] = offsets[shard_index == number]
    shards = [shard for split in SPLITS for shard in manifest.shards[split]]
    counted = {split: Counter[int]() for split in SPLITS}
    problems = []
    with (
        progress_bar(
            total=sum(shard.bytes for shard in shards), desc="verify", unit="B", unit_scale=True
        ) as bar,
        ThreadPoolExecutor(limits.num_cores()) as pool,
    ):

        def check(shard: Shard) -> Counter[int]:
            path = storage.join(records, shard.file)
            return _check_shard(path, shard, manifest.classes, starts[shard.file])

        submitted = [
            (split, shard, pool.submit(check, shard))
            for split in SPLITS
            for shard in manifest.shards[split]
        ]
        for split, shard, checked in submitted:
            try:
                counted[split].update(checked.result())
            except DataError as error:
                problems.append(f"{shard.file}: {error}")
            except OSError as error:
                problems.append(f"{shard.file}: {describe_os_error(error)}")
            bar.update(shard.bytes)
    _raise(records, problems, len(shards))
    for split in SPLITS:
        expected = manifest.statistics.of(split).class_counts
        if tuple(counted[split][label] for label in range(1, len(expected) + 1)) != expected:
            raise DataError(f"{records}: the manifest's {split} class counts are not the records'")


def _raise(records: str, problems: list[str], num_shards: int) -> None:
    if problems:
        named = "; ".join(problems[:MAX_NAMED])
        more = f" and {len(problems) - MAX_NAMED} more" if len(problems) > MAX_NAMED else ""
        raise DataError(
            f"{records} is damaged in {len(problems)} of its {num_shards} shards: {named}{more}; "
            "remove the folder and write it again with `mobilenet prepare`"
        )


class DigestingStream:
    """A stream that digests what is read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        content = self._stream.read(size)
        self.digest.update(content)
        return content


def _check_shard(
    path: str,
    shard: Shard,
    classes: tuple[ImageClass, ...],
    starts: np.ndarray,
) -> Counter[int]:
    """Check one shard against its manifest, and return its number of records by label."""
    labels: Counter[int] = Counter()
    positions, position = [], 0
    with storage.open_read(path) as stream:
        digesting = DigestingStream(stream)
        for payload in tfrecord.read_records(cast(IO[bytes], digesting), shard.file):
            positions.append(position)
            position += tfrecord.HEADER_BYTES + len(payload) + tfrecord.FOOTER_BYTES
            labels[_label(payload, classes, len(positions) - 1)] += 1
    if digesting.digest.hexdigest() != shard.sha256:
        raise DataError("its SHA-256 is not the manifest's")
    if not np.array_equal(positions, starts):
        raise DataError(f"its records do not start where {schema.RECORD_OFFSETS} says")
    return labels


def _label(payload: bytes, classes: tuple[ImageClass, ...], number: int) -> int:
    features = tfrecord.parse(payload)
    label, synset = (features.get(name, []) for name in (schema.LABEL, schema.SYNSET))
    for named in classes[label[0] - 1 : label[0]] if len(label) == 1 and label[0] > 0 else ():
        if synset == [named.synset.encode()]:
            return named.index
    raise DataError(
        f"record {number} has label {label} and class {synset}, no pair of the manifest"
    )
