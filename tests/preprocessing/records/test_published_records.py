"""Records are what slim's `build_imagenet_data.py` writes for the same images, field by field.

The expected records are made here with TensorFlow, as slim made them, from the images and the
description of its schema, without any code of the project.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from preprocessing.images.repair import RejectedImageError, repair
from preprocessing.records.schema import Manifest
from tests.conftest import ingest
from tests.preprocessing.layouts import (
    BOXES,
    CLASSES,
    LABELS,
    TRAIN,
    VALIDATION_IMAGES,
    encode,
    synset_of,
    write_folders,
    write_kaggle,
    write_official,
)

REPAIRED = ("n01440764_2933.JPEG", "n01443537_18.JPEG")  # the PNG, the CMYK
SCALAR_BYTES = tf.io.FixedLenFeature([], tf.string)
SCALAR_INTEGER = tf.io.FixedLenFeature([], tf.int64)
WRITTEN = {
    "image/height": SCALAR_INTEGER,
    "image/width": SCALAR_INTEGER,
    "image/colorspace": SCALAR_BYTES,
    "image/channels": SCALAR_INTEGER,
    "image/class/label": SCALAR_INTEGER,
    "image/class/synset": SCALAR_BYTES,
    "image/class/text": SCALAR_BYTES,
    **{
        f"image/object/bbox/{name}": tf.io.VarLenFeature(tf.float32)
        for name in ("xmin", "xmax", "ymin", "ymax")
    },
    "image/object/bbox/label": tf.io.VarLenFeature(tf.int64),
    "image/format": SCALAR_BYTES,
    "image/filename": SCALAR_BYTES,
    "image/encoded": SCALAR_BYTES,
}
# slim's datasets/imagenet.py, keys_to_features
READ = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string, default_value=""),
    "image/format": tf.io.FixedLenFeature([], tf.string, default_value="jpeg"),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64, default_value=-1),
    "image/class/text": tf.io.FixedLenFeature([], tf.string, default_value=""),
    **{name: spec for name, spec in WRITTEN.items() if "bbox/x" in name or "bbox/y" in name},
    "image/object/class/label": tf.io.VarLenFeature(tf.int64),
}


def as_slim_writes(name: str, image: bytes, *, with_boxes: bool) -> bytes:
    """Return the serialized `Example` of one image."""
    if name in REPAIRED:
        decode = tf.io.decode_png if image.startswith(b"\x89PNG") else tf.io.decode_jpeg
        channels = 3 if image.startswith(b"\x89PNG") else 0
        pixels = decode(image, channels=channels)
        image = tf.io.encode_jpeg(pixels, format="rgb", quality=100).numpy()
    height, width, _ = tf.io.decode_jpeg(image, channels=3).shape
    synset = synset_of(name)
    boxes = BOXES.get(name, ()) if with_boxes else ()

    def integers(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def strings(*values: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    def corner(index: int) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=[box[index] for box in boxes]))

    features = {
        "image/height": integers(height),
        "image/width": integers(width),
        "image/colorspace": strings(b"RGB"),
        "image/channels": integers(3),
        "image/class/label": integers(LABELS[synset]),
        "image/class/synset": strings(synset.encode()),
        "image/class/text": strings(CLASSES[synset][0].encode()),
        "image/object/bbox/xmin": corner(0),
        "image/object/bbox/ymin": corner(1),
        "image/object/bbox/xmax": corner(2),
        "image/object/bbox/ymax": corner(3),
        "image/object/bbox/label": integers(*[LABELS[synset]] * len(boxes)),
        "image/format": strings(b"JPEG"),
        "image/filename": strings(name.encode()),
        "image/encoded": strings(image),
    }
    return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


def parsed(record: bytes, spec: dict[str, Any]) -> dict[str, Any]:
    values = tf.io.parse_single_example(record, spec)
    return {
        name: (tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value).numpy()
        for name, value in values.items()
    }


def assert_same(ours: dict[str, Any], expected: dict[str, Any], name: str) -> None:
    assert ours.keys() == expected.keys()
    for field, value in expected.items():
        np.testing.assert_array_equal(ours[field], value, err_msg=f"{field} of {name}")


@pytest.mark.parametrize("write", [write_official, write_kaggle, write_folders])
def test_records_are_those_that_slim_writes(write: Callable[[Path], Path], tmp_path: Path) -> None:
    manifest = ingest(write(tmp_path / "source"), tmp_path / "records")
    assert manifest.repaired == {"CMYK JPEG": 1, "PNG": 1}
    assert not manifest.rejects
    with_boxes = write is not write_folders
    for split, images in (("train", TRAIN), ("validation", VALIDATION_IMAGES)):
        files = [str(tmp_path / "records" / shard.file) for shard in manifest.shards[split]]
        records = {}
        for record in tf.data.TFRecordDataset(files).as_numpy_iterator():
            records[parsed(record, WRITTEN)["image/filename"].decode()] = record
        assert records.keys() == images.keys()
        for name, image in images.items():
            expected = as_slim_writes(name, image, with_boxes=with_boxes)
            assert set(tf.train.Example.FromString(records[name]).features.feature) == set(WRITTEN)
            for spec in (WRITTEN, READ):
                assert_same(parsed(records[name], spec), parsed(expected, spec), name)


def test_the_layout_does_not_change_a_byte(tmp_path: Path) -> None:
    digests: list[Manifest] = [
        ingest(write(tmp_path / str(number)), tmp_path / f"records{number}")
        for number, write in enumerate(
            (write_official, lambda folder: write_official(folder, kit=False), write_kaggle)
        )
    ]
    assert len({digest.digest for digest in digests}) == 1


@pytest.mark.parametrize("adobe", [True, False])
@pytest.mark.parametrize("quality", [50, 95])
def test_a_repaired_cmyk_jpeg_is_slims_byte_for_byte(adobe: bool, quality: int) -> None:
    inks = np.random.default_rng(quality).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    picture = Image.fromarray(inks, mode="CMYK").resize((301, 203), Image.Resampling.BICUBIC)
    content = encode(picture, quality=quality)
    if not adobe:
        start = content.index(b"\xff\xee")
        content = content[:start] + content[start + 16 :]
    pixels = tf.io.decode_jpeg(content, channels=0)
    assert repair(content).jpeg == tf.io.encode_jpeg(pixels, format="rgb", quality=100).numpy()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_a_repaired_png_is_slims_byte_for_byte(mode: str) -> None:
    levels = np.random.default_rng(8).integers(0, 256, (40, 30, 4)).astype(np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(levels[..., 0].astype(np.uint16) * 256 + levels[..., 1])
    else:
        picture = Image.fromarray(levels).convert(mode)
    content = encode(picture, "PNG")
    pixels = tf.io.decode_png(content, channels=3)
    assert repair(content).jpeg == tf.io.encode_jpeg(pixels, format="rgb", quality=100).numpy()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_is_cut_is_rejected_where_tensorflow_refuses_it(mode: str, progressive: bool) -> None:
    """Every image was decoded by slim, so every image of the real ImageNet passes."""
    levels = np.random.default_rng(2).integers(0, 256, (120, 90, 3)).astype(np.uint8)
    whole = encode(Image.fromarray(levels).convert(mode), progressive=progressive)
    cut = [whole[: len(whole) - size] for size in (0, 1, 2, 3, 8, 200, len(whole) // 2)]
    for content in (*cut, whole + bytes(9), whole + b"appended by a camera"):
        try:
            tf.io.decode_jpeg(content, channels=3)
            decodes = True
        except tf.errors.InvalidArgumentError:
            decodes = False
        try:
            kept = repair(content).jpeg == content
        except RejectedImageError:
            kept = False
        assert kept == decodes
