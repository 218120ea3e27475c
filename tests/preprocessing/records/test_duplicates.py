"""Duplicates are those of a plain comparison, however few digests are compared at a time."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from preprocessing import storage
from preprocessing.records.duplicates import MAX_NAMED_GROUPS, MAX_NAMED_PER_GROUP, Digests
from preprocessing.records.schema import RECORD_OFFSETS, write_record_offsets
from preprocessing.storage.spool import CHUNK, Spool

SHARD = 300
LENGTHS = {"train": 4000, "validation": 1000}


@pytest.mark.parametrize("at_a_time", [5000, 700, 50])
def test_duplicates_are_those_of_a_plain_comparison(at_a_time: int) -> None:
    chance = random.Random(7)
    values = [chance.randrange(2**64) for _ in range(4500)]
    images = {
        split: [chance.choice(values).to_bytes(8, "little") for _ in range(length)]
        for split, length in LENGTHS.items()
    }
    digests = Digests(at_a_time)
    for split, listed in images.items():
        for start in range(0, len(listed), SHARD):
            digests.add(split, b"".join(listed[start : start + SHARD]))
    same: dict[bytes, list[str]] = defaultdict(list)
    for split, listed in images.items():
        for number, digest in enumerate(listed):
            same[digest].append(f"{split} {number // SHARD}.{number % SHARD}")
    groups = [keys for keys in same.values() if len(keys) > 1]  # in the order of their first copy
    duplicates = digests.duplicates(lambda split, shard, record: f"{split} {shard}.{record}")
    assert duplicates.train == LENGTHS["train"] - len(set(images["train"]))
    assert duplicates.validation == LENGTHS["validation"] - len(set(images["validation"]))
    assert duplicates.between == sum(one in set(images["train"]) for one in images["validation"])
    assert duplicates.named == tuple(
        tuple(sorted(keys[:MAX_NAMED_PER_GROUP])) for keys in groups[:MAX_NAMED_GROUPS]
    )


@pytest.mark.parametrize("length", [0, 1, CHUNK, 2 * CHUNK + 3])
def test_offsets_from_disk_make_the_file_of_numpy(length: int, tmp_path: Path) -> None:
    offsets = np.arange(length, dtype=np.int64) ** 2
    spool = Spool("<i8")
    for part in np.array_split(offsets, 3):
        spool.append(part)
    assert len(spool) == length
    assert not length or spool[length - 1] == offsets[-1]
    write_record_offsets(str(tmp_path), {"train": spool, "validation": [offsets[:1]]})
    with open(tmp_path / "expected.npz", "wb") as stream:
        np.savez(stream, train=offsets, validation=offsets[:1])
    assert storage.digest_of_file(str(tmp_path / RECORD_OFFSETS)) == storage.digest_of_file(
        str(tmp_path / "expected.npz")
    )
