"""Records are what TensorFlow writes and reads, byte for byte."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tensorflow as tf

from preprocessing.errors import DataError
from preprocessing.records import schema, tfrecord

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


def random_features(random: Random) -> dict[str, Any]:
    """Return any number of features of any type; no name begins another."""
    features: dict[str, Any] = {}
    for number in range(random.randrange(1, 20)):
        name = f"{number:02}" + "".join(random.choices("abé/", k=random.randrange(150)))
        count = random.randrange(5)
        features[name] = random.choice(
            (
                [random.randbytes(random.randrange(300)) for _ in range(count)],
                [random.uniform(-1, 1) for _ in range(count)],
                [random.randrange(-(2**63), 2**63) >> random.randrange(64) for _ in range(count)],
                [random.choice((0, 1)) for _ in range(count)],
            )
        )
    return features


def test_the_bytes_are_those_of_protobufs_deterministic_serialization() -> None:
    random = Random(0)
    for _ in range(500):
        features = random_features(random)
        example = tf.train.Example()
        for name, values in features.items():
            feature = example.features.feature[name]
            if not values:
                feature.SetInParent()
            elif isinstance(values[0], bytes):
                feature.bytes_list.value.extend(values)
            elif isinstance(values[0], float):
                feature.float_list.value.extend(values)
            else:
                feature.int64_list.value.extend(values)
        serialized = tfrecord.serialize(features)
        assert serialized == example.SerializeToString(deterministic=True)
        assert tfrecord.record(features) == tfrecord.frame(serialized)


def test_no_name_of_the_schema_begins_another() -> None:
    names = [value for value in vars(schema).values() if str(value).startswith("image/")]
    assert len(names) == 15
    assert not [(a, b) for a in names for b in names if a != b and b.startswith(a)]


def test_values_that_are_equal_but_of_another_type_are_told_apart() -> None:
    assert tfrecord.serialize({"a": [1]}) != tfrecord.serialize({"a": [1.0]})
    assert tfrecord.parse(tfrecord.serialize({"a": [1.0]})) == {"a": [1.0]}
    assert tfrecord.parse(tfrecord.serialize({"a": [0.0]})) == {"a": [0.0]}


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
