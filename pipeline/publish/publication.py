"""A publication: an export is packed, uploaded and checked, and then the index names it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from typing import IO

from pipeline.export.metrics import ExportMetrics
from pipeline.publish import published_index
from pipeline.publish.archive import pack
from pipeline.publish.pages import index_page, model_card
from pipeline.publish.published_index import PublishedEntry, RegistryReference
from preprocessing import storage
from preprocessing.errors import DataError, UsageError


def publish(
    export_folder: str,
    metrics: ExportMetrics,
    registered: RegistryReference,
    folder: str,
    *,
    overwrite: bool,
) -> PublishedEntry:
    """Put the packed export into `folder`, then its card, the page, and the index.

    Every step is skipped where it was done before. So the same call continues a publication that
    was killed, and repeating a finished one writes nothing.

    Args:
        export_folder: A complete export.
        metrics: The export's `metrics.json`.
        registered: The registered version of the export.
        folder: A local folder or `gs://`.
        overwrite: Whether another export of the variant may be replaced.

    Returns:
        The entry in index.json.

    Raises:
        UsageError: `folder` publishes another export of this variant.
        DataError: What arrived is not what was sent.
    """
    _require_free(folder, metrics, overwrite)
    entry = published_index.read_entry(folder, metrics.variant.name)
    if entry is None or entry.export_digest != metrics.digest or not _is_uploaded(folder, entry):
        entry = _upload(export_folder, metrics, registered, folder)
    card = storage.join(folder, f"{entry.name}.md")
    storage.update_bytes(card, model_card.card(entry).encode())
    while True:
        entries = published_index.collect(folder)
        for name, content in index_page.files(entries).items():
            storage.update_bytes(storage.join(folder, name), content)
        if published_index.read_index(folder) != entries:
            published_index.write_index(folder, entries)
        # Of several publications at once, the last to write the index comes here after the
        # others have written their entries, so no entry is missing in the end.
        if published_index.collect(folder) == entries:
            return entry


def _require_free(folder: str, metrics: ExportMetrics, overwrite: bool) -> None:
    for entry in published_index.read_index(folder):
        same_variant = entry.variant == metrics.variant
        if same_variant and entry.export_digest != metrics.digest and not overwrite:
            raise UsageError(
                f"{folder} already publishes another {entry.name} (top-1 "
                f"{entry.checkpoint_top1:.4f}); pass --overwrite to replace it"
            )


def _is_uploaded(folder: str, entry: PublishedEntry) -> bool:
    paths = [storage.join(folder, name) for name in (entry.version_file, entry.file)]
    return all(storage.exists(path) and storage.size_bytes(path) == entry.bytes for path in paths)


def _upload(
    export_folder: str, metrics: ExportMetrics, registered: RegistryReference, folder: str
) -> PublishedEntry:
    """Upload the archive under both its names, then write the entry that names it."""
    with tempfile.TemporaryFile() as packed:
        pack(export_folder, packed)
        packed.seek(0)
        sha256 = hashlib.file_digest(packed, "sha256").hexdigest()
        entry = dataclasses.replace(
            published_index.unpublished_entry(export_folder, metrics),
            version_file=f"versions/{metrics.variant.name}-{sha256[:12]}.tgz",
            bytes=packed.tell(),
            sha256=sha256,
            registry=registered,
        )
        for name in (entry.version_file, entry.file):
            _send(packed, storage.join(folder, name))
    published_index.write_entry(folder, entry)
    return entry


def _send(packed: IO[bytes], target: str) -> None:
    """Copy to `target` unless it holds the same bytes already, and compare checksums.

    Raises:
        DataError: The checksums differ.
    """
    crc = storage.crc32c(packed)
    if storage.exists(target) and storage.stored_crc32c(target) == crc:
        return
    storage.make_folder(os.path.dirname(target))
    packed.seek(0)
    with storage.open_write(target) as stream:
        shutil.copyfileobj(packed, stream, 1 << 20)
    if storage.stored_crc32c(target) != crc:
        raise DataError(f"{target} arrived damaged (its CRC32C differs); publish again")
