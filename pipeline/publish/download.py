"""A published model back to an export directory: downloaded, verified, unpacked."""

from __future__ import annotations

import os
import shutil
import tarfile
from typing import IO

from pipeline.export import directory
from pipeline.publish import index as indexes
from preprocessing import storage
from preprocessing.errors import DataError, UsageError

MAX_UNPACKED_RATIO = 100  # weights hardly compress; what grows more is no model


def fetch(variant: str, source: str, output: str) -> indexes.Entry:
    """Make `output` the export that `source` publishes as `variant`.

    An interrupted download goes on where it was. `output` appears when everything in it has
    the digest that the publisher's metrics.json gives.

    Args:
        variant: For example `mobilenet_v2_1.0_224`.
        source: A published folder, local, `gs://` or `https://`.
        output: Folder to make; one that holds this very export already is left as it is.

    Returns:
        The entry of index.json.

    Raises:
        UsageError: There is no such model, or `output` holds something else.
        DataError: What arrived is not what was published.
    """
    entry = indexes.find(source, variant)
    if os.path.exists(output):
        if directory.is_export(output):
            metrics = directory.read_metrics(output)
            if directory.export_digest(metrics) == entry["export_digest"]:
                directory.require_intact(output, metrics)
                return entry
        raise UsageError(f"{output} holds something else; choose another --output or delete it")
    storage.make_folder(os.path.dirname(os.path.abspath(output)))
    archive = f"{output.rstrip('/')}{storage.PARTIAL}{entry['sha256'][:12]}.tgz"
    partial = f"{output.rstrip('/')}{storage.PARTIAL}fetch"
    _download(storage.join(source, entry["version_file"]), archive, entry)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        unpack(archive, partial)
        _require_published(partial, entry)
        os.replace(partial, output)
        os.unlink(archive)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return entry


def _download(url: str, archive: str, entry: indexes.Entry) -> None:
    try:
        with storage.open_read(url) as source, open(archive, "ab") as target:
            source.seek(target.tell())
            shutil.copyfileobj(source, target, 1 << 20)
    except FileNotFoundError as error:
        raise DataError(f"{url} is not there, though the index names it; publish again") from error
    size_bytes = os.path.getsize(archive)
    if storage.digest_of_file(archive) != entry["sha256"]:
        os.unlink(archive)  # going on from it would never help
        raise DataError(
            f"{url} is not what was published ({size_bytes} bytes of {entry['bytes']}, SHA-256 "
            "differs); nothing was kept, fetch again or ask its publisher"
        )


def unpack(archive: str, folder: str) -> None:
    """Unpack a .tgz of plain files, and nothing outside `folder`.

    Raises:
        DataError: It is no .tgz, is cut off, or has a member that no export has: a link,
            a device, an absolute path or one that leads out of the folder.
    """
    most_bytes = MAX_UNPACKED_RATIO * os.path.getsize(archive)
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                most_bytes -= member.size
                _require_plain(archive, member, most_bytes)
                path = os.path.join(folder, member.name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                content = members.extractfile(member)
                assert content
                _write(path, content)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the archive
        raise DataError(f"{archive} is no complete .tgz ({error}); nothing was unpacked") from error


def _require_plain(archive: str, member: tarfile.TarInfo, bytes_left: int) -> None:
    parts = member.name.split("/")
    problem = (
        "is no plain file"
        if not member.isreg()
        else "leads out of the folder"
        if os.path.isabs(member.name) or {"", ".", ".."} & set(parts)
        else "is larger than any model"
        if bytes_left < 0
        else ""
    )
    if problem:
        raise DataError(f"{archive}: member {member.name!r} {problem}; nothing was unpacked")


def _write(path: str, content: IO[bytes]) -> None:
    with open(path, "xb") as target:
        shutil.copyfileobj(content, target, 1 << 20)


def _require_published(folder: str, entry: indexes.Entry) -> None:
    metrics = directory.read_metrics(folder)
    if directory.export_digest(metrics) != entry["export_digest"]:
        raise DataError(f"{entry['version_file']} holds another export than the index says")
    directory.require_intact(folder, metrics)
    # Written in the archive's order; the gate expects the metrics to be the newest file.
    os.utime(os.path.join(folder, directory.METRICS))
