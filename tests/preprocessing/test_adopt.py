"""Shards that others wrote become records as they are, or are refused with their first problem."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from pipeline.cli import main
from preprocessing import storage
from preprocessing.adopt import adopt
from preprocessing.errors import DataError, UsageError
from preprocessing.records import schema, tfrecord, verify
from preprocessing.records.schema import SPLITS, Manifest
from tests.conftest import ingest
from tests.emulator import Emulator
from tests.preprocessing.layouts import TRAIN, tar, write_official
from tests.training.small_runs import config_of, run
from training.input.records import Records

SHARDS = {"train": 3, "validation": 2}
OURS = (schema.MANIFEST, schema.RECORD_OFFSETS)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    ingest(write_official(folder / "source"), folder / "records", num_shards=SHARDS)
    return folder / "records"


@pytest.fixture
def foreign(prepared: Path, tmp_path: Path) -> Path:
    """Return the shards alone, as somebody else's program left them."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for path in prepared.glob("*-of-*"):
        shutil.copy(path, folder)
    return folder


def test_adopted_shards_are_what_prepare_would_have_written(prepared: Path, foreign: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in foreign.iterdir()}
    adopted, written = adopt(str(foreign)), Manifest.read(str(prepared))
    for same in ("digest", "classes", "shards", "record_offsets"):
        assert getattr(adopted, same) == getattr(written, same)
    for split in SPLITS:
        ours, theirs = adopted.statistics.of(split), written.statistics.of(split)
        assert (ours.class_counts, ours.boxes, ours.short_sides) == (
            *(theirs.class_counts, theirs.boxes, theirs.short_sides),
        )
    assert Manifest.read(str(foreign)) == adopted
    verify.verify(str(foreign), adopted)
    after = {path.name: path.stat().st_mtime_ns for path in foreign.iterdir()}
    assert {name: time for name, time in after.items() if name not in OURS} == before
    assert adopt(str(foreign)) == adopted


def test_names_of_tfds_and_index_files_of_dali(
    prepared: Path, foreign: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in list(foreign.iterdir()):
        split, _, rest = path.name.partition("-")
        path.rename(foreign / f"imagenet2012-{split}.tfrecord-{rest}")
        (foreign / f"{path.name}.idx").write_text("0 100\n")
    (foreign / "features.json").write_text("{}")
    for path in foreign.glob("*.idx"):
        path.rename(foreign / f"idx-{path.name.replace('-of-', '_')}")
    adopted = adopt(str(foreign))
    assert adopted.digest == Manifest.read(str(prepared)).digest
    assert "adopt: not read in" in caplog.text
    records = Records(str(foreign), adopted, "train")
    jpeg, label = records.read(tf.constant(0, tf.int64))
    assert int(label) >= 1
    assert tf.io.decode_jpeg(jpeg).shape[-1] in (1, 3)


def test_a_run_trains_and_evaluates_on_adopted_records(records: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for path in records.glob("*-of-*"):
        os.link(path, foreign / path.name)
    assert main(["adopt", str(foreign)]) == 0
    progress = run(config_of("training.total_images=32"), foreign, tmp_path / "run")
    assert progress.complete
    assert main(["evaluate", f"--workdir={tmp_path / 'run'}", f"--records={foreign}"]) == 0


def change_record(folder: Path, split: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Write the first shard of a split again, with its first record changed."""
    path = sorted(folder.glob(f"{split}-*"))[0]
    with open(path, "rb") as stream:
        payloads = list(tfrecord.read_records(stream, path.name))
    features = tfrecord.parse(payloads[0])
    change(features)
    path.write_bytes(
        tfrecord.record(features) + b"".join(tfrecord.frame(payload) for payload in payloads[1:])
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update({schema.LABEL: [0]}), "its label is 0; labels are 1 to"),
        (lambda f: f.pop(schema.ENCODED), "it lacks features of slim's"),
        (lambda f: f.pop(schema.SYNSET), "it lacks features of slim's"),
        (lambda f: f.update({schema.ENCODED: [b"\0" * 99]}), "not a JPEG"),
        (lambda f: f.update({schema.ENCODED: [TRAIN["n01440764_2933.JPEG"]]}), "holds a PNG"),
        (lambda f: f.update({schema.SYNSET: [b"\xff\xfe"]}), "name of its class is empty, not"),
        (lambda f: f.update({schema.LABEL: [7]}), "has label 4, but others have larger ones"),
        (lambda f: f.update({schema.SYNSET: [b"n999"]}), "label . is class 'n"),
    ],
)
def test_what_training_could_not_use_is_named_and_nothing_is_written(
    change: Callable[[dict[str, Any]], object], message: str, foreign: Path
) -> None:
    change_record(foreign, "train", change)
    with pytest.raises(DataError, match=message):
        adopt(str(foreign))
    assert not any((foreign / name).exists() for name in OURS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "train-00001-of-00003").unlink(), "lacks 1 of its 3 train shards"),
        (lambda f: (f / "train-00000-of-00009").touch(), "train shards of 3 and of 9"),
        (lambda f: (f / "val-00000-of-00002").touch(), "holds both val"),
        (lambda f: os.truncate(f / "train-00000-of-00003", 99), "record 0 of train.* cut short"),
        (lambda f: [p.unlink() for p in f.glob("val*")], "holds no validation shards"),
    ],
)
def test_missing_or_doubled_shards_are_named(
    change: Callable[[Path], object], message: str, foreign: Path
) -> None:
    change(foreign)
    with pytest.raises((DataError, UsageError), match=message):
        adopt(str(foreign))
    assert not any((foreign / name).exists() for name in OURS)


def test_a_flipped_byte_is_found(foreign: Path) -> None:
    path = foreign / "validation-00001-of-00002"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="validation-00001-of-00002 does not match its CRC"):
        adopt(str(foreign))


def test_records_that_prepare_wrote_are_left_alone(prepared: Path) -> None:
    with pytest.raises(UsageError, match="nothing to adopt"):
        adopt(str(prepared))


@pytest.mark.slow
def test_shards_in_a_bucket_are_adopted(emulator: Emulator, foreign: Path) -> None:
    folder = f"{emulator.bucket}/foreign"
    for path in foreign.iterdir():
        storage.write_bytes(f"{folder}/{path.name}", path.read_bytes())
    adopted = adopt(folder)
    assert adopted == adopt(str(foreign))
    assert Manifest.read(folder) == adopted


def test_the_validation_archive_alone_serves_for_evaluation(
    prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_official(tmp_path / "source")
    (source / "ILSVRC2012_img_train.tar").unlink()
    with pytest.raises(UsageError, match="--train-shards 3, but the source has no train images"):
        ingest(source, tmp_path / "records", num_shards=SHARDS)
    manifest = ingest(source, tmp_path / "records", num_shards={**SHARDS, "train": 0})
    assert main(["inspect", str(tmp_path / "records"), f"--output={tmp_path / 'pictures'}"]) == 0
    assert "serve for evaluation alone" in caplog.text
    whole = Manifest.read(str(prepared))
    assert manifest.classes == whole.classes
    assert (manifest.num_examples("train"), manifest.shards["train"]) == (0, ())
    assert manifest.shards["validation"] == whole.shards["validation"]
    verify.verify(str(tmp_path / "records"), Manifest.read(str(tmp_path / "records")))
    assert Records(str(tmp_path / "records"), manifest, "validation").num_examples == 5
    with pytest.raises(UsageError, match="has no training images, it is for evaluation alone"):
        run(config_of("training.total_images=32"), tmp_path / "records", tmp_path / "run")
    shutil.copytree(tmp_path / "records", tmp_path / "adopted")
    for name in OURS:
        (tmp_path / "adopted" / name).unlink()
    again = ingest(source, tmp_path / "records", num_shards={**SHARDS, "train": 0})
    assert again == manifest
    adopted = adopt(str(tmp_path / "adopted"))
    assert adopted.digest == manifest.digest
    assert main(["inspect", str(tmp_path / "adopted"), f"--output={tmp_path / 'pictures'}"]) == 0


def test_an_unrelated_image_in_the_validation_archive_is_still_refused(tmp_path: Path) -> None:
    source = write_official(tmp_path / "source")
    (source / "ILSVRC2012_img_train.tar").unlink()
    (source / "ILSVRC2012_img_val.tar").write_bytes(tar({"cat.JPEG": TRAIN["n01440764_18.JPEG"]}))
    with pytest.raises(DataError, match=r"holds cat\.JPEG; expected"):
        ingest(source, tmp_path / "records")
