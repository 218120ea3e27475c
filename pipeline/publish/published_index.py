"""A published folder: `index.json`, which is written last, and what it points to.

    index.json                          what is published, in the order of the table
    README.md, *.svg                    the page
    VARIANT.tgz, VARIANT.md             the newest export of a variant and its model card
    versions/VARIANT-SHA256.tgz         the same archive under a name whose content never changes
    entries/VARIANT.json                one entry per variant; the index is put together from these

Whoever follows the index reads only files whose names hold their digest, so a publication that
runs at the same time cannot change them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pipeline.export import directory
from pipeline.export.metrics import (
    REFERENCE,
    CalibrationSummary,
    ExportMetrics,
    Host,
    InputContract,
    Lineage,
    Weights,
)
from preprocessing import storage
from preprocessing.errors import DataError, UsageError, did_you_mean
from preprocessing.storage import contracts
from preprocessing.storage.contracts import (
    AsText,
    ContractError,
    Count,
    Fraction,
    Measure,
    PathBelow,
    Sha256,
    WholeNumber,
)
from training.models.variants import Variant, published_variants

INDEX = "index.json"
ENTRIES = "entries"
SCHEMA_VERSION = 1
MAX_INDEX_BYTES = 8 << 20  # an entry has about 20 KB
_REMEDY = "delete it and publish any export there again, or name another folder"


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryReference:
    """The registered version of an export."""

    model: str
    version: WholeNumber


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedEntry:
    """One published model, as `index.json` and `entries/VARIANT.json` hold it.

    Attributes:
        file: The archive of the newest export of the variant.
        version_file: The same archive under the name that holds its digest.
        bytes: Size of the archive.
        sha256: SHA-256 of the archive.
        export_digest: Identity of the export: SHA-256 of its metrics.json.
        top1: Top-1 by format, fractions in [0, 1].
        top5: Top-5 by format, fractions in [0, 1].
        examples: Number of validation images.
        classes: Number of classes, without the background.
        latency_ms: Median with one thread by TF-Lite format.
        file_bytes: Bytes by file, without files in subfolders.
        config: The run's config tree as it was recorded.
        rejected: Unreadable images of the source, which are in neither split.
        registry: None before the export is registered.
    """

    variant: Annotated[Variant, AsText]
    recipe: str
    weights: Weights
    file: PathBelow
    version_file: PathBelow
    bytes: WholeNumber
    sha256: Sha256
    export_digest: Sha256
    macs: Count
    parameters: Count
    top1: dict[str, Fraction]
    top5: dict[str, Fraction]
    examples: Count
    classes: Count
    latency_ms: dict[str, Measure]
    host: Host
    file_bytes: dict[str, WholeNumber]
    config: dict[str, Any]
    input_contract: InputContract | None
    calibration: CalibrationSummary | None
    rejected: WholeNumber
    lineage: Lineage
    versions: dict[str, str]
    registry: RegistryReference | None

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self.variant.name

    @property
    def checkpoint_top1(self) -> float:
        """Top-1 of the checkpoint."""
        return self.top1[REFERENCE]

    @property
    def checkpoint_top5(self) -> float:
        """Top-5 of the checkpoint."""
        return self.top5[REFERENCE]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; `input_contract` is an empty object where it is unknown."""
        plain = contracts.to_json(self)
        unknown: dict[str, Any] = {"input_contract": {}, "calibration": None}
        fields = self.__dataclass_fields__
        return {
            name: plain.get(name, unknown.get(name))
            for name in fields
            if name in plain or name in unknown
        }

    @classmethod
    def from_json(cls, content: Any, path: str) -> PublishedEntry:
        """Return the entry that the parsed content of `path` describes.

        Raises:
            DataError: The content has another form; the message names the first wrong place.
        """
        if isinstance(content, dict) and content.get("input_contract") == {}:
            content = content | {"input_contract": None}
        try:
            entry = contracts.from_json(cls, content, "an entry")
            for name, accuracies in (("top1", entry.top1), ("top5", entry.top5)):
                if REFERENCE not in accuracies:
                    raise ContractError(f"an entry.{name} lacks {REFERENCE!r}")
            return entry
        except ContractError as error:
            raise DataError(f"{path} is damaged ({error}); {_REMEDY}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedIndex:
    """`index.json`: the published models in the order of the table."""

    models: tuple[PublishedEntry, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "schema_version": SCHEMA_VERSION,
            "models": [entry.to_json() for entry in self.models],
        }

    @classmethod
    def from_json(cls, content: Any, path: str) -> PublishedIndex:
        """Return the index that the parsed content of `path` describes.

        Raises:
            DataError: The index is damaged, or a newer version of this program wrote it.
        """
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise DataError(
                f"{path} has schema version {version}, this program reads {SCHEMA_VERSION}; "
                "upgrade it"
            )
        models = content.get("models") if version == SCHEMA_VERSION else None
        if not isinstance(models, list):
            raise DataError(f"{path} is not an index of published models; {_REMEDY}")
        return cls(models=tuple(PublishedEntry.from_json(model, path) for model in models))


def is_published(folder: str) -> bool:
    """Return whether `folder` has an index."""
    return storage.exists(storage.join(folder, INDEX))


def read_index(folder: str) -> list[PublishedEntry]:
    """Read the entries of a published folder; there are none before there is an index.

    Raises:
        DataError: The index is damaged, or a newer version of this program wrote it.
    """
    path = storage.join(folder, INDEX)
    try:
        content = storage.read_json(path, max_bytes=MAX_INDEX_BYTES)
    except FileNotFoundError:
        return []
    except DataError as error:
        raise DataError(f"{error.args[0].partition(';')[0]}; {_REMEDY}") from error
    return list(PublishedIndex.from_json(content, path).models)


def find(folder: str, variant: str) -> PublishedEntry:
    """Return the entry of `variant`.

    Raises:
        UsageError: The folder publishes nothing, or not this variant.
    """
    entries = read_index(folder)
    if not entries:
        raise UsageError(f"{folder} publishes nothing; it has no {INDEX}")
    for entry in entries:
        if entry.name == variant:
            return entry
    names = [entry.name for entry in entries]
    raise UsageError(f"{folder} has no {variant!r}; {did_you_mean(variant, names)}")


def read_entry(folder: str, variant: str) -> PublishedEntry | None:
    """Return the entry of `variant` that a publication has prepared, in the index or not yet."""
    path = storage.join(folder, ENTRIES, f"{variant}.json")
    if not storage.exists(path):
        return None
    return PublishedEntry.from_json(storage.read_json(path), path)


def write_entry(folder: str, entry: PublishedEntry) -> None:
    """Prepare `entry` for the index."""
    path = storage.join(folder, ENTRIES, f"{entry.name}.json")
    storage.update_bytes(path, storage.json_bytes(entry.to_json()))


def collect(folder: str) -> list[PublishedEntry]:
    """Return all prepared entries in the order of the published table."""
    names = storage.list_names(storage.join(folder, ENTRIES))
    variants = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    entries = (read_entry(folder, variant) for variant in variants if not variant.startswith("."))
    return sorted((entry for entry in entries if entry), key=_table_order)


def write_index(folder: str, entries: list[PublishedEntry]) -> None:
    """Make `entries` what the folder publishes."""
    index = PublishedIndex(models=tuple(entries))
    storage.write_json(storage.join(folder, INDEX), index.to_json())


def unpublished_entry(export_folder: str, metrics: ExportMetrics) -> PublishedEntry:
    """Return the entry of an export that is neither packed nor registered yet."""
    run = directory.read_run(export_folder, metrics)
    return PublishedEntry(
        variant=metrics.variant,
        recipe=metrics.recipe,
        weights=metrics.weights,
        file=f"{metrics.variant.name}.tgz",
        version_file="",
        bytes=0,
        sha256="",
        export_digest=metrics.digest,
        macs=metrics.macs,
        parameters=metrics.parameters,
        top1={name: figures.top1 for name, figures in metrics.formats.items()},
        top5={name: figures.top5 for name, figures in metrics.formats.items()},
        examples=metrics.checkpoint.examples,
        classes=run.num_classes,
        latency_ms={name: timing.median_ms for name, timing in metrics.latency.formats.items()},
        host=metrics.latency.host,
        file_bytes={name: file.bytes for name, file in metrics.files.items() if "/" not in name},
        config=run.config.to_json(),
        input_contract=metrics.input_contract,
        calibration=metrics.calibration,
        rejected=metrics.rejected,
        lineage=metrics.lineage,
        versions=metrics.versions,
        registry=None,
    )


def _table_order(entry: PublishedEntry) -> tuple[int, str]:
    """Order as in the published table; variants that it does not list follow, by name."""
    order = published_variants()
    return (order.index(entry.name) if entry.name in order else len(order), entry.name)
