"""The global shuffle: any number of references, spilled to disk and sorted there.

The order is that of SHA-256 of seed and key, so it does not depend on the order in which a
source lists its images. A line is `hash [key,label,boxes] TAB,[path,offset,size,version]`, where
everything but the hash is the inside of a JSON list, so that sorting lines sorts images.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import IO

from preprocessing.errors import DataError
from preprocessing.sources.names import printable
from preprocessing.sources.references import ImageReference

HASH_LENGTH = 64  # hexadecimal digits of SHA-256
BUFFER_BYTES = 1 << 16  # write buffer of each bucket
BUCKET_DIGITS = 2  # 256 files; 14 million images make 16 MB each
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


def encode_reference(image: ImageReference) -> bytes:
    """Return one line of a plan: what decides the record but its bytes, a tab, and their place."""
    deciding = _encode([image.key, image.label, image.boxes])
    place = _encode([image.path, image.offset, image.size, image.version])
    return f"{deciding}\t,{place}\n".encode()


def decode_reference(line: bytes) -> ImageReference:
    """Return the reference that `encode_reference` encoded."""
    (key, label, boxes), (path, offset, size, version) = _decode(f"[{line.decode()}]")
    return ImageReference(key, path, offset, size, label, tuple(map(tuple, boxes)), version)


def deciding_part(line: bytes) -> bytes:
    """Return the part of a plan line that decides the record besides the bytes of the image."""
    return line[: line.index(b"\t")]


def num_bytes_of(line: bytes) -> int:
    """Return the size in bytes of the image of a plan line."""
    size: int = _decode(line[line.index(b"\t") + 2 :].decode())[2]
    return size


class Shuffle:
    """References on disk, in buckets by the first digits of their hash.

    Attributes:
        num_images: Number of added references.
    """

    def __init__(self, folder: str, seed: int) -> None:
        self.num_images = 0
        self._folder = folder
        self._seed = seed
        os.mkdir(folder)

    def add(self, images: Iterable[ImageReference]) -> None:
        """Write all of `images` to disk; memory does not grow with their number."""
        buckets: dict[str, IO[bytes]] = {}
        with contextlib.ExitStack() as opened:
            for image in images:
                hashed = self._hash(image.key)
                bucket = hashed[:BUCKET_DIGITS]
                if bucket not in buckets:
                    path = os.path.join(self._folder, bucket)
                    buckets[bucket] = opened.enter_context(open(path, "ab", BUFFER_BYTES))
                buckets[bucket].write(hashed.encode() + b" " + encode_reference(image))
                self.num_images += 1

    def lines(self) -> Iterator[bytes]:
        """Yield all plan lines in shuffled order; each bucket is removed once it was read.

        Raises:
            DataError: A key occurs twice; the message names both places.
        """
        for bucket in sorted(os.listdir(self._folder)):
            path = os.path.join(self._folder, bucket)
            with open(path, "rb") as stream:
                lines = sorted(stream)
            os.unlink(path)
            before = b""
            for line in lines:
                if line[:HASH_LENGTH] == before[:HASH_LENGTH]:
                    raise _twice(before, line)
                before = line
                yield line[HASH_LENGTH + 1 :]

    def _hash(self, key: str) -> str:
        # A file name that is not UTF-8 arrives as surrogates (PEP 383).
        return hashlib.sha256(f"{self._seed}/{key}".encode(errors="surrogateescape")).hexdigest()


def _twice(first: bytes, second: bytes) -> DataError:
    one, two = (decode_reference(line[HASH_LENGTH + 1 :]) for line in (first, second))
    return DataError(
        f"{printable(one.key)} is there twice: at byte {one.offset} of {one.path} "
        f"and at byte {two.offset} of {two.path}"
    )
