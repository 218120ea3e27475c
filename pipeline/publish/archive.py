"""The archive of a model: an export directory as a reproducible .tgz, and back."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
from typing import IO

from pipeline.export import directory
from preprocessing.errors import DataError

MAX_UNPACKED_RATIO = 100  # weights hardly compress; what grows more than this is not a model


def pack(folder: str, stream: IO[bytes]) -> None:
    """Write a flat .tgz of the folder's files; the same files give the same bytes."""
    with (
        gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in directory.list_files(folder):
            member = tarfile.TarInfo(name)  # without owner and date
            member.size = os.path.getsize(os.path.join(folder, name))
            with open(os.path.join(folder, name), "rb") as content:
                archive.addfile(member, content)


def unpack(archive: str, folder: str) -> None:
    """Unpack a .tgz of plain files, and nothing outside `folder`.

    Raises:
        DataError: The file is not a .tgz, is cut off, or has a member that no export has: a
            link, a device, an absolute path or one that leads out of the folder.
    """
    bytes_left = MAX_UNPACKED_RATIO * os.path.getsize(archive)
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                bytes_left -= member.size
                _require_plain(archive, member, bytes_left)
                path = os.path.join(folder, member.name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                content = members.extractfile(member)
                assert content
                _write(path, content)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk failed, not the archive
        raise DataError(f"{archive} is no complete .tgz ({error}); nothing was unpacked") from error


def _require_plain(archive: str, member: tarfile.TarInfo, bytes_left: int) -> None:
    parts = member.name.split("/")
    problem = None
    if not member.isreg():
        problem = "is no plain file"
    elif os.path.isabs(member.name) or {"", ".", ".."} & set(parts):
        problem = "leads out of the folder"
    elif bytes_left < 0:
        problem = "is larger than any model"
    if problem:
        raise DataError(f"{archive}: member {member.name!r} {problem}; nothing was unpacked")


def _write(path: str, content: IO[bytes]) -> None:
    with open(path, "xb") as target:
        shutil.copyfileobj(content, target, 1 << 20)
