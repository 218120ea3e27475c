"""Unpacking of .tgz archives from strangers: plain files only, and nothing outside the folder."""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile

from preprocessing.errors import DataError
from preprocessing.storage.paths import BLOCK_BYTES

MAX_UNPACKED_RATIO = 100  # weights hardly compress; an archive that grows more holds no model


def unpack(archive: str, folder: str, *, with_folders: bool = False) -> None:
    """Unpack a .tgz of plain files into `folder`; owners, modes and dates are ignored.

    Args:
        archive: The local archive.
        folder: Local folder to write into.
        with_folders: Also accept folders and names that begin with `./`, as in the archives of
            the original authors.

    Raises:
        DataError: The file is not a .tgz, is cut off, or has a member that is not accepted: a
            link, a device, an absolute path or one that leads out of the folder.
    """
    bytes_left = MAX_UNPACKED_RATIO * os.path.getsize(archive)
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
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
