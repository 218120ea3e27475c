"""The official archives are listed in place, and every problem with them is named."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from preprocessing.errors import DataError, UsageError
from preprocessing.records.schema import SPLITS
from preprocessing.sources import archives as official
from preprocessing.sources import words
from preprocessing.sources.references import ImageReference
from preprocessing.sources.registry import find_source


@pytest.fixture
def copied(archives: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(archives, tmp_path / "archives"))


def listed(folder: Path) -> dict[str, list[ImageReference]]:
    source = find_source(str(folder))
    return {split: list(source.images(split)) for split in SPLITS}


def test_labels_follow_the_sorted_synsets_from_one(archives: Path) -> None:
    source = find_source(str(archives))
    assert [image_class.index for image_class in source.classes] == list(range(1, 11))
    assert [image_class.synset for image_class in source.classes] == sorted(
        e.synset for e in source.classes
    )
    assert source.classes[0].text == "zero"
    assert {split: len(images) for split, images in listed(archives).items()} == {
        "train": 1438,  # 1,437 and the truncated one
        "validation": 360,
    }


def test_every_reference_points_at_its_bytes(archives: Path) -> None:
    with tarfile.open(archives / official.TRAIN_ARCHIVE) as outer:
        expected = {}
        for member in outer:
            inner_bytes = outer.extractfile(member)
            assert inner_bytes
            with tarfile.open(fileobj=io.BytesIO(inner_bytes.read())) as inner:
                for image in inner:
                    content = inner.extractfile(image)
                    assert content
                    expected[image.name] = content.read()
    for reference in listed(archives)["train"]:
        with open(reference.path, "rb") as stream:
            stream.seek(reference.offset)
            assert stream.read(reference.size) == expected[reference.filename]


@pytest.mark.parametrize("name", [official.VALIDATION_ARCHIVE, official.VALIDATION_LABELS])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(UsageError, match=f"lacks .*{name}.*looked for"):
        find_source(str(copied))


def test_class_names_are_optional(copied: Path) -> None:
    (copied / words.SYNSET_WORDS).unlink()
    assert find_source(str(copied)).classes[0].text == "n99900000"


def test_a_file_that_is_no_tar_is_named(copied: Path) -> None:
    (copied / official.TRAIN_ARCHIVE).write_text("<html>please log in</html>" * 100)
    with pytest.raises(DataError, match=f"{official.TRAIN_ARCHIVE} is not a complete tar"):
        listed(copied)


@pytest.mark.parametrize("kept", [0.5, 0.93])
def test_an_archive_cut_short_is_refused_wherever_the_cut_is(copied: Path, kept: float) -> None:
    path = copied / official.TRAIN_ARCHIVE
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match="not a complete tar"):
        listed(copied)


def test_validation_labels_must_match_the_images(copied: Path) -> None:
    path = copied / official.VALIDATION_LABELS
    path.write_text(path.read_text() + "n99900000\n")
    with pytest.raises(DataError, match=r"360 images but .* has 361 lines"):
        listed(copied)


def test_a_validation_class_without_training_images_is_named(copied: Path) -> None:
    path = copied / official.VALIDATION_LABELS
    lines = path.read_text().splitlines()
    lines[4] = "n12345678"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match="line 5 names n12345678"):
        listed(copied)
