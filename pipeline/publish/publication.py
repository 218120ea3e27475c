"""An export to a published folder: packed, uploaded, checked, and the index last."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
from typing import IO, Any

from pipeline.export import directory
from pipeline.publish import index as indexes
from pipeline.publish.pages import index_page, model_card
from preprocessing import storage
from preprocessing.errors import DataError, UsageError


def publish(
    export_folder: str,
    metrics: dict[str, Any],
    registered: dict[str, Any],
    folder: str,
    overwrite: bool,
) -> indexes.Entry:
    """Put the packed export into `folder`, then its card, the page, and the index.

    Every step is skipped where it was done before, so a killed publication is continued by
    the same call, and repeating a finished one writes nothing.

    Args:
        export_folder: A complete export.
        metrics: Its `metrics.json`.
        registered: What `registry.register` returned.
        folder: Local or `gs://`.
        overwrite: Whether another export of the variant may be replaced.

    Returns:
        The entry of index.json.

    Raises:
        UsageError: Another export of this variant is published there.
        DataError: What arrived is not what was sent.
    """
    digest = directory.export_digest(metrics)
    _require_free(folder, metrics["variant"], digest, overwrite)
    entry = indexes.read_entry(folder, metrics["variant"])
    if entry is None or entry["export_digest"] != digest or not _is_there(folder, entry):
        entry = _upload(export_folder, metrics, registered, folder)
    storage.update_bytes(
        storage.join(folder, f"{entry['variant']}.md"), model_card.card(entry).encode()
    )
    while True:
        entries = indexes.collect(folder)
        for name, content in index_page.files(entries).items():
            storage.update_bytes(storage.join(folder, name), content)
        if indexes.read_index(folder) != entries:
            indexes.write_index(folder, entries)
        # Of several publications at once the last to write the index comes by here after the
        # others have written their entries, so no entry stays out.
        if indexes.collect(folder) == entries:
            return entry


def pack(folder: str, stream: IO[bytes]) -> None:
    """Write a flat .tgz of the folder's files: same files, same bytes."""
    with (
        gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in directory.list_files(folder):
            member = tarfile.TarInfo(name)  # no owner, no date
            member.size = os.path.getsize(os.path.join(folder, name))
            with open(os.path.join(folder, name), "rb") as content:
                archive.addfile(member, content)


def _require_free(folder: str, variant: str, digest: str, overwrite: bool) -> None:
    for entry in indexes.read_index(folder):
        if entry["variant"] == variant and entry["export_digest"] != digest and not overwrite:
            raise UsageError(
                f"{folder} already publishes another {variant} (top-1 "
                f"{entry['top1']['checkpoint']:.4f}); pass --overwrite to replace it"
            )


def _is_there(folder: str, entry: indexes.Entry) -> bool:
    paths = [storage.join(folder, entry[key]) for key in ("version_file", "file")]
    return all(
        storage.exists(each) and storage.size_bytes(each) == entry["bytes"] for each in paths
    )


def _upload(
    export_folder: str, metrics: dict[str, Any], registered: dict[str, Any], folder: str
) -> indexes.Entry:
    """The archive under both its names, then the entry that tells of it."""
    name = metrics["variant"]
    with tempfile.TemporaryFile() as packed:
        pack(export_folder, packed)
        entry = _entry(metrics, registered, packed, export_folder)
        for key in ("version_file", "file"):
            _send(packed, storage.join(folder, entry[key]))
    storage.update_bytes(
        storage.join(folder, indexes.ENTRIES, f"{name}.json"), storage.json_bytes(entry)
    )
    return entry


def _send(packed: IO[bytes], target: str) -> None:
    """Copy to `target` unless it is there already, and compare checksums.

    Raises:
        DataError: They differ.
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


def _entry(
    metrics: dict[str, Any], registered: dict[str, Any], packed: IO[bytes], export_folder: str
) -> indexes.Entry:
    name = metrics["variant"]
    packed.seek(0)
    sha256 = hashlib.file_digest(packed, "sha256").hexdigest()  # type: ignore[arg-type]
    return {
        **entry_of(export_folder, metrics),
        "version_file": f"versions/{name}-{sha256[:12]}.tgz",
        "bytes": packed.tell(),
        "sha256": sha256,
        "registry": {key: registered[key] for key in ("model", "version")},
    }


def entry_of(export_folder: str, metrics: dict[str, Any]) -> indexes.Entry:
    """What an entry of index.json says of an export that is not packed yet."""
    formats = metrics["formats"]
    run = storage.read_json(os.path.join(export_folder, "config.json"))
    return {
        "variant": metrics["variant"],
        "recipe": metrics["recipe"],
        "weights": metrics.get("weights", "ema"),
        "file": f"{metrics['variant']}.tgz",
        "version_file": "",
        "bytes": 0,
        "sha256": "",
        "export_digest": directory.export_digest(metrics),
        "macs": metrics["macs"],
        "parameters": metrics["parameters"],
        "top1": {key: figures["top1"] for key, figures in formats.items()},
        "top5": {key: figures["top5"] for key, figures in formats.items()},
        "examples": formats["checkpoint"]["examples"],
        "classes": run["num_classes"],
        "latency_ms": {
            key: figures["median_ms"]
            for key, figures in metrics["latency"].items()
            if isinstance(figures, dict) and "median_ms" in figures
        },
        "host": metrics["latency"]["host"],
        "file_bytes": {
            file: known["bytes"] for file, known in metrics["files"].items() if "/" not in file
        },
        "config": run["config"],
        "input_contract": metrics.get("input_contract", {}),
        "calibration": metrics.get("calibration"),
        "rejected": metrics["rejected"],
        "lineage": metrics["lineage"],
        "versions": metrics.get("versions", {}),
    }
