"""The archive of a model: an export directory as a reproducible .tgz."""

from __future__ import annotations

import gzip
import os
import tarfile
from typing import IO

from preprocessing import storage


def pack(folder: str, stream: IO[bytes]) -> None:
    """Write a flat .tgz of the folder's files; the same files give the same bytes."""
    with (
        gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in storage.list_files(folder):
            member = tarfile.TarInfo(name)  # without owner and date
            member.size = os.path.getsize(os.path.join(folder, name))
            with open(os.path.join(folder, name), "rb") as content:
                archive.addfile(member, content)
