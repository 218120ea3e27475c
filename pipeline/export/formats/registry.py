"""The registry of export formats. To add one, write its object and list it here."""

from __future__ import annotations

from pipeline.export.formats import keras_files, onnx_file, tensorflow_files, tflite_files
from pipeline.export.formats.export_format import ExportFormat

# In the order in which they are written and listed.
EXPORT_FORMATS: list[ExportFormat] = [
    tensorflow_files.SAVED_MODEL,
    keras_files.KERAS,
    keras_files.KERAS_APPLICATIONS,
    tensorflow_files.FROZEN_GRAPH,
    onnx_file.ONNX,
    tflite_files.FLOAT32,
    tflite_files.FLOAT16,
    tflite_files.DYNAMIC,
    tflite_files.INT8,
    tflite_files.INT8_SIGNED,
]


def accuracy_columns() -> list[ExportFormat]:
    """Return the formats whose top-1 is a column of the tables."""
    return [export_format for export_format in EXPORT_FORMATS if export_format.shows_accuracy]


def latency_columns() -> list[ExportFormat]:
    """Return the formats whose latency is a column of the tables."""
    return [export_format for export_format in EXPORT_FORMATS if export_format.shows_latency]


def tflite_formats() -> list[ExportFormat]:
    """Return the formats that LiteRT runs."""
    return [export_format for export_format in EXPORT_FORMATS if export_format.is_tflite]
