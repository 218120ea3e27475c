"""Every change in a records folder is found, and the shard is named."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from preprocessing.errors import DataError
from preprocessing.records import tfrecord
from preprocessing.records.schema import Manifest
from preprocessing.records.verify import check_sizes, verify


@pytest.fixture
def copied(records: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(records, tmp_path / "records"))


def test_records_just_written_are_whole(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify(str(records), Manifest.read(str(records)))
    progress = capsys.readouterr()
    assert "100%" in progress.err
    assert not progress.out


def test_any_changed_byte_is_found(copied: Path) -> None:
    manifest = Manifest.read(str(copied))
    chance = random.Random(9)
    path = copied / "validation-00001-of-00002"
    original = path.read_bytes()
    for position in [0, 8, 12, len(original) - 1, *chance.sample(range(len(original)), 12)]:
        damaged = bytearray(original)
        damaged[position] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        check_sizes(str(copied), manifest)
        with pytest.raises(DataError, match="in 1 of its 10 shards: validation-00001-of-00002: "):
            verify(str(copied), manifest)


def swap(folder: Path) -> None:
    """Let two records change places, so that every CRC is right."""
    path = folder / "train-00003-of-00008"
    with open(path, "rb") as stream:
        first, second, *rest = tfrecord.read_records(stream, path.name)
    path.write_bytes(b"".join(map(tfrecord.frame, (second, first, *rest))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "train-00003-of-00008").unlink(), "train-00003-of-00008 is missing"),
        (
            lambda f: (f / "train-00003-of-00008").write_bytes(b"short"),
            r"train-00003-of-00008 has 5 bytes instead of \d+",
        ),
        (
            lambda f: (f / "train-00003-of-00009").write_bytes(b"other"),
            "train-00003-of-00009 does not belong to it",
        ),
        (swap, "train-00003-of-00008: its SHA-256 is not the manifest's"),
        (
            lambda f: (f / "record_offsets.npz").write_bytes(b"no"),
            "record_offsets.npz is missing or not the one",
        ),
    ],
)
def test_what_is_wrong_is_named(
    change: Callable[[Path], object], message: str, copied: Path
) -> None:
    change(copied)
    with pytest.raises(DataError, match=message):
        verify(str(copied), Manifest.read(str(copied)))


def test_a_manifest_that_contradicts_its_records_is_found(records: Path) -> None:
    manifest = Manifest.read(str(records))
    train = manifest.shards["train"]
    for damaged, message in (
        (
            dataclasses.replace(
                manifest, shards={**manifest.shards, "train": (train[0], train[0], *train[2:])}
            ),
            "does not belong|missing|bytes instead",
        ),
        (
            dataclasses.replace(manifest, classes=manifest.classes[::-1]),
            "digest is not that of its shards",
        ),
    ):
        with pytest.raises(DataError, match=message):
            verify(str(records), damaged)
    counts = list(manifest.statistics.train.class_counts)
    counts[0], counts[1] = counts[0] + 1, counts[1] - 1
    statistics = dataclasses.replace(
        manifest.statistics,
        train=dataclasses.replace(manifest.statistics.train, class_counts=tuple(counts)),
    )
    with pytest.raises(DataError, match="train class counts are not the records'"):
        verify(str(records), dataclasses.replace(manifest, statistics=statistics))
