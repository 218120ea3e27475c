"""The type of an export format; importing it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from pipeline.export.conversion.sources import ExportedNetwork, ExportSources
    from training.models.model_family import ModelFamily

# From `float32 [N, S, S, 3]` in [-1, 1] to probabilities `float32 [N, outputs]`.
Runner: TypeAlias = "Callable[[np.ndarray], np.ndarray]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """The largest difference that a format may have from its checkpoint."""

    max_top1_loss: float | None = None
    adjustable: bool = False


SAME_ANSWERS = Tolerance()


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportFormat:
    """One format: everything that exporter, tables, pages and benchmark need to know of it.

    Attributes:
        name: Key in metrics.json.
        title: Name in progress lines.
        file: File or folder in the export directory; `{variant}` is replaced.
        write: Write the file at a path from the sources of the export.
        open: Return a runner of the file at a path, in the runtime that its users have. The
            network tells what the file itself does not.
        tolerance: How far the format may differ from its checkpoint.
        is_tflite: LiteRT runs the file, so its latency and arena are measured.
        exists_for: Whether the networks of a family can have the format.
        label: Short name in the columns of tables, for example `int8`.
        shows_accuracy: Tables have a column with its top-1.
        shows_latency: Tables and plots have a column or series with its latency.
    """

    name: str
    title: str
    file: str
    write: Callable[[ExportSources, str], None]
    open: Callable[[str, ExportedNetwork], Runner]
    tolerance: Tolerance = SAME_ANSWERS
    is_tflite: bool = False
    exists_for: Callable[[ModelFamily], bool] = lambda family: True
    label: str = ""
    shows_accuracy: bool = False
    shows_latency: bool = False

    def file_of(self, variant: str) -> str:
        """Return the file's name in an export of `variant`."""
        return self.file.format(variant=variant)
