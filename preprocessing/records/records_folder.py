"""Single records of a finished shard, read back by their offset."""

from __future__ import annotations

from typing import IO, Any

from preprocessing.errors import DataError
from preprocessing.records import schema, tfrecord


def read_at(stream: IO[bytes], offset: int, name: str) -> dict[str, list[Any]]:
    """Return the features of the record that starts at byte `offset`.

    Raises:
        DataError: No whole record of our schema starts there.
    """
    stream.seek(offset)
    where = f"{name} from byte {offset}"
    payload = next(tfrecord.read_records(stream, where), b"")
    features = tfrecord.parse(payload)
    if not is_ours(features):
        raise DataError(f"{where} holds no record of an image; write the shard again")
    return features


def is_ours(features: dict[str, list[Any]]) -> bool:
    """Return whether the fields that are read back exist and have their types."""
    scalars = {
        bytes: (schema.SYNSET, schema.TEXT, schema.FILENAME, schema.ENCODED),
        int: (schema.LABEL, schema.HEIGHT, schema.WIDTH),
    }
    boxes = (schema.BBOX_XMIN, schema.BBOX_YMIN, schema.BBOX_XMAX, schema.BBOX_YMAX)
    return all(
        [type(value) for value in features.get(name, ())] == [kind]
        for kind, names in scalars.items()
        for name in names
    ) and all(
        len(features.get(name, ())) == len(features.get(boxes[0], ()))
        and all(isinstance(value, float) for value in features.get(name, ()))
        for name in boxes
    )


def key_of(split: str, features: dict[str, list[Any]]) -> str:
    """Return the key that the image had in its source: `split/class/filename`."""
    synset, filename = (
        features[name][0].decode(errors="replace") for name in (schema.SYNSET, schema.FILENAME)
    )
    return f"{split}/{synset}/{filename}"
