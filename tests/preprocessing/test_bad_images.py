"""One bad image is one reject with its key, and no source is read in part without a word."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from preprocessing.errors import DataError, UsageError
from preprocessing.images.reader import read_images
from preprocessing.records.schema import SPLITS, Manifest
from preprocessing.sources import archives
from preprocessing.sources.registry import find_source
from tests.conftest import ingest
from tests.preprocessing.content import content
from tests.preprocessing.layouts import tar, write_official


def encoded(size: tuple[int, int], kind: str) -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", size, "red").save(packed, kind)
    return packed.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder per class with two classes of two images each."""
    folder = tmp_path / "source"
    for split in SPLITS:
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(2):
                content = encoded((20 + number, 30), "JPEG")
                (folder / split / name / f"{number}.jpg").write_bytes(content)
    return folder


def test_each_bad_file_is_one_reject(source: Path, tmp_path: Path) -> None:
    cat = source / "train" / "cat"
    (cat / "wide.png").write_bytes(encoded((65_501, 1), "PNG"))
    (cat / "tall.bmp").write_bytes(encoded((1, 65_501), "BMP"))
    os.mkfifo(cat / "pipe.jpg")
    (cat / "link.jpg").symlink_to(cat / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        previous = Path.cwd()
        os.chdir(cat)  # the path of a socket has few bytes
        try:
            listener.bind("socket.jpg")
        finally:
            os.chdir(previous)
        manifest = ingest(source, tmp_path / "records")
    reasons = {reject.key.rsplit("/", 1)[1]: reject.reason for reject in manifest.rejects}
    assert manifest.num_examples("train") == 4
    assert set(reasons) == {"wide.png", "tall.bmp", "pipe.jpg", "link.jpg", "socket.jpg"}
    assert all(reasons[name] == "not a regular file" for name in reasons if name.endswith("jpg"))
    assert "65501x1 pixels in a PNG" in reasons["wide.png"]


ODD_NAMES = ("a\nb.jpg", "a\x1b[31mb.jpg", "a\x85b.jpg", "\udcff.jpg")
ORDINARY_NAMES = (
    "Screenshot 2024-01-01 at 9.41.00\u202fAM.jpg",
    "a\u2029b.jpg",
    "a\u00a0b.jpg",
    "\u0645\u06cc\u200c\u062e.jpg",
    " .jpg",
    "\u3000.jpg",
    "\U0001f600.jpg",
    "'\"|$`.jpg",
)


def test_only_files_with_unprintable_names_are_rejected(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = encoded((9, 9), "JPEG")
    for name in (*ODD_NAMES, *ORDINARY_NAMES):
        (source / "train" / "cat" / name).write_bytes(image)
    manifest = ingest(source, tmp_path / "records")
    assert manifest.num_examples("train") == 4 + len(ORDINARY_NAMES)
    assert sorted(reject.key.removeprefix("train/cat/") for reject in manifest.rejects) == [
        r"\udcff.jpg",
        r"a\nb.jpg",
        r"a\x1b[31mb.jpg",
        r"a\x85b.jpg",
    ]
    assert Manifest.read(str(tmp_path / "records")) == manifest
    assert "\x1b" not in capsys.readouterr().err


def test_the_same_names_in_an_archive_are_rejected_too(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "source", boxes=False)
    images = {
        f"n01440764_{name}": encoded((9, 9), "JPEG") for name in (*ODD_NAMES, *ORDINARY_NAMES)
    }
    archive = folder / archives.TRAIN_ARCHIVE
    with tarfile.open(archive) as packed:
        members = {
            member.name: content.read()
            for member in packed.getmembers()
            if (content := packed.extractfile(member))
        }
    for format_ in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        inner = io.BytesIO()
        with tarfile.open(
            fileobj=inner, mode="w", format=format_, errors="surrogateescape"
        ) as written:
            for name, image in images.items():
                member = tarfile.TarInfo(name)
                member.size = len(image)
                written.addfile(member, io.BytesIO(image))
        archive.write_bytes(tar({**members, "n01440764.tar": inner.getvalue()}))
        manifest = ingest(folder, tmp_path / f"records{format_}")
        assert len(manifest.rejects) == len(ODD_NAMES)
        assert manifest.statistics.train.class_counts[0] == len(ORDINARY_NAMES)


def test_a_file_that_may_not_be_read_is_one_reject_and_is_read_when_it_may(
    source: Path, tmp_path: Path
) -> None:
    """In a namespace without power over files of others, even root meets the refusal."""
    closed = source / "train" / "cat" / "0.jpg"
    if os.geteuid() == 0:
        os.chown(closed, 12345, 12345)
    closed.chmod(0)
    records = tmp_path / "records"
    command = [sys.executable, "-m", "pipeline", "prepare"]
    command += [f"--source={source}", f"--records={records}"]
    for _ in range(2):
        done = subprocess.run(
            ["unshare", "--map-root-user", *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "rejected train/cat/0.jpg: cannot be read: Permission denied" in done.stderr
    closed.chmod(0o644)
    assert ingest(source, records).rejects == ()
    ingest(source, tmp_path / "fresh")
    assert content(records) == content(tmp_path / "fresh")


def test_a_file_that_shrinks_after_it_was_listed_is_one_reject(source: Path) -> None:
    listed = list(find_source(str(source)).images("train"))
    os.truncate(listed[1].path, 100)
    Path(listed[2].path).unlink()
    read = [content for _, content in read_images(listed)]
    assert [str(content) for content in read if not isinstance(content, bytes)] == [
        "its file was cut after it was listed",
        "cannot be read: No such file or directory",
    ]
    assert len(read) == 4


def test_what_is_not_read_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(source, tmp_path / "clean")
    assert "not read" not in capsys.readouterr().err
    (source / "test").mkdir()
    (source / "train.zip").touch()
    (source / ".DS_Store").touch()
    ingest(source, tmp_path / "records")
    assert f"prepare: not read in {source}: test, train.zip\n" in capsys.readouterr().err
    official = write_official(tmp_path / "official")
    (source / "train").rename(official / "train")
    ingest(official, tmp_path / "both")
    assert f"prepare: not read in {official}: train\n" in capsys.readouterr().err


def test_two_validation_folders_are_refused(source: Path) -> None:
    (source / "val").mkdir()
    with pytest.raises(UsageError, match=r"validation and .*/val; remove or rename"):
        find_source(str(source))


def test_a_class_without_training_images_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "train" / "empty").mkdir()
    with pytest.raises(DataError, match="train/empty holds no images"):
        ingest(source, tmp_path / "records")


SYSTEM_FILES = ("._0.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._0.jpg")


def test_files_of_operating_systems_are_ignored_alike_and_counted(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = ingest(source, tmp_path / "clean")
    assert "ignored" not in capsys.readouterr().err
    for folder in (source / "train", source / "train" / "cat", source / "validation" / "dog"):
        for name in SYSTEM_FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"\0")
    assert ingest(source, tmp_path / "records").digest == clean.digest
    assert "prepare: ignored 15 hidden files" in capsys.readouterr().err


def test_they_are_ignored_in_archives_of_every_level_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = write_official(tmp_path / "clean", boxes=False)
    expected = ingest(clean, tmp_path / "expected")
    capsys.readouterr()
    littered = write_official(tmp_path / "littered", boxes=False)
    litter = dict.fromkeys(SYSTEM_FILES, b"\0")
    for name in (archives.TRAIN_ARCHIVE, archives.VALIDATION_ARCHIVE):
        with tarfile.open(littered / name) as packed:
            members = {
                member.name: content.read()
                for member in packed.getmembers()
                if (content := packed.extractfile(member))
            }
        for member, packed_class in members.items():
            if member.endswith(".tar"):
                with tarfile.open(fileobj=io.BytesIO(packed_class)) as inner:
                    images = {m.name: inner.extractfile(m).read() for m in inner.getmembers()}  # type: ignore[union-attr]
                members[member] = tar({**litter, **images})
        (littered / name).write_bytes(tar({**litter, **members}))
    assert ingest(littered, tmp_path / "records").digest == expected.digest
    assert "prepare: ignored" in capsys.readouterr().err


def test_one_class_in_two_spellings_is_refused(source: Path) -> None:
    (source / "train" / "caf\u00e9").mkdir()
    (source / "validation" / "cafe\u0301").mkdir()
    with pytest.raises(DataError, match="in two ways of Unicode"):
        find_source(str(source))


def test_a_local_path_may_hold_two_colons(source: Path, tmp_path: Path) -> None:
    moved = source.rename(tmp_path / "a::b")
    manifest = ingest(moved, tmp_path / "c::d")
    assert Manifest.read(str(tmp_path / "c::d")) == manifest


@pytest.mark.parametrize("lost", ["train-00000-of-00001", "record_offsets.npz"])
@pytest.mark.parametrize("damage", ["removed", "cut", "replaced"])
def test_a_damaged_file_of_complete_records_is_written_again(
    lost: str, damage: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "records"
    ingest(source, records)
    before = content(records)
    if damage == "removed":
        (records / lost).unlink()
    elif damage == "cut":
        os.truncate(records / lost, 50)
    else:
        (records / lost).write_bytes(b"another file")
    capsys.readouterr()
    ingest(source, records)
    assert "writing them again" in capsys.readouterr().err
    assert content(records) == before
    ingest(source, records)
    assert "nothing to do" in capsys.readouterr().err


def test_overwrite_always_writes_again(source: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    ingest(source, records)
    before = content(records)
    shard = records / "train-00000-of-00001"
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)  # of the same size, which no listing shows
    (records / "dataset.json").write_text("{")
    ingest(source, records, overwrite=True)
    assert content(records) == before


def test_a_mended_image_is_read_again_after_too_many_rejects(source: Path, tmp_path: Path) -> None:
    image = source / "train" / "cat" / "0.jpg"
    sound = image.read_bytes()
    image.write_bytes(b"\0" * len(sound))
    records = tmp_path / "records"
    for _ in range(2):
        with pytest.raises(DataError, match="1 images were rejected"):
            ingest(source, records, max_rejects=0)
    image.write_bytes(sound)
    assert ingest(source, records, max_rejects=0).rejects == ()
    expected = ingest(source, tmp_path / "fresh")
    assert content(records) == content(tmp_path / "fresh")
    assert expected.num_examples("train") == 4
