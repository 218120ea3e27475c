"""`tf.train.Example` and TFRecord framing without TensorFlow, so that ingest workers stay small.

The message is declared here as TensorFlow declares it (`tensorflow/core/example/
example.proto`, `feature.proto`), in a descriptor pool of its own so that both can
live in one process.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from preprocessing.errors import DataError

HEADER_BYTES = 12  # uint64 length, uint32 masked CRC of the length
MAX_CACHED_BYTES = 64  # size of a value
MAX_PAYLOAD_BYTES = 1 << 31  # protobuf's own limit
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
    """Return the bytes of a `tf.train.Example`; the same features give the same bytes.

    Args:
        features: Values by name, all of one type per name. An empty list becomes an empty
            feature.
    """
    return b"".join(_example(features))


def record(features: Mapping[str, Sequence[bytes | float | int]]) -> bytes:
    """Return a framed `tf.train.Example`.

    The result is `frame(serialize(features))`, made with one copy of the values.
    """
    payload = _example(features)
    length, crc = 0, 0
    for part in payload:
        length += len(part)
        crc = google_crc32c.extend(crc, part)
    return b"".join((_frame_header(length), *payload, _UINT32(_mask(crc))))


# Wire types and field numbers of `Example`, as protobuf encodes them (field << 3 | type).
_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"  # all length-delimited
_UINT32, _UINT64 = struct.Struct("<I").pack, struct.Struct("<Q").pack


def _example(features: Mapping[str, Sequence[bytes | float | int]]) -> list[bytes]:
    """Return the parts of a serialized `Example`; a long value is a part of its own, not copied.

    The encoder is written by hand because protobuf copies an image twice. The order is
    protobuf's deterministic one, by name (where no name begins another, as in our schema).
    """
    parts: list[bytes] = [b""]  # the head follows when the length is known
    short: list[bytes] = []
    for name in sorted(features):
        values = features[name]
        first = values[0] if values else None
        if isinstance(first, bytes) and len(first) > MAX_CACHED_BYTES:
            head, *value = _entry(name, values)
            parts += (b"".join((*short, head)), *value)
            short = []
        elif isinstance(first, float):
            short += _entry(name, values)
        else:
            short.append(_cached_entry(name, type(first).__name__, tuple(values)))
    parts.append(b"".join(short))
    parts[0] = _FIELD_1 + _varint(sum(map(len, parts)))
    return parts


@functools.lru_cache(maxsize=4096)
def _cached_entry(name: str, kind: str, values: tuple[bytes | int, ...]) -> bytes:
    """Return a whole entry; many records share most of them. `kind` tells 1 from True and 1.0."""
    return b"".join(_entry(name, values))


def _entry(name: str, values: Sequence[bytes | float | int]) -> list[bytes]:
    """Return the parts of a serialized entry of the map from names to features."""
    value = _feature(values)
    value_length = sum(map(len, value))
    key = name.encode()
    entry = b"".join((_FIELD_1, _varint(len(key)), key, _FIELD_2, _varint(value_length)))
    return [b"".join((_FIELD_1, _varint(len(entry) + value_length), entry)), *value]


def _feature(values: Sequence[bytes | float | int]) -> list[bytes]:
    """Return the parts of a serialized `Feature`."""
    if not values:
        return []
    inner: list[bytes] = []
    if isinstance(values[0], bytes):
        kind = _FIELD_1
        for value in values:
            inner += (_FIELD_1 + _varint(len(value)), value)  # type: ignore[arg-type]
    else:
        if isinstance(values[0], float):
            kind, packed = _FIELD_2, struct.pack(f"<{len(values)}f", *values)
        else:
            kind, packed = _FIELD_3, b"".join(map(_varint, values))  # type: ignore[arg-type]
        inner = [_FIELD_1 + _varint(len(packed)), packed]
    return [kind + _varint(sum(map(len, inner))), *inner]


def _varint(value: int) -> bytes:
    """Return a whole number of up to 64 bits as seven bits per byte, the lowest first."""
    if 0 <= value < 0x80:
        return _SINGLE_BYTES[value]
    value &= 0xFFFFFFFFFFFFFFFF  # negative numbers are two's complement
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_SINGLE_BYTES = [bytes([value]) for value in range(0x80)]


def parse(serialized: bytes) -> dict[str, list[Any]]:
    """Return the features of a `tf.train.Example` that `serialize` wrote.

    Raises:
        DataError: The bytes are not a `tf.train.Example`.
    """
    try:
        example = _Example.FromString(serialized)
    except DecodeError as error:
        raise DataError(f"not a tf.train.Example ({error}); write the shard again") from error
    parsed = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        parsed[name] = list(getattr(feature, kind).value) if kind else []
    return parsed


def _mask(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _masked_crc32c(data: bytes) -> int:
    return _mask(google_crc32c.value(data))


def _frame_header(length: int) -> bytes:
    packed = _UINT64(length)
    return packed + _UINT32(_masked_crc32c(packed))


def frame(payload: bytes) -> bytes:
    """Return one TFRecord: length and its masked CRC-32C, payload and its masked CRC-32C."""
    return b"".join((_frame_header(len(payload)), payload, _UINT32(_masked_crc32c(payload))))


def read_records(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """Yield the payloads of a TFRecord file, each checked against its CRCs.

    Raises:
        DataError: A record is cut short or does not match its CRC; the message says which.
    """
    number = 0
    while header := stream.read(HEADER_BYTES):
        where = f"record {number} of {name}"
        if len(header) < HEADER_BYTES:
            raise DataError(f"{where} is cut short; write the shard again with `mobilenet prepare`")
        (length,) = struct.unpack("<Q", header[:8])
        corrupt = struct.unpack("<I", header[8:])[0] != _masked_crc32c(header[:8])
        if corrupt or length > MAX_PAYLOAD_BYTES:
            raise DataError(f"{where} has a corrupt length; write the shard again")
        payload, footer = stream.read(length), stream.read(FOOTER_BYTES)
        if len(payload) < length or len(footer) < FOOTER_BYTES:
            raise DataError(f"{where} is cut short; write the shard again with `mobilenet prepare`")
        if struct.unpack("<I", footer)[0] != _masked_crc32c(payload):
            raise DataError(f"{where} does not match its CRC; write the shard again")
        yield payload
        number += 1
