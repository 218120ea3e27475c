"""Ingest is a function of the set of images and the options, whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from preprocessing.errors import DataError, UsageError
from preprocessing.records import schema, tfrecord
from preprocessing.records.schema import Manifest, read_record_offsets
from preprocessing.shards import PLANS, REPORTS
from tests.conftest import ingest
from tests.preprocessing.content import content
from tests.preprocessing.layouts import write_folders

CALLED = {"train": 0, "validation": 0}


def test_the_folder_has_the_published_form(records: Path) -> None:
    assert sorted(content(records)) == [
        "dataset.json",
        "record_offsets.npz",
        *(f"train-{i:05d}-of-00008" for i in range(8)),
        *(f"validation-{i:05d}-of-00002" for i in range(2)),
    ]


def test_records_hold_the_published_schema(records: Path) -> None:
    with open(records / "train-00000-of-00008", "rb") as stream:
        record = tfrecord.parse(next(tfrecord.read_records(stream, "train")))
    boxes = {f"image/object/bbox/{name}" for name in ("xmin", "xmax", "ymin", "ymax", "label")}
    assert set(record) == boxes | {
        "image/height",
        "image/width",
        "image/colorspace",
        "image/channels",
        "image/class/label",
        "image/class/synset",
        "image/class/text",
        "image/format",
        "image/filename",
        "image/encoded",
    }
    assert record["image/colorspace"] == [b"RGB"]
    assert record["image/channels"] == [3]
    assert record["image/format"] == [b"JPEG"]
    label = record["image/class/label"][0]
    assert record["image/class/synset"] == [b"n%08d" % (99900000 + label - 1)]


def test_counts_rejects_and_repairs_are_exact(records: Path) -> None:
    manifest = Manifest.read(str(records))
    assert manifest.num_examples("train") == 1437
    assert manifest.num_examples("validation") == 360
    assert [reject.key for reject in manifest.rejects] == ["train/n99900003/n99900003_144.JPEG"]
    assert "truncated" in manifest.rejects[0].reason
    assert manifest.repaired == {"CMYK JPEG": 1, "PNG": 1}


def test_manifest_digests_and_offsets_are_those_of_the_files(records: Path) -> None:
    manifest = Manifest.read(str(records))
    for split, shards in manifest.shards.items():
        index, offsets = read_record_offsets(str(records), manifest, split)
        for number, shard in enumerate(shards):
            written = (records / shard.file).read_bytes()
            assert hashlib.sha256(written).hexdigest() == shard.sha256
            starts = []
            position = 0
            with open(records / shard.file, "rb") as stream:
                for payload in tfrecord.read_records(stream, shard.file):
                    starts.append(position)
                    position += len(tfrecord.frame(payload))
            assert offsets[index == number].tolist() == starts


def test_every_class_is_spread_over_the_shards(records: Path) -> None:
    with open(records / "train-00003-of-00008", "rb") as stream:
        labels = {
            tfrecord.parse(record)["image/class/label"][0]
            for record in tfrecord.read_records(stream, "train")
        }
    assert labels == set(range(1, 11))


def test_a_rerun_changes_nothing(archives: Path, records: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in records.iterdir()}
    assert ingest(archives, records) == Manifest.read(str(records))
    assert {path: path.stat().st_mtime_ns for path in records.iterdir()} == before


def test_an_interrupted_ingest_is_completed_to_the_same_bytes(
    archives: Path, records: Path, tmp_path: Path
) -> None:
    """A killed ingest leaves no manifest and some shards, one torn and one without its report."""
    broken = tmp_path / "records"
    shutil.copytree(records, broken)
    manifest = Manifest.read(str(records))
    (broken / schema.MANIFEST).unlink()
    (broken / schema.RECORD_OFFSETS).unlink()
    (broken / REPORTS / "plan.json").write_text(
        json.dumps({"fingerprint": manifest.fingerprint, "options": manifest.options})
    )
    (broken / REPORTS / "train-00000-of-00008.json").unlink()
    (broken / "train-00001-of-00008").unlink()
    (broken / ".train-00002-of-00008.partial-0123abcd").write_bytes(b"half")
    ingest(archives, broken)
    assert content(broken) == content(records)


def test_a_kill_before_anything_was_written_is_no_obstacle(archives: Path, tmp_path: Path) -> None:
    (tmp_path / "records" / REPORTS).mkdir(parents=True)
    (tmp_path / "records" / REPORTS / ".plan.json.partial-0123abcd").write_bytes(b"{")
    assert ingest(archives, tmp_path / "records").num_examples("train") == 1437
    assert not list((tmp_path / "records").rglob("*partial*"))
    assert not (tmp_path / "records" / PLANS).exists()


def test_changed_options_are_refused_with_the_difference(
    archives: Path, records: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "records"
    shutil.copytree(records, copied)
    before = content(copied)
    with pytest.raises(UsageError, match=r"seed 0 \(now 7\).*--overwrite"):
        ingest(archives, copied, seed=7)
    assert content(copied) == before
    assert ingest(archives, copied, seed=7, overwrite=True).options["seed"] == 7
    assert content(copied) != before


def test_a_folder_with_something_else_in_it_is_refused(archives: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        ingest(archives, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_too_many_rejects_leave_nothing_that_looks_complete(archives: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 images were rejected.*truncated"):
        ingest(archives, tmp_path / "records", max_rejects=0)
    with pytest.raises(UsageError, match=r"no dataset\.json"):
        Manifest.read(str(tmp_path / "records"))


def test_a_file_far_too_large_for_an_image_is_a_reject_and_is_not_read(tmp_path: Path) -> None:
    source = write_folders(tmp_path / "source")
    with open(source / "train" / "n01440764" / "film.JPEG", "wb") as stream:
        stream.truncate(40 << 30)
    manifest = ingest(source, tmp_path / "records")
    assert [reject.key for reject in manifest.rejects] == ["train/n01440764/film.JPEG"]
    assert "more than 134217728 bytes" in manifest.rejects[0].reason
