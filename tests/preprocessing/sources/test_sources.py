"""The same images are the same source in every layout, and missing files are named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.records.schema import SPLITS
from preprocessing.sources.references import ImageReference
from preprocessing.sources.registry import find_source
from preprocessing.sources.words import SYNSET_WORDS, class_words
from tests.emulator import Emulator
from tests.preprocessing.layouts import (
    BOXES,
    CLASSES,
    LABELS,
    TRAIN,
    VALIDATION_IMAGES,
    synset_of,
    write_folders,
    write_kaggle,
    write_official,
)

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "official archives": write_official,
    "official, slim's text files": lambda folder: write_official(folder, kit=False),
    "official, nested boxes": lambda folder: write_official(folder, nested_boxes=True),
    "Kaggle": write_kaggle,
    "folder per class": write_folders,
    "folder per class, val": lambda folder: write_folders(folder, validation="val"),
}
WITHOUT_BOXES = ("folder per class", "folder per class, val")


def read(reference: ImageReference) -> bytes:
    with fsspec.open(reference.path, "rb") as stream:
        stream.seek(reference.offset)
        content: bytes = stream.read(reference.size)
    return content


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_keys_labels_texts_boxes_and_bytes(
    layout: str, tmp_path: Path
) -> None:
    source = find_source(str(LAYOUTS[layout](tmp_path / "source")))
    assert [
        (image_class.synset, image_class.text, image_class.index) for image_class in source.classes
    ] == [(synset, words, label) for label, (synset, (words, _)) in enumerate(CLASSES.items(), 1)]
    for split, images in (("train", TRAIN), ("validation", VALIDATION_IMAGES)):
        listed = {image.key: image for image in source.images(split)}
        assert listed.keys() == {f"{split}/{synset_of(name)}/{name}" for name in images}
        for reference in listed.values():
            name = reference.filename
            assert reference.label == LABELS[synset_of(name)]
            assert read(reference) == images[name]
            expected = () if layout in WITHOUT_BOXES else BOXES.get(name, ())
            assert reference.boxes == expected, name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_listing_is_lazy_and_can_be_made_again(layout: str, tmp_path: Path) -> None:
    source = find_source(str(LAYOUTS[layout](tmp_path / "source")))
    for split in SPLITS:
        first = source.images(split)
        assert next(first).label in LABELS.values()
        assert list(source.images(split)) == list(source.images(split))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_url_is_as_good_as_a_path(layout: str, tmp_path: Path) -> None:
    local = LAYOUTS[layout](tmp_path / "source")
    url = f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").put(f"{local}/", f"{url}/", recursive=True)
    local_source, remote_source = find_source(str(local)), find_source(url)
    assert local_source.classes == remote_source.classes
    for split in SPLITS:
        remote = {image.key: image for image in remote_source.images(split)}
        for reference in local_source.images(split):
            other = remote.pop(reference.key)
            assert other.path.startswith("memory://")
            assert (other.label, other.boxes) == (reference.label, reference.boxes)
            assert read(other) == read(reference)
        assert not remote


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["official, nested boxes", "Kaggle"])
def test_a_bucket_behind_a_failing_network_lists_the_same(
    layout: str, flaky_emulator: Emulator, tmp_path: Path
) -> None:
    local = LAYOUTS[layout](tmp_path / "source")
    url = f"{flaky_emulator.bucket}/source"
    for path in local.rglob("*"):
        if path.is_file():
            storage.write_bytes(f"{url}/{path.relative_to(local)}", path.read_bytes())
    before = flaky_emulator.faults.total()
    local_source, remote_source = find_source(str(local)), find_source(url)
    assert local_source.classes == remote_source.classes
    for split in SPLITS:
        remote = {
            (image.key, image.offset, image.size, image.label, image.boxes)
            for image in remote_source.images(split)
        }
        assert remote == {
            (image.key, image.offset, image.size, image.label, image.boxes)
            for image in local_source.images(split)
        }
    assert flaky_emulator.faults.total() > before


def test_boxes_are_optional(tmp_path: Path) -> None:
    for write in (write_official, write_kaggle):
        folder = write(tmp_path / write.__name__, boxes=False)
        for split in SPLITS:
            assert not any(image.boxes for image in find_source(str(folder)).images(split))


def test_an_unknown_folder_is_told_all_that_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        find_source(str(tmp_path))
    for name in (
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_devkit_t12.tar.gz",
        "ILSVRC/Data/CLS-LOC",
        "LOC_val_solution.csv",
        "train/<class>/",
        "val/<class>/",
    ):
        assert name in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="does not exist"):
        find_source(str(tmp_path / "nothing"))


@pytest.mark.parametrize("missing", ["ILSVRC/Data/CLS-LOC/val", "LOC_val_solution.csv"])
def test_what_a_kaggle_download_lacks_is_named(missing: str, tmp_path: Path) -> None:
    folder = write_kaggle(tmp_path / "source")
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UsageError, match=f"lacks .*{missing}; looked for"):
        find_source(str(folder))


def listed(folder: Path) -> dict[str, list[ImageReference]]:
    source = find_source(str(folder))
    return {split: list(source.images(split)) for split in SPLITS}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ILSVRC2012_val_00000009,n12345678 1 2 3 4", "names n12345678, which has no training"),
        ("ILSVRC2012_val_00000001,n01440764 1 2 3 4", "a second time"),
        ("whale.jpg,n01440764", "line 7 is 'whale.jpg,n01440764'"),
        ('"', "is not a CSV file"),
        ("ILSVRC2012_val_00000009,n01440764 1 2 3 4", "holds 5 images but .* lists 6"),
    ],
)
def test_a_wrong_line_of_the_solution_is_named(line: str, message: str, tmp_path: Path) -> None:
    folder = write_kaggle(tmp_path / "source")
    with open(folder / "LOC_val_solution.csv", "a") as stream:
        stream.write(line)
    with pytest.raises(DataError, match=message):
        listed(folder)


def test_a_validation_image_that_kaggle_says_nothing_of_is_named(tmp_path: Path) -> None:
    folder = write_kaggle(tmp_path / "source")
    images = folder / "ILSVRC/Data/CLS-LOC/val"
    (images / "ILSVRC2012_val_00000005.JPEG").rename(images / "mine.JPEG")
    with pytest.raises(DataError, match=r"holds 'mine\.JPEG', of which LOC_val_solution"):
        listed(folder)


def test_any_classes_do_for_a_folder_per_class(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("zebra fish", "Äpfel"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.jpg").write_bytes(b"image")
    (tmp_path / "train" / ".DS_Store").write_bytes(b"")
    (tmp_path / "train" / "Äpfel" / ".DS_Store").write_bytes(b"")
    source = find_source(str(tmp_path))
    assert [(image_class.synset, image_class.text) for image_class in source.classes] == [
        ("zebra fish", "zebra fish"),
        ("Äpfel", "Äpfel"),
    ]
    assert [image.key for image in source.images("train")] == [
        "train/zebra fish/1.jpg",
        "train/Äpfel/1.jpg",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "a\u202fb",
        "a\xa0b",
        "a\u200cb",
        "a\u2029b",
        "\u0e01\u0e34",
        "e\u0301",
        "\U0001f431 1",
        "'$|`",
    ],
)
def test_names_of_people_and_their_systems_are_ordinary(name: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / name).mkdir(parents=True)
        (tmp_path / split / name / f"{name}.jpg").write_bytes(b"image")
    source = find_source(str(tmp_path))
    assert [image_class.synset for image_class in source.classes] == [name]
    assert [image.key for image in source.images("train")] == [f"train/{name}/{name}.jpg"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat\tfelis catus\ndog\tcanis\n", {"cat": "felis catus", "dog": "canis"}),
        ("\ufeffcat\tfelis\r\ndog\tcanis\r\n", {"cat": "felis", "dog": "canis"}),
        ("cat   felis catus\ndog canis\n", {"cat": "felis catus", "dog": "canis"}),
        ("cat\tfe\x85lis\u2029catus\ndog\tcanis", {"cat": "fe\x85lis\u2029catus", "dog": "canis"}),
        ("cat\t\xa0felis\n\n dog canis \n", {"cat": "\xa0felis", "dog": "canis"}),
    ],
)
def test_descriptions_survive_every_editor(
    text: str, expected: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / SYNSET_WORDS).write_bytes(text.encode())
    assert class_words(str(tmp_path), ["cat", "dog"]) == expected
    assert capsys.readouterr().err == ""


def test_classes_that_the_file_does_not_describe_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / SYNSET_WORDS).write_text("cat\tfelis\nwhale\n")
    assert class_words(str(tmp_path), ["cat", "dog", "whale"]) == {"cat": "felis"}
    assert "does not describe 2 of 3 classes, first dog" in capsys.readouterr().err


def test_links_to_images_are_followed(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        (tmp_path / split / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").write_bytes(b"12345")
    (tmp_path / "train" / "a" / "1.jpg").symlink_to(tmp_path / "elsewhere")
    assert [image.size for image in find_source(str(tmp_path)).images("train")] == [5]


def test_a_link_to_nothing_is_no_image_less(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "source")
    (folder / "train" / "n01440764" / "x.JPEG").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"x\.JPEG"):
        listed(folder)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: shutil.rmtree(f / "validation"), r"neither of validation/ and val/"),
        (lambda f: (f / "validation" / "whale").mkdir(), "has class 'whale', which .* lacks"),
        (lambda f: (f / "train" / "readme").write_text("x"), "holds the file 'readme'"),
        (lambda f: (f / "train" / "n01440764" / "more").mkdir(), "holds the folder 'more'"),
        (lambda f: (f / "train" / "a\nb").mkdir(), r"class 'a\\nb'; rename it: .* printable"),
        (lambda f: (f / "train" / "a\udcff").mkdir(), r"class 'a\\udcff'; rename it"),
        (lambda f: empty(f / "train"), "is empty"),
    ],
)
def test_what_is_wrong_with_a_folder_per_class_is_named(
    change: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    folder = write_folders(tmp_path / "source")
    change(folder)
    with pytest.raises((DataError, UsageError), match=message):
        listed(folder)
