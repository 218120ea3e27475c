"""Records are what TensorFlow writes and reads, byte for byte."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from preprocessing import tfrecord
from preprocessing.errors import DataError

FEATURES: dict[str, Any] = {
    "bytes": [b"a", b"", b"\xff\x00"],
    "floats": [0.5, -1.0],
    "ints": [1, -(2**62)],
    "empty": [],
}


def test_parse_is_the_inverse_of_serialize() -> None:
    assert tfrecord.parse(tfrecord.serialize(FEATURES)) == FEATURES


def test_serialization_does_not_depend_on_the_order_of_features() -> None:
    assert tfrecord.serialize(FEATURES) == tfrecord.serialize(dict(reversed(FEATURES.items())))


def test_tensorflow_reads_the_same_example() -> None:
    example = tf.train.Example.FromString(tfrecord.serialize(FEATURES))
    assert list(example.features.feature["bytes"].bytes_list.value) == FEATURES["bytes"]
    assert list(example.features.feature["floats"].float_list.value) == FEATURES["floats"]
    assert list(example.features.feature["ints"].int64_list.value) == FEATURES["ints"]
    assert example.features.feature["empty"].WhichOneof("kind") is None


def test_framing_is_tensorflows(tmp_path: Path) -> None:
    payloads = [b"", b"one", b"two" * 1000]
    path = tmp_path / "theirs"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    assert b"".join(map(tfrecord.frame, payloads)) == path.read_bytes()
    with open(path, "rb") as stream:
        assert list(tfrecord.read_records(stream, "theirs")) == payloads


@pytest.mark.parametrize("damage", ["payload", "length", "end"])
def test_a_damaged_record_is_named(damage: str) -> None:
    content = bytearray(tfrecord.frame(b"first") + tfrecord.frame(b"second"))
    second = len(tfrecord.frame(b"first"))
    if damage == "payload":
        content[second + tfrecord.HEADER_BYTES] ^= 1
    elif damage == "length":
        content[second] ^= 1
    else:
        del content[-3:]
    with pytest.raises(DataError, match="record 1 of shard"):
        list(tfrecord.read_records(io.BytesIO(bytes(content)), "shard"))
