"""Single records of a finished shard, read back by where they start."""

from __future__ import annotations

from typing import IO, Any

from preprocessing import schema, tfrecord
from preprocessing.errors import DataError


def read_at(stream: IO[bytes], offset: int, name: str) -> dict[str, list[Any]]:
    """The features of the record that starts at byte `offset`.

    Raises:
        DataError: There is no whole record of our schema at that place.
    """
    stream.seek(offset)
    where = f"{name} from byte {offset} on"
    payload = next(tfrecord.read_records(stream, where), b"")
    features = tfrecord.parse(payload)
    if not (features.get(schema.SYNSET) and features.get(schema.FILENAME)):
        raise DataError(f"{where} holds no record of an image; write the shard anew")
    return features


def key_of(split: str, features: dict[str, list[Any]]) -> str:
    """The key that the image had in its source: `split/class/filename`."""
    synset, filename = (
        features[name][0].decode(errors="replace") for name in (schema.SYNSET, schema.FILENAME)
    )
    return f"{split}/{synset}/{filename}"
