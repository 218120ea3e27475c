"""Unpacking of .tgz archives from strangers: plain files only, and nothing outside the folder."""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile

from preprocessing.errors import DataError
from preprocessing.storage.paths import BLOCK_BYTES

MAX_UNPACKED_RATIO = 100  # weights hardly compress; an archive that grows more holds no model
MAX_MEMBERS = 1000  # an export has about thirty files
MAX_EXTENSION_BYTES = 1 << 16  # of a header that holds a long name or other text
_EXTENSIONS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class _BoundedHeader(tarfile.TarInfo):
    """A header of which `tarfile` reads no more into memory than a name needs."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _BoundedHeader:
        """Return the header that a block of 512 bytes holds.

        Raises:
            TarError: It announces a text that is too long.
        """
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENSIONS and header.size > MAX_EXTENSION_BYTES:
            raise tarfile.TarError(f"a header of {header.size:,} bytes")
        return header


def unpack(archive: str, folder: str, *, with_folders: bool = False) -> None:
    """Unpack a .tgz of plain files into `folder`; owners, modes and dates are ignored.

    Args:
        archive: The local archive.
        folder: Local folder to write into.
        with_folders: Also accept folders and names that begin with `./`, as in the archives of
            the original authors.

    Raises:
        DataError: The file is not a .tgz, is cut off, has too many members, or has one that is
            not accepted: a link, a device, an absolute path or one that leads out of the folder.
    """
    bytes_left = MAX_UNPACKED_RATIO * os.path.getsize(archive)
    try:
        with tarfile.open(archive, "r:gz", tarinfo=_BoundedHeader) as members:
            for number, member in enumerate(members):
                if number == MAX_MEMBERS:
                    raise DataError(
                        f"{archive} has more than {MAX_MEMBERS:,} members; nothing was unpacked"
                    )
                bytes_left -= member.size
                problem = _problem(member, bytes_left, with_folders)
                if problem:
                    raise DataError(
                        f"{archive}: member {member.name!r} {problem}; nothing was unpacked"
                    )
                if member.isreg():
                    _write(members, member, os.path.join(folder, posixpath.normpath(member.name)))
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk failed, not the archive
        raise DataError(f"{archive} is no complete .tgz ({error}); nothing was unpacked") from error


def _problem(member: tarfile.TarInfo, bytes_left: int, with_folders: bool) -> str | None:
    leads_out = os.path.isabs(member.name) or ".." in member.name.split("/")
    if with_folders:
        if leads_out or not (member.isreg() or member.isdir()):
            return "is no file or folder inside it"
    elif not member.isreg():
        return "is no plain file"
    elif leads_out or {"", "."} & set(member.name.split("/")):
        return "leads out of the folder"
    return "is larger than any model" if bytes_left < 0 else None


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    content = members.extractfile(member)
    assert content  # a plain file has content
    with open(path, "xb") as target:
        shutil.copyfileobj(content, target, BLOCK_BYTES)
