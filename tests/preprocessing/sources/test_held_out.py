"""Images that are held out for validation: the same ones everywhere, and every image once."""

from __future__ import annotations

from pathlib import Path

import pytest

from preprocessing.errors import DataError, UsageError
from preprocessing.records.schema import SPLITS, Manifest
from preprocessing.sources.registry import find_source
from tests.conftest import mobilenet
from tests.preprocessing.layouts import write_folders, write_official

COUNTS = {"ant": 1, "bee": 2, "cat": 11, "dog": 40}


def write_classes(folder: Path, counts: dict[str, int]) -> Path:
    """Write files of different sizes, which nobody decodes here."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            (folder / name / f"{index}.jpg").write_bytes(b"x" * (index + 1))
    return folder


def names(folder: Path, fraction: float) -> dict[str, set[str]]:
    source = find_source(str(folder), fraction)
    listed = {split: list(source.images(split)) for split in SPLITS}
    for split, images in listed.items():
        assert {image.key.split("/")[0] for image in images} == {split}
    return {split: {image.key.split("/", 1)[1] for image in listed[split]} for split in SPLITS}


@pytest.mark.parametrize("inside", ["", "train"])
@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_every_image_is_in_one_split_and_every_class_is_divided_as_asked(
    inside: str, fraction: float, tmp_path: Path
) -> None:
    write_classes(tmp_path / "source" / inside, COUNTS)
    divided = names(tmp_path / "source", fraction)
    assert not divided["train"] & divided["validation"]
    everything = {f"{name}/{index}.jpg" for name, n in COUNTS.items() for index in range(n)}
    assert divided["train"] | divided["validation"] == everything
    for name, count in COUNTS.items():
        held_out = sum(key.startswith(f"{name}/") for key in divided["validation"])
        assert held_out == min(count - 1, max(1, round(fraction * count)))


def test_the_draw_depends_on_class_and_name_alone(tmp_path: Path) -> None:
    """Not on the place, other classes, or bytes; a new image moves at most one other."""
    here = names(write_classes(tmp_path / "here", COUNTS), 0.25)
    there = write_classes(tmp_path / "there" / "train", {**COUNTS, "eel": 8})
    (there / "dog" / "7.jpg").write_bytes(b"other bytes")
    of_the_same = {key for key in names(tmp_path / "there", 0.25)["validation"] if key[0] != "e"}
    assert of_the_same == here["validation"]
    (there / "dog" / "new.jpg").write_bytes(b"new")
    after = names(tmp_path / "there", 0.25)["validation"]
    assert len(here["validation"] - after) <= 1


def test_a_source_that_needs_no_draw_is_refused(tmp_path: Path) -> None:
    for write in (write_folders, write_official):
        folder = write(tmp_path / write.__name__)
        with pytest.raises(UsageError, match="leave it out"):
            find_source(str(folder), 0.1)


def test_whoever_has_no_validation_images_is_told_the_way(tmp_path: Path) -> None:
    write_classes(tmp_path / "plain", COUNTS)
    write_classes(tmp_path / "divided" / "train", COUNTS)
    for name in ("plain", "divided"):
        with pytest.raises(UsageError, match=r"pass --validation-fraction 0\.1"):
            find_source(str(tmp_path / name))


def test_a_file_between_the_classes_is_refused_by_name(tmp_path: Path) -> None:
    write_classes(tmp_path, COUNTS)
    (tmp_path / "stray.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"stray\.jpg"):
        find_source(str(tmp_path), 0.1)


@pytest.mark.parametrize("text", ["0", "1", "-0.1", "2", "nan", "x"])
def test_a_fraction_that_is_none_is_a_wrong_flag(text: str, tmp_path: Path) -> None:
    outcome = mobilenet(
        "prepare",
        f"--source={tmp_path}",
        f"--records={tmp_path}/records",
        f"--validation-fraction={text}",
    )
    assert outcome.code == 2
    assert "--validation-fraction" in outcome.err


@pytest.mark.slow
def test_records_say_how_they_were_divided_and_how_unequal_classes_are(
    tmp_path: Path, archives: Path
) -> None:
    source, records = tmp_path / "source", tmp_path / "records"
    full = tmp_path / "full"
    assert mobilenet("prepare", f"--source={archives}", f"--records={full}").code == 0
    _write_digits(full, source)
    arguments = ["prepare", f"--source={source}", f"--records={records}"]
    assert mobilenet(*arguments).code == 2
    outcome = mobilenet(*arguments, "--validation-fraction=0.2")
    assert outcome.code == 0, outcome.err
    assert outcome.result["examples"] == {"train": 16 + 4, "validation": 4 + 1}
    assert "the classes have 4 (few) to 16 (many) training images" in outcome.err
    manifest = Manifest.read(str(records))
    assert manifest.source["validation"].startswith("0.2 of each class")
    again = mobilenet(*arguments, "--validation-fraction=0.2")
    assert "nothing to do" in again.err
    other = mobilenet(*arguments, "--validation-fraction=0.5", "--overwrite")
    assert other.result["examples"] == {"train": 10 + 3, "validation": 10 + 2}


def _write_digits(records: Path, source: Path) -> None:
    """Write 25 images of records into two classes."""
    import tensorflow as tf

    shard = next(iter(sorted(records.glob("train-*"))))
    for index, record in enumerate(tf.data.TFRecordDataset(str(shard)).take(25)):
        example = tf.train.Example.FromString(record.numpy())
        image = example.features.feature["image/encoded"].bytes_list.value[0]
        folder = source / ("many" if index < 20 else "few")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.jpg").write_bytes(image)
