"""The members of an uncompressed tar, read from its headers alone.

`tarfile` costs about four times as much for each of ImageNet's 1.3 million members, and it
accepts an archive that was cut between two members and so lacks its end mark. Formats: ustar, GNU
and pax (POSIX.1-2001). Nothing is ever written under a member's name; a name that leads out of
the archive is refused nevertheless.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple, cast

from preprocessing.errors import DataError
from preprocessing.sources.ignored import IgnoredFiles

BLOCK_BYTES = 512
MAX_NAME_BYTES = 1 << 16  # largest block of a long name; a longer one is damage
ZEROS_BYTES = 1 << 16  # read at a time, to see whether something follows an end mark
_FILES, _FOLDER = (b"0", b"\0", b"7"), b"5"
_GNU_NAME, _GNU_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}


class Member(NamedTuple):
    """A regular file in a tar: `size` bytes of the stream, from `offset`."""

    name: str
    offset: int
    size: int


def members(
    stream: IO[bytes],
    where: str,
    start: int = 0,
    end: int | None = None,
    *,
    ignored: IgnoredFiles | None = None,
) -> Iterator[Member]:
    """List the regular files of a tar, which may itself lie inside `stream`.

    Members after an end mark, as in tars that were joined by `cat`, are listed too.

    The stream is only moved forward, so it may be a decompressor. The caller may move it between
    two members.

    Args:
        stream: The stream that holds the tar.
        where: Name of the tar in errors.
        start: Offset of the first byte of the tar.
        end: Offset of the first byte after it; None when only reading can tell.
        ignored: Counter of the files of operating systems, which are skipped.

    Raises:
        DataError: The stream is not a tar, is cut short, has other bytes after its end mark, or
            has a member that is neither a plain file nor a folder.
    """
    ignored = ignored or IgnoredFiles()
    position, long_name, is_ended = start, "", False
    while True:
        stream.seek(position)
        header = stream.read(_readable(BLOCK_BYTES, position, end))
        if is_ended and not header:
            return
        if not is_ended and len(header) < BLOCK_BYTES:
            raise _damage(where, "it ends without its end mark")
        if not header.strip(b"\0"):
            is_ended = True
            position = _after_zeros(stream, position, end)
            continue
        try:
            size = _size(header)
        except ValueError:
            place = f"byte {position - start}{', after its end mark' if is_ended else ''}"
            raise _damage(where, f"no valid header at {place}") from None
        offset = position + BLOCK_BYTES
        position = offset + (size + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES
        if end is not None and position > end:
            raise _damage(where, "its last file is cut")
        kind = header[156:157]
        if kind in _FILES:
            name = long_name or _name(header)
            is_folder = name.endswith("/")  # in tars older than POSIX
            if not is_folder and ignored.keeps(name):
                yield Member(_checked(name, where), offset, size)
            long_name = ""
        elif kind in (_GNU_NAME, _PAX):
            if size > MAX_NAME_BYTES:
                raise _damage(where, f"a name of {size} bytes")
            content = stream.read(size)
            long_name = _text(content) if kind == _GNU_NAME else _pax_path(content, where)
        elif kind not in (_FOLDER, _GNU_LINK, _PAX_GLOBAL):
            description = _REFUSED.get(kind, f"a member of unknown type {kind!r}")
            raise DataError(
                f"{where} holds {long_name or _name(header)!r}, {description}; "
                "expected plain files only"
            )
        elif kind == _FOLDER:
            long_name = ""


def read_member(stream: IO[bytes], member: Member) -> bytes:
    """Return the bytes of a member."""
    stream.seek(member.offset)
    return stream.read(member.size)


@contextmanager
def open_gzipped(stream: IO[bytes], where: str) -> Iterator[IO[bytes]]:
    """Decompress a `.tar.gz`, in the end up to its checksum.

    Raises:
        DataError: The stream is not gzip, is cut short, or has a wrong checksum.
    """
    try:
        with gzip.GzipFile(fileobj=stream) as unzipped:
            yield cast(IO[bytes], unzipped)
            while unzipped.read(1 << 20):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{where} is not a complete .tar.gz archive ({error}); fetch it again"
        ) from error


def _damage(where: str, problem: str) -> DataError:
    return DataError(
        f"{where} is not a complete tar archive ({problem}); compare its size and checksum "
        "with the download page and fetch it again"
    )


def _readable(size: int, position: int, end: int | None) -> int:
    return size if end is None else max(0, min(size, end - position))


def _after_zeros(stream: IO[bytes], position: int, end: int | None) -> int:
    """Return the offset of the first block that holds more than zeros, or of the end."""
    step = BLOCK_BYTES if end is None else ZEROS_BYTES  # a decompressor must not go back
    stream.seek(position)
    while block := stream.read(_readable(step, position, end)):
        zeros = len(block) - len(block.lstrip(b"\0"))
        if zeros < len(block):
            return position + zeros // BLOCK_BYTES * BLOCK_BYTES
        position += zeros
    return position


def _size(header: bytes) -> int:
    """Return the size field, after a check of the header's checksum.

    Raises:
        ValueError: It is not a header.
    """
    if len(header) < BLOCK_BYTES:
        raise ValueError
    expected = int(header[148:156].split(b"\0")[0], 8)
    actual = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if header[124] & 0x80:  # GNU, for 8 GiB and more
        size = int.from_bytes(header[125:136], "big")
    else:
        size = int(header[124:136].split(b"\0")[0], 8)
    if actual != expected or size < 0:
        raise ValueError
    return size


def _name(header: bytes) -> str:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and header[345]:
        return f"{_text(header[345:500])}/{name}"
    return name


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode(errors="surrogateescape")


def _pax_path(content: bytes, where: str) -> str:
    """Return the `path` of a pax header, which consists of lines `length key=value`."""
    path = ""
    while content:
        digits, separator, _ = content.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 6 else 0
        if not separator or not len(digits) + 1 < length <= len(content):
            raise _damage(where, "a pax header is damaged")
        key, _, value = content[len(digits) + 1 : length].rstrip(b"\n").partition(b"=")
        if key == b"size":
            raise _damage(where, "a file of 8 GiB or more inside")
        if key == b"path":
            path = value.decode(errors="surrogateescape")
        content = content[length:]
    return path


def _checked(name: str, where: str) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        raise DataError(f"{where} holds {name!r}, a name that leads out of it; refused")
    return name
