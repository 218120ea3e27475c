"""TF-Lite's formats: float32, float16, dynamic range, and full int8 with uint8 or int8 ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.export.formats.export_format import ExportFormat, Runner, Tolerance

if TYPE_CHECKING:
    from pipeline.export.conversion.sources import ExportedNetwork, ExportSources

FLOAT16_TOLERANCE = Tolerance(max_top1_loss=0.002)
QUANTIZED_TOLERANCE = Tolerance(max_top1_loss=0.02, adjustable=True)


def _tflite(name: str, suffix: str, *, bytes_per_weight: int, **options: Any) -> ExportFormat:
    """Return the format of one file that `conversion.tflite` makes.

    Args:
        name: The key in metrics.json and in what `conversion.tflite` returns.
        suffix: What the file's name adds to the variant's.
        bytes_per_weight: The size of a weight in the file.
        options: Other fields of the format.
    """

    def write(sources: ExportSources, path: str) -> None:
        from pipeline.export.conversion import structure, tflite_metadata
        from preprocessing import storage

        plain = sources.tflite_files[name]
        flatbuffer = tflite_metadata.add(
            plain,
            name=sources.variant.name,
            contract=sources.contract,
            labels=sources.labels,
        )
        structure.require_whole(
            name,
            flatbuffer,
            sources.layout,
            bytes_per_weight=bytes_per_weight,
            extra_bytes=len(flatbuffer) - len(plain),
        )
        storage.write_bytes(path, flatbuffer)

    def open_file(path: str, network: ExportedNetwork) -> Runner:
        from pipeline.export.conversion import runtimes

        return runtimes.of_tflite_file(path, name)

    return ExportFormat(
        name=name,
        title=f"TF-Lite, {name.removeprefix('tflite_').replace('_', ' ')}",
        file=f"{{variant}}{suffix}",
        write=write,
        open=open_file,
        is_tflite=True,
        **options,
    )


FLOAT32 = _tflite(
    "tflite_float32", ".tflite", bytes_per_weight=4, label="float", shows_latency=True
)
FLOAT16 = _tflite(
    "tflite_float16", "_float16.tflite", bytes_per_weight=2, tolerance=FLOAT16_TOLERANCE
)
DYNAMIC = _tflite(
    "tflite_dynamic", "_dynamic.tflite", bytes_per_weight=1, tolerance=QUANTIZED_TOLERANCE
)
INT8 = _tflite(
    "tflite_int8",
    "_int8.tflite",
    bytes_per_weight=1,
    tolerance=QUANTIZED_TOLERANCE,
    label="int8",
    shows_accuracy=True,
    shows_latency=True,
)
INT8_SIGNED = _tflite(
    "tflite_int8_signed", "_int8_signed.tflite", bytes_per_weight=1, tolerance=QUANTIZED_TOLERANCE
)
