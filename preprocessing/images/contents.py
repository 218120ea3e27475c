"""The contents of source files, as far as they tell whether an image is still the same.

The version of a file (its times and inode, or the generation of an object) shows at no cost that
nothing changed. Where it differs, because of a copy, a `touch` or a real change, the bytes decide.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

import xxhash

from preprocessing.images.reader import read_images
from preprocessing.images.repair import RejectedImageError
from preprocessing.sources.references import ImageReference

HASH_BYTES = 8  # XXH3-64: two contents of one image agree by chance once in 2**64
UNKNOWN = bytes(HASH_BYTES)


@dataclass(kw_only=True, slots=True)
class SourceContents:
    """The contents of the images of one shard, rejected ones included, in the order of its plan.

    Attributes:
        stamps: Hash of version and place of each image, 8 bytes each; zeros where unknown.
        digests: Hash of the bytes of each image, 8 bytes each; zeros where it has none.
    """

    stamps: bytearray = field(default_factory=bytearray)
    digests: bytearray = field(default_factory=bytearray)

    def add(self, reference: ImageReference, content: bytes | RejectedImageError) -> bytes:
        """Append one image, and return the hash of its bytes."""
        digest = _digest(content)
        self.stamps += _stamp(reference)
        self.digests += digest
        return digest

    def compared(self, references: Iterable[ImageReference]) -> SourceContents | None:
        """Compare with the images of today.

        Those are read whose version or place differs, or which could not be read before.

        Returns:
            The same digests with the stamps of today; None if an image has other bytes.
        """
        references = list(references)
        stamps = list(map(_stamp, references))
        if len(stamps) * HASH_BYTES != len(self.stamps):
            return None
        places = [slice(i * HASH_BYTES, (i + 1) * HASH_BYTES) for i in range(len(stamps))]
        doubtful = [
            number
            for number, (stamp, place) in enumerate(zip(stamps, places, strict=True))
            if UNKNOWN in (stamp, self.digests[place]) or stamp != self.stamps[place]
        ]
        contents = read_images(references[number] for number in doubtful)
        for number, (_, content) in zip(doubtful, contents, strict=True):
            if _digest(content) != self.digests[places[number]]:
                return None
        return SourceContents(stamps=bytearray(b"".join(stamps)), digests=self.digests)

    def to_json(self) -> dict[str, str]:
        """Return the form for the shard's report."""
        return {
            "stamps": base64.b64encode(self.stamps).decode(),
            "digests": base64.b64encode(self.digests).decode(),
        }

    @classmethod
    def from_json(cls, fields: dict[str, str]) -> SourceContents:
        """Return what `to_json` wrote."""
        return cls(**{name: bytearray(base64.b64decode(fields[name])) for name in fields})


def _stamp(reference: ImageReference) -> bytes:
    if not reference.version:
        return UNKNOWN
    place = f"{reference.version} {reference.offset} {reference.size}"
    return xxhash.xxh3_64_digest(place.encode())


def _digest(content: bytes | RejectedImageError) -> bytes:
    return UNKNOWN if isinstance(content, RejectedImageError) else xxhash.xxh3_64_digest(content)
