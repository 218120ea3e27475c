"""Whatever is edited between two runs, the same command ends like a run into an empty folder.

The edits are drawn by a seed that each failure names.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.ingest_plan import ImageOptions
from preprocessing.records.schema import SPLITS
from preprocessing.shards import REPORTS
from tests.conftest import ingest
from tests.emulator import Emulator
from tests.preprocessing.content import content
from tests.preprocessing.layouts import tar, write_folders, write_kaggle, write_official

SHARDS = {"train": 3, "validation": 2}
Edit = Callable[[Path, Path, random.Random], None]
NUM_EDITS = {"folders": 80, "kaggle": 40, "official": 80}


def outcome(source: Path, records: Path) -> dict[str, str] | str:
    """Return what `prepare` leaves: the content of the records, or its error."""
    try:
        ingest(source, records, num_shards=SHARDS)
    except DataError as error:
        return str(error).replace(str(records), "RECORDS")
    return content(records)


def is_image(path: Path) -> bool:
    return path.suffix == ".JPEG"


# Edits of images that are files.


def files(source: Path, chance: random.Random, count: int = 1) -> list[Path]:
    images = sorted(filter(is_image, source.rglob("*.JPEG")))
    return chance.sample(images, count)


def swap_by_renaming(source: Path, records: Path, chance: random.Random) -> None:
    one, other = files(source, chance, 2)
    one.rename(source.parent / "aside")
    other.rename(one)
    (source.parent / "aside").rename(other)


def swap_bytes_and_keep_the_times(source: Path, records: Path, chance: random.Random) -> None:
    pair = files(source, chance, 2)
    contents = [path.read_bytes() for path in pair]
    times = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in pair]
    for path, other, kept in zip(pair, reversed(contents), times, strict=True):
        path.write_bytes(other)
        os.utime(path, ns=kept)


def replace_by_equal_size(source: Path, records: Path, chance: random.Random) -> None:
    (path,) = files(source, chance)
    replaced = bytearray(path.read_bytes())
    replaced[-40] ^= 255  # in the data of the scan
    kept = path.stat()
    path.write_bytes(replaced)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def touch(source: Path, records: Path, chance: random.Random) -> None:
    for path in files(source, chance, 3):
        path.touch()


def truncate(source: Path, records: Path, chance: random.Random) -> None:
    (path,) = files(source, chance)
    os.truncate(path, path.stat().st_size * 2 // 3)


def copy_elsewhere_and_back(source: Path, records: Path, chance: random.Random) -> None:
    shutil.copytree(source, source.parent / "copy")
    shutil.rmtree(source)
    (source.parent / "copy").rename(source)


# Edits of images in archives.


def rewritten(archive: Path, edit: Callable[[dict[str, bytes]], dict[str, bytes]]) -> bytes:
    with tarfile.open(archive) as packed:
        return tar(edit(unpacked(packed)))


def unpacked(packed: tarfile.TarFile) -> dict[str, bytes]:
    members = ((member.name, packed.extractfile(member)) for member in packed.getmembers())
    return {name: stream.read() for name, stream in members if stream}


def swap_in_archive(source: Path, records: Path, chance: random.Random) -> None:
    archive = source / "ILSVRC2012_img_val.tar"

    def edit(members: dict[str, bytes]) -> dict[str, bytes]:
        one, other = chance.sample(sorted(members), 2)
        return {**members, one: members[other], other: members[one]}

    archive.write_bytes(rewritten(archive, edit))


def swap_between_inner_archives(source: Path, records: Path, chance: random.Random) -> None:
    archive = source / "ILSVRC2012_img_train.tar"

    def edit(members: dict[str, bytes]) -> dict[str, bytes]:
        opened = {}
        for name, inner in members.items():
            with tarfile.open(fileobj=io.BytesIO(inner)) as packed:
                opened[name] = unpacked(packed)
        (one, first), (other, second) = (
            (name, chance.choice(sorted(opened[name]))) for name in chance.sample(sorted(opened), 2)
        )
        swapped = opened[one][first], opened[other][second]
        opened[other][second], opened[one][first] = swapped
        return {name: tar(images) for name, images in opened.items()}

    archive.write_bytes(rewritten(archive, edit))


def damage_archive_at_equal_size(source: Path, records: Path, chance: random.Random) -> None:
    archive = source / chance.choice(["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
    damaged = bytearray(archive.read_bytes())
    place = chance.randrange(len(damaged))
    damaged[place : place + 400] = bytes(min(400, len(damaged) - place))
    archive.write_bytes(damaged)


def reorder_archive(source: Path, records: Path, chance: random.Random) -> None:
    archive = source / "ILSVRC2012_img_val.tar"
    archive.write_bytes(rewritten(archive, lambda members: dict(reversed(members.items()))))


def touch_archive(source: Path, records: Path, chance: random.Random) -> None:
    (source / "ILSVRC2012_img_train.tar").touch()


def truncate_archive(source: Path, records: Path, chance: random.Random) -> None:
    archive = source / chance.choice(["ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"])
    os.truncate(archive, chance.randrange(archive.stat().st_size))


def restore_archives(source: Path, records: Path, chance: random.Random) -> None:
    shutil.rmtree(source)
    write_official(source)


# Edits of the records, of any source.


def a_shard(records: Path, chance: random.Random) -> Path | None:
    shards = sorted(path for split in SPLITS for path in records.glob(f"{split}-*"))
    return chance.choice(shards) if shards else None


def delete_shard(source: Path, records: Path, chance: random.Random) -> None:
    if shard := a_shard(records, chance):
        shard.unlink()


def cut_shard(source: Path, records: Path, chance: random.Random) -> None:
    if shard := a_shard(records, chance):
        os.truncate(shard, shard.stat().st_size // 2)


def add_shard(source: Path, records: Path, chance: random.Random) -> None:
    (records / "train-00000-of-00001").write_bytes(b"left over")


def delete_offsets(source: Path, records: Path, chance: random.Random) -> None:
    (records / "record_offsets.npz").unlink(missing_ok=True)


def replace_offsets(source: Path, records: Path, chance: random.Random) -> None:
    (records / "record_offsets.npz").write_bytes(b"another file")


def delete_manifest(source: Path, records: Path, chance: random.Random) -> None:
    (records / "dataset.json").unlink(missing_ok=True)


def delete_reports(source: Path, records: Path, chance: random.Random) -> None:
    for path in (records / REPORTS).glob("*-of-*.json"):
        if chance.random() < 0.5:
            path.unlink()


def damage_plan(source: Path, records: Path, chance: random.Random) -> None:
    (records / "dataset.json").unlink(missing_ok=True)
    plan = records / REPORTS / "plan.json"
    if chance.random() < 0.3:
        plan.unlink(missing_ok=True)
    else:
        plan.write_text(chance.choice(["", "[]", "{}", '{"fingerprint": 1}']))


def damage_reports(source: Path, records: Path, chance: random.Random) -> None:
    for path in (records / REPORTS).glob("*-of-*.json"):
        path.write_text(chance.choice(["", "{", "[]", "{}", path.read_text()[:-40]]))


OF_FILES = (
    *(swap_by_renaming, swap_bytes_and_keep_the_times, replace_by_equal_size),
    *(touch, truncate, copy_elsewhere_and_back),
)
OF_ARCHIVES = (
    *(swap_in_archive, swap_between_inner_archives, reorder_archive, touch_archive),
    *(damage_archive_at_equal_size, truncate_archive),
)
OF_RECORDS = (
    *(delete_shard, cut_shard, add_shard, delete_offsets, replace_offsets),
    *(delete_manifest, delete_reports, damage_reports, damage_plan),
)


WRITE: dict[str, Callable[[Path], Path]] = {
    "folders": write_folders,
    "kaggle": write_kaggle,
    "official": write_official,
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", NUM_EDITS)
def test_after_any_edit_the_same_command_ends_like_a_fresh_one(layout: str, tmp_path: Path) -> None:
    source, records, fresh = (tmp_path / name for name in ("source", "records", "fresh"))
    WRITE[layout](source)
    edits: list[Edit] = [*(OF_ARCHIVES if layout == "official" else OF_FILES), *OF_RECORDS]
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    changes = 0
    before = outcome(source, records)
    for number in range(NUM_EDITS[layout]):
        edit: Edit = chance.choice(edits)
        try:
            edit(source, records, chance)
        except tarfile.TarError:  # an earlier edit has left no archive that can be edited
            restore_archives(source, records, chance)
        shutil.rmtree(fresh, ignore_errors=True)
        expected = outcome(source, fresh)
        named = f"edit {number} of seed {seed} is {edit.__name__}"
        assert outcome(source, records) == expected, named
        changes += expected != before
        if isinstance(expected, str) and layout == "official":
            restore_archives(source, records, chance)
            expected = outcome(source, records)
        before = expected
    assert changes > NUM_EDITS[layout] // 10


def test_files_that_were_only_touched_are_read_once_and_written_never(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, records = write_folders(tmp_path / "source"), tmp_path / "records"
    ingest(source, records)
    before = {path: path.stat().st_mtime_ns for path in records.iterdir() if path.is_file()}
    copy_elsewhere_and_back(source, records, random.Random(0))
    for _ in range(2):
        capsys.readouterr()
        ingest(source, records)
        assert "the source is unchanged; nothing to do" in capsys.readouterr().err
    after = {path: path.stat().st_mtime_ns for path in records.iterdir() if path.is_file()}
    assert after == before


def test_only_the_shards_of_changed_images_are_written(tmp_path: Path) -> None:
    source, records = write_folders(tmp_path / "source"), tmp_path / "records"
    ingest(source, records, num_shards=SHARDS)
    before = {path.name: path.stat().st_ino for path in records.glob("*-of-*")}
    replace_by_equal_size(source / "validation", records, random.Random(0))
    ingest(source, records, num_shards=SHARDS)
    after = {path.name: path.stat().st_ino for path in records.glob("*-of-*")}
    assert sum(after[name] != inode for name, inode in before.items()) == 1


def test_other_images_are_refused_until_overwrite(tmp_path: Path) -> None:
    source, records = write_folders(tmp_path / "source"), tmp_path / "records"
    ingest(source, records)
    before = content(records)
    image = next(source.rglob("*.JPEG"))
    shutil.copy(image, image.with_name("n01440764_9.JPEG"))
    with pytest.raises(UsageError, match=r"holds records of other images.*; .* --overwrite"):
        ingest(source, records)
    assert content(records) == before
    ingest(source, records, overwrite=True)
    ingest(source, tmp_path / "fresh")
    assert content(records) == content(tmp_path / "fresh")


def test_reports_of_other_options_are_not_trusted_without_their_plan(tmp_path: Path) -> None:
    source, records = write_folders(tmp_path / "source"), tmp_path / "records"
    ingest(source, records, num_shards=SHARDS)
    (records / "dataset.json").unlink()
    (records / REPORTS / "plan.json").unlink()
    small = ImageOptions(short_side=16)
    ingest(source, records, num_shards=SHARDS, image=small)
    ingest(source, tmp_path / "fresh", num_shards=SHARDS, image=small)
    assert content(records) == content(tmp_path / "fresh")


def test_other_descriptions_of_classes_are_refused_by_name(tmp_path: Path) -> None:
    source, records = write_folders(tmp_path / "source"), tmp_path / "records"
    ingest(source, records)
    words = source / "imagenet_metadata.txt"
    words.write_text(words.read_text().replace("tench", "carp"))
    with pytest.raises(UsageError, match=r"of other classes or descriptions of them; "):
        ingest(source, records)


@pytest.mark.slow
def test_objects_of_a_bucket_are_known_by_their_generation(
    emulator: Emulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = write_folders(tmp_path / "source")
    source, records = f"{emulator.bucket}/source", f"{emulator.bucket}/records"
    names = [str(path.relative_to(local)) for path in local.rglob("*.*") if path.is_file()]

    def upload(name: str) -> None:
        storage.write_bytes(f"{source}/{name}", (local / name).read_bytes())

    for name in names:
        upload(name)
    ingest(source, records)
    for name in names[:4]:
        upload(name)  # the same bytes as another generation
    capsys.readouterr()
    ingest(source, records)
    assert "the source is unchanged; nothing to do" in capsys.readouterr().err
    one, other = (str(path.relative_to(local)) for path in files(local, random.Random(1), 2))
    storage.write_bytes(f"{source}/{one}", (local / other).read_bytes())
    storage.write_bytes(f"{source}/{other}", (local / one).read_bytes())
    assert ingest(source, records).digest == ingest(source, tmp_path / "fresh").digest
    assert "whose images have changed" in capsys.readouterr().err
