"""A published folder: `index.json`, written last, and what it points to.

    index.json                          what is published, in the order of the table
    README.md, *.svg                    the page
    VARIANT.tgz, VARIANT.md             the newest export of a variant and its model card
    versions/VARIANT-SHA256.tgz         the same archive under a name that never changes content
    entries/VARIANT.json                one entry each; the index is put together from these

Whoever follows the index reads only files whose names hold their digest, so a publication that
goes on at the same time can not change them.
"""

from __future__ import annotations

from typing import Any

from preprocessing import storage
from preprocessing.errors import DataError, UsageError, did_you_mean
from training.models.variants import PUBLISHED_VARIANTS

INDEX = "index.json"
ENTRIES = "entries"
SCHEMA_VERSION = 1
KEYS = (  # of an entry
    *("variant", "recipe", "weights", "lineage", "config", "versions", "registry"),
    *("file", "version_file", "bytes", "sha256", "export_digest", "file_bytes"),
    *("macs", "parameters", "top1", "top5", "latency_ms", "host"),
    *("classes", "examples", "rejected", "calibration", "input_contract"),
)

Entry = dict[str, Any]


def is_published(folder: str) -> bool:
    """Whether `folder` has an index."""
    return storage.exists(storage.join(folder, INDEX))


def read_index(folder: str) -> list[Entry]:
    """The entries of a published folder; none if there is no index yet.

    Raises:
        DataError: The index is damaged, or of a newer version of this program.
    """
    path = storage.join(folder, INDEX)
    try:
        content = storage.read_json(path)
    except FileNotFoundError:
        return []
    except DataError as error:
        raise DataError(f"{error.args[0].partition(';')[0]}; {_REMEDY}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise DataError(
            f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}; upgrade it"
        )
    if version != SCHEMA_VERSION or not isinstance(content.get("models"), list):
        raise DataError(f"{path} is not an index of published models; {_REMEDY}")
    for entry in content["models"]:
        _require_entry(path, entry)
    models: list[Entry] = content["models"]
    return models


_REMEDY = "delete it and publish any export there again, or name another folder"


def find(folder: str, variant: str) -> Entry:
    """The entry of `variant`.

    Raises:
        UsageError: Nothing is published there, or not this variant.
    """
    entries = read_index(folder)
    if not entries:
        raise UsageError(f"{folder} publishes nothing; it has no {INDEX}")
    for entry in entries:
        if entry["variant"] == variant:
            return entry
    names = [entry["variant"] for entry in entries]
    raise UsageError(f"{folder} has no {variant!r}; {did_you_mean(variant, names)}")


def read_entry(folder: str, variant: str) -> Entry | None:
    """The entry of `variant` that a publication has prepared, in the index or not yet."""
    path = storage.join(folder, ENTRIES, f"{variant}.json")
    if not storage.exists(path):
        return None
    entry: Entry = storage.read_json(path)
    _require_entry(path, entry)
    return entry


def collect(folder: str) -> list[Entry]:
    """All prepared entries, in the order of the published table."""
    names = storage.list_names(storage.join(folder, ENTRIES))
    variants = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    found = (read_entry(folder, variant) for variant in variants if not variant.startswith("."))
    return sorted((entry for entry in found if entry), key=_table_order)


def write_index(folder: str, entries: list[Entry]) -> None:
    """Make `entries` what the folder publishes."""
    index = {"schema_version": SCHEMA_VERSION, "models": entries}
    storage.write_json(storage.join(folder, INDEX), index)


def _require_entry(path: str, entry: Any) -> None:
    missing = [key for key in KEYS if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise DataError(f"{path} is damaged (an entry lacks {missing[0]!r}); {_REMEDY}")


def _table_order(entry: Entry) -> tuple[int, str]:
    """As in the published table; what it does not list comes after, by name."""
    name = entry["variant"]
    known = name in PUBLISHED_VARIANTS
    return (PUBLISHED_VARIANTS.index(name) if known else len(PUBLISHED_VARIANTS), name)
