"""A download: a published model becomes an export directory again, verified and unpacked."""

from __future__ import annotations

import os
import shutil

from pipeline.export import directory
from pipeline.publish import published_index
from pipeline.publish.published_index import PublishedEntry
from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from preprocessing.storage.tgz import unpack

SOURCES = ("gs://", "https://", "http://")
MAX_ARCHIVE_BYTES = 4 << 30  # a hundred times the largest export


def fetch(variant: str, source: str, output: str) -> PublishedEntry:
    """Make `output` the export that `source` publishes as `variant`.

    An interrupted download continues where it stopped. `output` appears when every file in it
    has the digest that the publisher's metrics.json gives.

    Args:
        variant: The name, for example `mobilenet_v2_1.0_224`.
        source: A published folder, local, `gs://` or `https://`.
        output: The folder to make, local or in a bucket; one that already holds this export is
            left as it is.

    Returns:
        The entry in index.json.

    Raises:
        UsageError: There is no such model, or `output` holds something else.
        DataError: What arrived is not what was published.
    """
    _require_known(source)
    entry = published_index.find(source, variant)
    if storage.exists(output) and not storage.is_unfinished_upload(output):
        if directory.is_export(output):
            metrics = directory.read_metrics(output)
            if metrics.digest == entry.export_digest:
                directory.require_intact(output, metrics)
                return entry
        raise UsageError(f"{output} holds something else; choose another --output or delete it")
    if storage.is_remote(output):
        with storage.temporary_folder("fetch") as folder:
            local = os.path.join(folder, entry.name)
            _fetch(entry, source, local)
            storage.upload_folder(local, output, last=directory.METRICS)
    else:
        storage.make_folder(os.path.dirname(os.path.abspath(output)))
        _fetch(entry, source, output.rstrip("/"))
    return entry


def _require_known(source: str) -> None:
    if storage.is_remote(source) and not source.startswith(SOURCES):
        raise UsageError(f"--from {source}: allowed are a folder and {', '.join(SOURCES)}")


def _fetch(entry: PublishedEntry, source: str, output: str) -> None:
    """Download and unpack into the local folder `output`."""
    archive = f"{output}{storage.PARTIAL}{entry.sha256[:12]}.tgz"
    partial = f"{output}{storage.PARTIAL}fetch"
    _download(storage.join(source, entry.version_file), archive, entry)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        unpack(archive, partial)
        _require_published(partial, entry)
        os.replace(partial, output)
        os.unlink(archive)
    except DataError:
        storage.remove(archive)  # it would be refused again
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _download(url: str, archive: str, entry: PublishedEntry) -> None:
    if not 0 < entry.bytes <= MAX_ARCHIVE_BYTES:
        raise DataError(
            f"the index gives {url} {entry.bytes:,} bytes; allowed: 1 to {MAX_ARCHIVE_BYTES:,}"
        )
    try:
        storage.download(url, archive, max_bytes=entry.bytes)
    except FileNotFoundError as error:
        raise DataError(f"{url} is not there, though the index names it; publish again") from error
    except DataError as error:
        storage.remove(archive)
        raise DataError(f"{error}; nothing was kept") from error
    size_bytes = os.path.getsize(archive)
    if storage.digest_of_file(archive) != entry.sha256:
        os.unlink(archive)  # continuing from it would never help
        raise DataError(
            f"{url} is not what was published ({size_bytes} bytes of {entry.bytes}, SHA-256 "
            "differs); nothing was kept, fetch again or ask its publisher"
        )


def _require_published(folder: str, entry: PublishedEntry) -> None:
    metrics = directory.read_metrics(folder)
    if metrics.digest != entry.export_digest:
        raise DataError(f"{entry.version_file} holds another export than the index says")
    directory.require_intact(folder, metrics)
    # Files were written in the archive's order; the gate expects the metrics to be the newest.
    os.utime(os.path.join(folder, directory.METRICS))
