"""`tf.train.Example` and TFRecord framing without TensorFlow, so that ingest workers stay small.

The message is declared here as TensorFlow declares it (`tensorflow/core/example/
example.proto`, `feature.proto`), in a descriptor pool of its own so that both can
live in one process.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from preprocessing.errors import DataError

HEADER_BYTES = 12  # uint64 length, uint32 masked CRC of the length
FOOTER_BYTES = 4  # uint32 masked CRC of the payload

_Field = descriptor_pb2.FieldDescriptorProto


def _example_class() -> Any:
    """Build the `Example` message class: map<string, oneof bytes, float, int64 list>."""
    file = descriptor_pb2.FileDescriptorProto(
        name="preprocessing/example.proto", package="preprocessing", syntax="proto3"
    )

    def field(
        message: Any, name: str, number: int, kind: Any, *, of: str = "", **more: Any
    ) -> None:
        message.field.add(
            name=name,
            number=number,
            type=kind,
            label=more.pop("label", _Field.LABEL_OPTIONAL),
            type_name=f".preprocessing.{of}" if of else None,
            **more,
        )

    lists = (
        ("BytesList", "bytes_list", _Field.TYPE_BYTES),
        ("FloatList", "float_list", _Field.TYPE_FLOAT),
        ("Int64List", "int64_list", _Field.TYPE_INT64),
    )
    feature = descriptor_pb2.DescriptorProto(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (message_name, field_name, kind) in enumerate(lists, start=1):
        field(
            file.message_type.add(name=message_name), "value", 1, kind, label=_Field.LABEL_REPEATED
        )
        field(feature, field_name, number, _Field.TYPE_MESSAGE, of=message_name, oneof_index=0)
    file.message_type.append(feature)

    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    field(entry, "key", 1, _Field.TYPE_STRING)
    field(entry, "value", 2, _Field.TYPE_MESSAGE, of="Feature")
    field(
        features,
        "feature",
        1,
        _Field.TYPE_MESSAGE,
        of="Features.FeatureEntry",
        label=_Field.LABEL_REPEATED,
    )
    field(file.message_type.add(name="Example"), "features", 1, _Field.TYPE_MESSAGE, of="Features")

    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("preprocessing.Example"))


_Example = _example_class()


def serialize(features: Mapping[str, Sequence[bytes | float | int]]) -> bytes:
    """Bytes of a `tf.train.Example`; the same features give the same bytes.

    Args:
        features: Name to values, all of one type. An empty list becomes an
            empty feature.
    """
    example = _Example()
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
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def parse(serialized: bytes) -> dict[str, list[Any]]:
    """The features of a `tf.train.Example`, the inverse of `serialize`.

    Raises:
        DataError: The bytes are no `tf.train.Example`.
    """
    try:
        example = _Example.FromString(serialized)
    except DecodeError as error:
        raise DataError(f"not a tf.train.Example ({error}); write the shard anew") from error
    parsed = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        parsed[name] = list(getattr(feature, kind).value) if kind else []
    return parsed


def _masked_crc32c(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
    """One TFRecord: length and its masked CRC-32C, payload and its masked CRC-32C."""
    length = struct.pack("<Q", len(payload))
    return b"".join(
        (
            length,
            struct.pack("<I", _masked_crc32c(length)),
            payload,
            struct.pack("<I", _masked_crc32c(payload)),
        )
    )


def read_records(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """The payloads of a TFRecord file, each checked against its CRCs.

    Raises:
        DataError: A record is cut short or does not match its CRC; says which.
    """
    number = 0
    while header := stream.read(HEADER_BYTES):
        where = f"record {number} of {name}"
        if len(header) < HEADER_BYTES:
            raise DataError(f"{where} is cut short; write the shard anew with `mobilenet prepare`")
        (length,) = struct.unpack("<Q", header[:8])
        if struct.unpack("<I", header[8:])[0] != _masked_crc32c(header[:8]):
            raise DataError(f"{where} has a corrupt length; write the shard anew")
        payload, footer = stream.read(length), stream.read(FOOTER_BYTES)
        if len(payload) < length or len(footer) < FOOTER_BYTES:
            raise DataError(f"{where} is cut short; write the shard anew with `mobilenet prepare`")
        if struct.unpack("<I", footer)[0] != _masked_crc32c(payload):
            raise DataError(f"{where} does not match its CRC; write the shard anew")
        yield payload
        number += 1
