"""An export to a published folder: packed, indexed and shown in the table, the index last."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from typing import Any

from pipeline import exports, table
from preprocessing import storage
from preprocessing.errors import DataError, UsageError
from training.variants import PUBLISHED_VARIANTS

INDEX = "index.json"
PAGE = "README.md"


def read_index(folder: str) -> list[dict[str, Any]]:
    """The entries of a published folder; none if there is no index yet."""
    path = storage.join(folder, INDEX)
    if not storage.exists(path):
        return []
    index = storage.read_json(path)
    if not isinstance(index, dict) or not isinstance(index.get("models"), list):
        raise DataError(f"{path} is not an index of published models; choose another --to")
    models: list[dict[str, Any]] = index["models"]
    return models


def published_entry(folder: str, metrics: dict[str, Any]) -> dict[str, Any] | None:
    """The entry of this very export, if it is published in `folder` completely."""
    digest = exports.export_digest(metrics)
    for entry in read_index(folder):
        archive = storage.join(folder, entry["file"])
        if entry["export_digest"] == digest and storage.exists(archive):
            return entry if storage.size_bytes(archive) == entry["bytes"] else None
    return None


def publish(
    export_folder: str,
    metrics: dict[str, Any],
    registered: dict[str, Any],
    folder: str,
    overwrite: bool,
) -> dict[str, Any]:
    """Put the packed export into `folder`, then the page, then the index.

    Returns:
        The entry of index.json.

    Raises:
        UsageError: Another export of this variant is published there.
    """
    digest = exports.export_digest(metrics)
    others = []
    for entry in read_index(folder):
        if entry["variant"] != metrics["variant"]:
            others.append(entry)
        elif entry["export_digest"] != digest and not overwrite:
            raise UsageError(
                f"{folder} already publishes another {entry['variant']} (top-1 "
                f"{entry['top1']['checkpoint']:.4f}); pass --overwrite to replace it"
            )
    storage.make_folder(folder)
    name = f"{metrics['variant']}.tgz"
    packed = pack(export_folder)
    storage.write_bytes(storage.join(folder, name), packed)
    entry = _entry(metrics, digest, registered, name, packed, export_folder)
    entries = sorted([*others, entry], key=_table_order)
    storage.write_bytes(storage.join(folder, PAGE), table.page(entries).encode())
    storage.write_json(storage.join(folder, INDEX), {"models": entries})
    return entry


def pack(folder: str) -> bytes:
    """A flat .tgz of the folder's files: same files, same bytes."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in exports.list_files(folder):
            member = tarfile.TarInfo(name)  # no owner, no date
            member.size = os.path.getsize(os.path.join(folder, name))
            with open(os.path.join(folder, name), "rb") as content:
                archive.addfile(member, content)
    return gzip.compress(tar.getvalue(), mtime=0)


def _entry(
    metrics: dict[str, Any],
    digest: str,
    registered: dict[str, Any],
    name: str,
    packed: bytes,
    export_folder: str,
) -> dict[str, Any]:
    formats = metrics["formats"]
    run = storage.read_json(os.path.join(export_folder, "config.json"))
    return {
        "variant": metrics["variant"],
        "recipe": metrics["recipe"],
        "file": name,
        "bytes": len(packed),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "export_digest": digest,
        "macs": metrics["macs"],
        "parameters": metrics["parameters"],
        "top1": {key: figures["top1"] for key, figures in formats.items()},
        "top5": {key: figures["top5"] for key, figures in formats.items()},
        "examples": formats["checkpoint"]["examples"],
        "classes": run["num_classes"],
        "latency_ms": {
            key: metrics["latency"][key]["median_ms"] for key in ("tflite_float32", "tflite_int8")
        },
        "host": metrics["latency"]["host"],
        "rejected": metrics["rejected"],
        "lineage": metrics["lineage"],
        "registry": {key: registered[key] for key in ("model", "version")},
    }


def _table_order(entry: dict[str, Any]) -> tuple[int, str]:
    """As in the published table; what it does not list comes after, by name."""
    name = entry["variant"]
    known = name in PUBLISHED_VARIANTS
    return (PUBLISHED_VARIANTS.index(name) if known else len(PUBLISHED_VARIANTS), name)
