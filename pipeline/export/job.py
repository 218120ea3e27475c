"""The order for an export, and what its conversion returns; TensorFlow is not imported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.export.formats.export_format import ExportFormat
from pipeline.export.formats.registry import EXPORT_FORMATS
from pipeline.export.metrics import (
    CalibrationSummary,
    ExportMetrics,
    InputContract,
    Sample,
    Weights,
)
from preprocessing.errors import UsageError, did_you_mean
from preprocessing.records.schema import Manifest
from training.models.variants import Variant
from training.workdir.run_record import Run
from training.workdir.workdir import Workdir

CHUNK = 100  # images that are compared and kept at once
VERSIONED_PACKAGES = ("ai-edge-litert", "keras", "mobilenet-pipeline", "tensorflow")


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """A run to export, and how far formats may differ.

    Attributes:
        workdir: The run; its newest checkpoint is exported.
        records: The records, with validation images to compare on and training images to
            calibrate with.
        run: `config.json` of `workdir`.
        manifest: `dataset.json` of `records`.
        weights: Which weights are exported.
        int8_tolerance: The fraction of top-1 that quantised formats may lose; None takes each
            format's own.
        formats: The names of the formats to export; empty for all.
        validation_images: The number of validation images to compare on; None for all.

    Raises:
        UsageError: There is no such format of this variant, there are not so many images, or the
            tolerance is no fraction.
    """

    workdir: Workdir
    records: str
    run: Run
    manifest: Manifest
    weights: Weights = "ema"
    int8_tolerance: float | None = None
    formats: tuple[str, ...] = ()
    validation_images: int | None = None

    def __post_init__(self) -> None:
        names = [export_format.name for export_format in EXPORT_FORMATS]
        for name in self.formats:
            if name not in names:
                raise UsageError(f"there is no format {name!r}; {did_you_mean(name, names)}")
            if name not in [item.name for item in self._existing]:
                raise UsageError(
                    f"a {self.variant.family} has no {name}; export "
                    f"{', '.join(item.name for item in self._existing)}"
                )
        if self.int8_tolerance is not None and not 0 <= self.int8_tolerance <= 1:
            raise UsageError(
                "the tolerance of int8 formats is a fraction of top-1, from 0 to 1 instead of "
                f"{self.int8_tolerance}"
            )
        available = self.manifest.num_examples("validation")
        if not available:
            raise UsageError(
                f"{self.records} has no validation images, on which the formats are compared; "
                "export with records that have some"
            )
        if self.validation_images is not None and not 0 < self.validation_images <= available:
            raise UsageError(
                f"{self.records} has {available} validation images; compare on 1 to {available} "
                f"of them instead of {self.validation_images}"
            )

    @property
    def variant(self) -> Variant:
        """The variant that the run trains."""
        return self.run.config.variant

    @property
    def export_formats(self) -> list[ExportFormat]:
        """The formats to export, in the order of the registry."""
        return [item for item in self._existing if not self.formats or item.name in self.formats]

    @property
    def _existing(self) -> list[ExportFormat]:
        family = self.variant.model_family
        return [item for item in EXPORT_FORMATS if item.exists_for(family)]

    @property
    def sample(self) -> Sample | None:
        """The sample that formats are compared on; None if it is all validation images."""
        available = self.manifest.num_examples("validation")
        if self.validation_images in (None, available):
            return None
        return Sample(images=self.validation_images, of=available)

    @property
    def num_images(self) -> int:
        """N, the number of validation images to compare on."""
        return self.validation_images or self.manifest.num_examples("validation")

    @property
    def positions(self) -> np.ndarray:
        """`int64 [N]`: the validation images to compare on, spread evenly over the split."""
        available = self.manifest.num_examples("validation")
        return np.arange(self.num_images, dtype=np.int64) * available // self.num_images

    def is_covered_by(self, metrics: ExportMetrics) -> bool:
        """Return whether an export has all these formats, compared on all these images."""
        return {item.name for item in self.export_formats} <= {*metrics.formats} and (
            metrics.sample in (None, self.sample)
        )

    @property
    def num_chunks(self) -> int:
        """The number of chunks of images."""
        return -(-self.num_images // CHUNK)


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """What is known once every file is written.

    Attributes:
        step: The checkpoint's step.
        weights_digest: The checkpoint's digest.
        macs: Multiply-accumulates per image.
        files: File or folder of the checkpoint and of each format, relative to the export.
    """

    step: int
    weights_digest: str
    macs: int
    parameters: int
    contract: InputContract
    calibration: CalibrationSummary
    files: dict[str, str]
