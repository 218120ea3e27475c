"""`metrics.json`: everything that was measured on an export, and what the export is made of."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.storage import contracts
from preprocessing.storage.contracts import (
    AsText,
    ContractError,
    Count,
    Finite,
    Fraction,
    Measure,
    WholeNumber,
)
from training.models.variants import Variant

REFERENCE = "checkpoint"  # the network in memory, with which every format is compared
Weights = Literal["ema", "raw"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatMetrics:
    """The accuracy of one format on every validation image; fractions in [0, 1].

    Attributes:
        agreement_with_checkpoint: Fraction of images with the checkpoint's best class.
        largest_difference: Largest difference from a probability of the checkpoint; None in
            exports of the first version.
    """

    top1: Fraction
    top5: Fraction
    examples: Count
    agreement_with_checkpoint: Fraction
    largest_difference: Measure | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """The latency of single inferences, over `runs` runs after warming up."""

    median_ms: Measure
    p95_ms: Measure
    runs: WholeNumber | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatLatency(Timing):
    """The latency with one thread, and with other numbers of threads by that number."""

    threads: dict[str, Timing] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """The machine on which a latency was measured."""

    cpu: str
    cores: WholeNumber | None
    machine: str | None = None
    memory_gib: Measure | None = None
    system: str
    kernel: str | None = None
    litert: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Latencies:
    """The latency of every TF-Lite format, by format.

    Attributes:
        threads: Threads of the main figures.
    """

    host: Host
    threads: WholeNumber
    formats: dict[str, FormatLatency]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, in which formats stand next to `host` and `threads`."""
        by_format = {name: contracts.to_json(timing) for name, timing in self.formats.items()}
        return {"host": contracts.to_json(self.host), "threads": self.threads, **by_format}


@dataclass(frozen=True, kw_only=True, slots=True)
class InputContract:
    """The input and output of a model.

    Attributes:
        shape: `(1, S, S, 3)`.
        range: Smallest and largest value of the input.
        mean: Subtracted from every pixel in [0, 255].
        std: What the difference is divided by.
        crop: The part of the image that is used, in words.
        crop_fraction: The fraction of the size that `crop` speaks of.
        outputs: Number of outputs, the background included.
        label_offset: Output of the first class.
        orientation: What is done with the EXIF orientation, in words; empty in older exports.
        quantized: The input of uint8 and int8 files, in words; empty in older exports.
    """

    description: str
    shape: tuple[Count, Count, Count, Count]
    color: str
    range: tuple[Finite, Finite]
    mean: Finite
    std: Finite
    crop: str
    crop_fraction: Finite
    resize: str
    jpeg_decoder: str
    outputs: Count
    label_offset: WholeNumber
    labels: str
    orientation: str = ""
    quantized: str = ""

    @property
    def image_size(self) -> int:
        """S, pixels."""
        return self.shape[1]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, as it stands in metrics.json and inside the exported files."""
        return contracts.to_json(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The validation images that formats were compared on, if not all: `images` of `of` images.

    They are spread evenly over the records.
    """

    images: WholeNumber
    of: WholeNumber


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationSummary:
    """The images that the int8 ranges come from; `list` is the file that names them.

    Attributes:
        images_per_class: Fewest and most images of a class.
        sha256: SHA-256 of the list of indices.
    """

    images: WholeNumber
    images_per_class: tuple[WholeNumber, WholeNumber]
    sha256: str
    list: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """The origin of the weights.

    Attributes:
        weights_digest: Digest of the checkpoint; empty in older exports.
    """

    checkpoint_step: WholeNumber
    records_digest: str
    config_digest: str
    git_commit: str
    weights_digest: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDigest:
    """The identity of one file."""

    bytes: WholeNumber
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportMetrics:
    """`metrics.json` of an export. Fields with a default are absent in older exports.

    Attributes:
        weights: `ema` for the averages, `raw` for the weights of the last step.
        macs: Multiply-accumulates per image.
        formats: Accuracy by format, the reference included.
        files_by_format: File or folder of each format, relative to the export.
        sizes: Bytes by format.
        arena_bytes: Peak memory for activations by TF-Lite format.
        sample: The validation images that the accuracy is measured on; None for all of them.
        rejected: Unreadable images of the source, which are in neither split.
        versions: Versions of the packages that made the export.
        files: Every file but metrics.json itself, by path relative to the export.
        digest: Identity of the export: SHA-256 of its metrics.json.
    """

    variant: Annotated[Variant, AsText]
    recipe: str
    weights: Weights = "ema"
    macs: Count
    parameters: Count
    formats: dict[str, FormatMetrics]
    files_by_format: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, WholeNumber] = field(default_factory=dict)
    arena_bytes: dict[str, WholeNumber] = field(default_factory=dict)
    latency: Latencies
    input_contract: InputContract | None = None
    calibration: CalibrationSummary | None = None
    sample: Sample | None = None
    rejected: WholeNumber
    lineage: Lineage
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileDigest]
    digest: str = ""

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", storage.digest_of(self.to_json()))

    @property
    def checkpoint(self) -> FormatMetrics:
        """Accuracy of the reference."""
        return self.formats[REFERENCE]

    def to_json(self) -> dict[str, Any]:
        """Return what `metrics.json` holds."""
        return {name: value for name, value in contracts.to_json(self).items() if name != "digest"}

    @classmethod
    def from_json(cls, content: Any, path: str) -> ExportMetrics:
        """Return the metrics that the parsed content of `path` describes.

        Raises:
            DataError: The content has another form; the message names the first wrong place.
        """
        try:
            metrics = contracts.from_json(cls, _nested(content), path)
        except ContractError as error:
            raise DataError(f"{error}; delete the folder and export again") from None
        if REFERENCE not in metrics.formats:
            raise DataError(
                f"{path}.formats has no {REFERENCE!r}; delete the folder and export again"
            )
        return dataclasses.replace(metrics, digest=storage.digest_of(content))


def _nested(content: Any) -> Any:
    """Move the formats of `latency` below a key of their own."""
    if not isinstance(content, dict) or not isinstance(content.get("latency"), dict):
        return content
    latency = content["latency"]
    other = ("host", "threads")
    return {
        **content,
        "input_contract": content.get("input_contract") or None,
        "latency": {
            **{name: latency[name] for name in other if name in latency},
            "formats": {name: value for name, value in latency.items() if name not in other},
        },
    }
