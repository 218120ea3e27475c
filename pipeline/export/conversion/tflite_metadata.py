"""TF-Lite metadata, by which standard vision tools normalise an image and name the classes.

A flatbuffer of TF-Lite's `metadata_schema.fbs` is stored inside the model under the name
TFLITE_METADATA, and the files that it mentions follow the model as an uncompressed zip.
`tflite-support`, which wrote these, cannot be installed with a current protobuf; the schema is
small.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from pipeline.export.directory import LABELS
from pipeline.export.metrics import InputContract
from preprocessing.errors import DataError

NAME = "TFLITE_METADATA"
CONTRACT = "input_contract.json"
MIN_PARSER_VERSION = "1.0.0"
_FILE_IDENTIFIER = b"M001"
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
# Numbers of metadata_schema.fbs.
_TENSOR_AXIS_LABELS, _DESCRIPTIONS = 2, 1
_RGB = 1
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = 2, 1
_NORMALIZATION_OPTIONS = 1
_BYTES = {
    schema.TensorType.UINT8: " Stored as uint8: the pixels as they are, 0 to 255.",
    schema.TensorType.INT8: " Stored as int8: the pixels minus 128, -128 to 127.",
}


def add(flatbuffer: bytes, *, name: str, contract: InputContract, labels: bytes) -> bytes:
    """Return the model with metadata, labels and input contract inside.

    Args:
        flatbuffer: A model of one image input and one output of scores.
        name: The name that tools show.
        contract: The input contract, which also goes in whole, as `input_contract.json`.
        labels: Content of `labels.txt`; line i, counted from 0, names output i.

    The same arguments give the same bytes.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    buffer = schema.BufferT()
    graph = model.subgraphs[0]
    input_type = graph.tensors[graph.inputs[0]].type
    buffer.data = list(_metadata(name, contract, input_type, _has_quantized_output(model)))
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    files = {LABELS: labels, CONTRACT: json.dumps(contract.to_json(), indent=2).encode()}
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)) + _zipped(files)


def read_files(flatbuffer: bytes) -> dict[str, bytes]:
    """Return the files inside a model, by name.

    Raises:
        DataError: The model carries no files, or it is cut short.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(flatbuffer)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise DataError(
            "the model carries no labels and no input contract, or is cut short; "
            "fetch or export it again"
        ) from error


def _zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)
    return packed.getvalue()


def _has_quantized_output(model: Any) -> bool:
    """Return whether the output is quantised."""
    graph = model.subgraphs[0]
    return graph.tensors[graph.outputs[0]].type != schema.TensorType.FLOAT32


def _metadata(name: str, contract: InputContract, input_type: int, quantized: bool) -> bytes:
    """Return the `ModelMetadata` flatbuffer; field numbers are those of metadata_schema.fbs."""
    builder = flatbuffers.Builder(1024)
    text = builder.CreateString
    input_tensor = _input_tensor(builder, contract, input_type, quantized)
    output_tensor = _output_tensor(builder)
    graph = _table(
        builder, 10, {2: _vector(builder, [input_tensor]), 3: _vector(builder, [output_tensor])}
    )
    described = _associated_file(
        builder, CONTRACT, "How an image becomes the input.", _DESCRIPTIONS
    )
    root = _table(
        builder,
        8,
        {
            0: text(name),
            1: text(f"Image classifier {name}."),
            2: text("v1"),
            3: _vector(builder, [graph]),
            6: _vector(builder, [described]),
            7: text(MIN_PARSER_VERSION),
        },
    )
    builder.Finish(root, file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


def _input_tensor(
    builder: flatbuffers.Builder, contract: InputContract, input_type: int, quantized: bool
) -> int:
    """Add the `TensorMetadata` of the image."""
    text = builder.CreateString
    image_size = _table(
        builder,
        2,
        {},
        scalars=dict.fromkeys((0, 1), (builder.PrependUint32Slot, contract.image_size)),
    )
    image = _table(builder, 2, {1: image_size}, scalars={0: (builder.PrependInt8Slot, _RGB)})
    normalization = _table(
        builder,
        2,
        {0: _floats(builder, [contract.mean]), 1: _floats(builder, [contract.std])},
    )
    unit = _union_table(builder, 2, _NORMALIZATION_OPTIONS, normalization)
    low, high = (0.0, 255.0) if quantized else contract.range
    return _table(
        builder,
        7,
        {
            0: text("image"),
            1: text(f"{contract.description}{_BYTES.get(input_type, '')}"),
            3: _union_table(builder, 3, _IMAGE_PROPERTIES, image),
            4: _vector(builder, [unit]),
            5: _table(builder, 2, {0: _floats(builder, [high]), 1: _floats(builder, [low])}),
        },
    )


def _output_tensor(builder: flatbuffers.Builder) -> int:
    """Add the `TensorMetadata` of the probabilities."""
    text = builder.CreateString

    def labels() -> int:  # called in the order of the fields, from which the bytes follow
        description = "Line i, counted from 0, names output i."
        return _associated_file(builder, LABELS, description, _TENSOR_AXIS_LABELS)

    return _table(
        builder,
        7,
        {
            0: text("probability"),
            1: text("Probability of every class; output 0 is the background, which is no class."),
            3: _union_table(builder, 3, _FEATURE_PROPERTIES, _table(builder, 0, {})),
            5: _table(builder, 2, {0: _floats(builder, [1.0]), 1: _floats(builder, [0.0])}),
            6: _vector(builder, [labels()]),
        },
    )


def _associated_file(builder: flatbuffers.Builder, file: str, description: str, kind: int) -> int:
    """Add an `AssociatedFile`."""
    fields = {0: builder.CreateString(file), 1: builder.CreateString(description)}
    return _table(builder, 5, fields, scalars={2: (builder.PrependInt8Slot, kind)})


Scalars = dict[int, tuple[Callable[[int, int, int], None], int]]


def _table(
    builder: flatbuffers.Builder,
    num_fields: int,
    offsets: dict[int, int],
    scalars: Scalars | None = None,
) -> int:
    """Add a table with these fields; all others keep their defaults."""
    builder.StartObject(num_fields)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, (prepend, value) in (scalars or {}).items():
        prepend(field, value, 0)
    return int(builder.EndObject())


def _union_table(builder: flatbuffers.Builder, num_fields: int, kind: int, value: int) -> int:
    """Add a table whose first two fields are a union: its kind and its value."""
    return _table(builder, num_fields, {1: value}, {0: (builder.PrependUint8Slot, kind)})


def _vector(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: flatbuffers.Builder, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
