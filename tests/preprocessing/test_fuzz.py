"""Ten thousand damaged inputs are each used, refused in one clear line, or listed as a reject.

No input causes another exception, a hang, or a file outside the records folder. The inputs are
seeded: the number in a failure's message makes the same input again.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.inspection import inspection
from pipeline.inspection.contact_sheet import Picture
from preprocessing.errors import PermanentError
from preprocessing.images.reader import read_images
from preprocessing.images.repair import repair, shrink
from preprocessing.ingest_plan import ImageOptions
from preprocessing.records import tfrecord
from preprocessing.records.records_folder import key_of, read_at
from preprocessing.records.schema import SPLITS, Manifest, read_record_offsets
from preprocessing.sources import archives
from preprocessing.sources.boxes import ArchivedBoxes, boxes_of
from preprocessing.sources.devkit import read_devkit
from preprocessing.sources.registry import find_source
from preprocessing.sources.tar import members
from tests import fuzzing
from tests.conftest import ingest
from tests.fuzzing import mutate, mutate_json
from tests.preprocessing import layouts
from tests.preprocessing.layouts import ANNOTATIONS, encode, tar

COUNTS = {
    "images": 4000,
    "tars": 1500,
    "sources": 600,
    "packings": 500,
    "xml": 1500,
    "csv": 500,
    "kits": 400,
    "boxes": 200,
    "manifests": 800,
    "records": 470,
    "ingests": 30,
}


def test_there_are_ten_thousand() -> None:
    assert sum(COUNTS.values()) == 10_500


def survive(kind: str, attempt: Callable[[random.Random], object]) -> dict[str, int]:
    """Run every input of one kind, and report how the inputs ended."""
    return fuzzing.survive(kind, COUNTS[kind], attempt)


def originals() -> list[bytes]:
    noise = np.random.default_rng(1).integers(0, 256, (24, 31, 3)).astype(np.uint8)
    picture = Image.fromarray(noise)
    return [
        encode(picture),
        encode(picture, progressive=True),
        encode(picture.convert("L"), quality=50),
        encode(picture.convert("CMYK")),
        encode(picture, exif=b"Exif\0\0" + encode(picture.resize((4, 4)))),
        encode(picture, "PNG"),
        encode(picture.convert("P"), "PNG", transparency=3),
        encode(picture, "GIF"),
        encode(picture, "BMP"),
        encode(picture, "WEBP"),
        encode(picture, "WEBP", lossless=True),
        encode(picture, "TIFF"),
    ]


def test_images() -> None:
    sound = originals()

    def attempt(chance: random.Random) -> None:
        content = mutate(chance.choice(sound), chance)
        image = repair(content, decode_check=chance.random() < 0.5)
        assert 0 < image.height * image.width <= 100_000_000
        if chance.random() < 0.5 and image.height * image.width < 1_000_000:
            smaller = shrink(image, 8, 80)
            assert Image.open(io.BytesIO(smaller.jpeg)).size == (smaller.width, smaller.height)

    survive("images", attempt)


def odd_tar(chance: random.Random) -> bytes:
    """Return a tar whose headers are correct but describe odd things."""
    packed = io.BytesIO()
    kinds = (tarfile.REGTYPE,) * 12 + (
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
        tarfile.DIRTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"Z",
    )
    names = ("n01440764_1.JPEG",) * 8 + (
        "../../escaped",
        "/tmp/escaped",
        "a/../../b",
        "x" * 150,
        "é\udce9",
        ".",
        "a\nb",
        "",
        "dir/",
    )
    formats: tuple[Any, ...] = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    for _ in range(chance.randrange(4)):
        member = tarfile.TarInfo(chance.choice(names))
        member.type = chance.choice(kinds)
        member.linkname = chance.choice(names)
        member.size = chance.choice((0, 1, 511, 512, 700))
        header_size = chance.choice((member.size,) * 9 + (1 << 40, 10**6, 3))
        content = chance.randbytes(member.size)
        claimed = tarfile.TarInfo.create_gnu_header
        member.size = header_size
        format_ = chance.choice(formats)
        try:
            header = member.tobuf(format_, errors="surrogateescape")
        except (ValueError, UnicodeError):  # this format cannot say it
            header = claimed(member, member.get_info(), "utf-8", "surrogateescape")
        packed.write(header + content + bytes(-len(content) % 512))
    return packed.getvalue() + bytes(1024)


def test_tars() -> None:
    def attempt(chance: random.Random) -> None:
        content = odd_tar(chance)
        if chance.random() < 0.4:
            content = mutate(content, chance)
        end = len(content) if chance.random() < 0.8 else None
        for member in members(io.BytesIO(content), "x.tar", end=end):
            assert ".." not in member.name.split("/")
            assert not member.name.startswith("/")
            assert end is None or 0 <= member.offset <= member.offset + member.size <= end

    survive("tars", attempt)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layouts.write_official(tmp_path_factory.mktemp("fuzz") / "source")


def listed(folder: Path) -> None:
    source = find_source(str(folder))
    for split in SPLITS:
        for reference in source.images(split):
            assert 1 <= reference.label <= len(source.classes)
            assert len(reference.key.split("/")) == 3
            assert ".." not in reference.key.split("/")
            for box in reference.boxes:
                assert 0 <= box[0] <= box[2] <= 1


def test_sources(official: Path) -> None:
    """One file of a whole source is damaged."""
    sound = {path.name: path.read_bytes() for path in sorted(official.iterdir())}

    def attempt(chance: random.Random) -> None:
        name = chance.choice(list(sound))
        path = official / name
        content = sound[name]
        if chance.random() < 0.5 and name.endswith("gz"):
            content = gzip.compress(mutate(gzip.decompress(content), chance), 1)
        else:
            content = mutate(content, chance)
        path.write_bytes(content)
        try:
            listed(official)
        finally:
            path.write_bytes(sound[name])

    survive("sources", attempt)


def odd_packing(images: dict[str, bytes], chance: random.Random) -> bytes:
    """Return the tar of all images in one, two or three parts, joined and padded by zeros."""
    names = list(images)
    cuts = sorted(chance.choices(range(len(names) + 1), k=chance.randrange(3)))
    packed = b""
    for start, stop in zip([0, *cuts], [*cuts, len(names)], strict=True):
        packed += tar({name: images[name] for name in names[start:stop]})
        packed += bytes(512 * chance.choice((0, 0, 1, 20, 300)))
    return packed + bytes(chance.choice((0, 0, 1, 511, 4096)))


def held_by(folder: Path) -> list[tuple[object, ...]]:
    """Return key, label, boxes and bytes of every image of a source."""
    source = find_source(str(folder))
    return sorted(
        (reference.key, reference.label, reference.boxes, content)
        for split in SPLITS
        for reference, content in read_images(source.images(split))
        if isinstance(content, bytes)
    )


def test_packings(tmp_path: Path) -> None:
    """Tars joined and padded at every level hold the same images; a cut one is refused."""
    folder = layouts.write_official(tmp_path / "source")
    expected = held_by(folder)
    annotations = layouts.train_annotations()
    kit = layouts.devkit_files()

    def by_class(files: dict[str, bytes], chance: random.Random) -> dict[str, bytes]:
        return {
            synset: odd_packing({n: c for n, c in files.items() if synset in n}, chance)
            for synset in layouts.CLASSES
        }

    def attempt(chance: random.Random) -> None:
        train = {
            f"{synset}.tar": inner for synset, inner in by_class(layouts.TRAIN, chance).items()
        }
        nested = {
            f"{synset}.tar.gz": gzip.compress(inner, 1)
            for synset, inner in by_class(annotations, chance).items()
        }
        level = chance.choice(("none", "none", "none", "inner", *PACKED))
        if level == "inner":
            synset = chance.choice(sorted(train))
            train[synset] = train[synset].rstrip(b"\0")[: -chance.randrange(1, 2000)]
        files = dict(zip(PACKED, (train, layouts.VALIDATION_IMAGES, kit, nested), strict=True))
        for name, members_of in files.items():
            packed = odd_packing(members_of, chance)
            if name.endswith("gz"):
                packed = gzip.compress(packed, 1)
            if level == name:
                packed = packed[: chance.randrange(len(packed.rstrip(b"\0")))]
            (folder / name).write_bytes(packed)
        try:
            held = held_by(folder)
        except PermanentError:
            assert level != "none"
            raise
        assert held == expected
        assert level == "none"

    survive("packings", attempt)


PACKED = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_devkit_t12.tar.gz",
    "ILSVRC2012_bbox_train_v2.tar.gz",
)


def test_xml() -> None:
    sound = [annotation.xml(stem.split("_")[0], stem) for stem, annotation in ANNOTATIONS.items()]

    def attempt(chance: random.Random) -> None:
        for xmin, ymin, xmax, ymax in boxes_of(
            mutate(chance.choice(sound), chance), "n01440764", layouts.CLASSES, "x.xml"
        ):
            assert 0 <= xmin <= xmax <= 1
            assert 0 <= ymin <= ymax <= 1

    survive("xml", attempt)


def test_csv(tmp_path: Path) -> None:
    folder = layouts.write_kaggle(tmp_path / "kaggle")
    names = ("LOC_val_solution.csv", "LOC_val_solution.csv", "LOC_synset_mapping.txt")
    sound = {name: (folder / name).read_bytes() for name in names}

    def attempt(chance: random.Random) -> None:
        name = chance.choice(names)
        (folder / name).write_bytes(mutate(sound[name], chance))
        try:
            listed(folder)
        finally:
            (folder / name).write_bytes(sound[name])

    survive("csv", attempt)


def test_kits(tmp_path: Path) -> None:
    path = tmp_path / "kit.tar.gz"
    meta = layouts.meta_mat()
    truth = b"1\n2\n3\n"

    def attempt(chance: random.Random) -> None:
        files = {"k/data/meta.mat": meta, "k/data/ILSVRC2012_validation_ground_truth.txt": truth}
        name = chance.choice(list(files))
        files[name] = mutate(files[name], chance)
        path.write_bytes(gzip.compress(tar(files), 1))
        assert set(read_devkit(str(path)).validation) <= set(layouts.CLASSES)

    survive("kits", attempt)


def test_boxes(tmp_path: Path) -> None:
    path = tmp_path / "boxes.tar.gz"
    sound = [layouts.train_boxes(nested=nested) for nested in (False, True)]

    def attempt(chance: random.Random) -> None:
        content = chance.choice(sound)
        if chance.random() < 0.7:
            content = gzip.compress(mutate(gzip.decompress(content), chance), 1)
        else:
            content = mutate(content, chance)
        path.write_bytes(content)
        ArchivedBoxes(str(path), layouts.CLASSES, lambda name: name.split("/")[0]).of("a.JPEG")

    survive("boxes", attempt)


def test_manifests(records: Path, tmp_path: Path) -> None:
    text = (records / "dataset.json").read_text()
    sound = json.loads(text)

    def attempt(chance: random.Random) -> None:
        if chance.random() < 0.3:
            content = mutate(text.encode(), chance)
        else:
            content = json.dumps(mutate_json(sound, chance)).encode()
        (tmp_path / "dataset.json").write_bytes(content)
        manifest = Manifest.read(str(tmp_path))
        for split in SPLITS:
            assert all(Path(shard.file).name == shard.file for shard in manifest.shards[split])
        inspection.summary(manifest)
        inspection.table(manifest)

    survive("manifests", attempt)


def test_records(records: Path) -> None:
    """One shard is damaged, or its manifest names a wrong place."""
    name = "validation-00000-of-00002"
    _, offsets = read_record_offsets(str(records), Manifest.read(str(records)), "validation")
    starts = [int(offset) for offset in offsets[:12]]
    sound = (records / name).read_bytes()[: starts[-1]]

    def attempt(chance: random.Random) -> None:
        content = mutate(sound, chance)
        if chance.random() < 0.3:  # damaged before it was framed
            payload = next(tfrecord.read_records(io.BytesIO(sound), name))
            content = tfrecord.frame(mutate(payload, chance))
        elif chance.random() < 0.3:  # a claim of more than there is, under a right checksum
            claim = struct.pack("<Q", chance.choice((0, 5, 1 << 31, 1 << 62)))
            content = claim + tfrecord.frame(claim)[8:12] + content[12:]
        if chance.random() < 0.5:
            place = chance.choice((*starts, chance.randrange(len(content) + 1)))
            features = read_at(io.BytesIO(content), place, name)
            key_of("validation", features)
            Picture(features).tile()
            return
        for payload in tfrecord.read_records(io.BytesIO(content), name):
            tfrecord.parse(payload)

    survive("records", attempt)


def test_ingests(tmp_path: Path) -> None:
    """Whole ingests of odd archives write into the records folder and nowhere else."""
    source = layouts.write_official(tmp_path / "source", boxes=False)
    train = source / archives.TRAIN_ARCHIVE
    sound = {
        synset: {name: image for name, image in layouts.TRAIN.items() if name.startswith(synset)}
        for synset in layouts.CLASSES
    }

    def files() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if not path.is_relative_to(records)}

    def attempt(chance: random.Random) -> None:
        images = {synset: dict(of_synset) for synset, of_synset in sound.items()}
        victim = chance.choice(list(images["n01440764"]))
        images["n01440764"][victim] = mutate(images["n01440764"][victim], chance)
        inner = {f"{synset}.tar": tar(of_synset) for synset, of_synset in images.items()}
        if chance.random() < 0.5:
            inner["n02092002.tar"] = odd_tar(chance)
        train.write_bytes(tar(inner))
        image = ImageOptions(decode_check=True, short_side=chance.choice((0, 16)))
        before = files()
        try:
            manifest = ingest(source, records, image=image, overwrite=True)
        finally:
            assert files() == before
        total = manifest.num_examples("train") + len(manifest.rejects)
        assert total == sum(1 for _ in find_source(str(source)).images("train"))

    records = tmp_path / "records"
    survive("ingests", attempt)
