"""The files of an export: written from one network, the TF-Lite ones checked to be whole."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from google.protobuf import text_format

from pipeline.export.formats import (
    onnx_model,
    runtimes,
    serving,
    slim_graph,
    structure,
    tflite,
    tflite_metadata,
)
from pipeline.export.formats.runtimes import Runner
from preprocessing import storage
from training.config import EvaluationConfig, ModelConfig
from training.models.layout import Architecture
from training.models.mobilenet import mobilenet
from training.models.variants import Variant
from training.optimization.state import TrainingState
from training.weights import keras_applications, slim_checkpoint
from training.weights.slim_checkpoint import slim_variables

SAVED_MODEL = "saved_model"
QUANTIZED = ("tflite_dynamic", "tflite_int8", "tflite_int8_signed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Artefacts:
    """What was written.

    Attributes:
        network: The reference, in memory.
        runners: Every format through its own runtime, read back from its file.
        files: File or folder by format, relative to the export.
        tflite: Contents of the TF-Lite files by format.
    """

    network: keras.Model
    runners: dict[str, Runner]
    files: dict[str, str]
    tflite: dict[str, bytes]


def write(
    folder: str,
    *,
    name: str,
    state: TrainingState,
    weights: str,
    evaluation: EvaluationConfig,
    contract: dict[str, Any],
    labels: bytes,
    calibration_images: np.ndarray,
    quantized: bool,
) -> Artefacts:
    """Write every format into `folder`.

    Args:
        folder: To write into.
        name: Of the variant; starts most file names.
        state: The trained run.
        weights: `ema` for the averages, `raw` for the weights of the last step.
        evaluation: How an image is prepared, for the signature that takes encoded ones.
        contract: The input contract, see `pipeline.export.input_contract`.
        labels: Content of `labels.txt`.
        calibration_images: `float32 [M, S, S, 3]` in [-1, 1].
        quantized: The run rounded while training; its float files do not.

    Raises:
        CheckFailedError: A TF-Lite file lacks operators or weights.
    """
    layout, size = state.layout, contract["shape"][1]
    raw, averages = (_values(each, layout) for each in (state.model, state.averaged_model))
    values = averages if weights == "ema" else raw
    network = _plain(layout, values, size)

    def path(file: str) -> str:
        return os.path.join(folder, file)

    _say("the checkpoint and its graphs")
    slim_checkpoint.write(path(f"{name}.ckpt"), raw, averages, state.step)
    graph = slim_graph.eval_graph(layout, size, values, averaged=weights == "ema")
    storage.write_bytes(path(f"{name}.ckpt.meta"), graph.SerializeToString(deterministic=True))
    text = text_format.MessageToString(graph.graph_def)
    storage.write_bytes(path(f"{name}_eval.pbtxt"), text.encode())
    frozen = slim_graph.frozen_graph(layout, size, values)
    storage.write_bytes(path(f"{name}_frozen.pb"), frozen.SerializeToString(deterministic=True))
    storage.write_bytes(path(f"{name}_info.txt"), _info(name, layout, weights, contract))
    storage.write_bytes(path("labels.txt"), labels)

    _say("SavedModel, .keras and weights for keras.applications")
    serving.write_saved_model(network, path(SAVED_MODEL), evaluation)
    serving.write_keras(network, path(f"{name}.keras"))
    variant, weights_file = Variant.parse(name), f"{name}.weights.h5"
    keras_applications.write_weights(path(weights_file), network, variant, layout)

    _say("ONNX")
    output = slim_graph.output_name(layout)
    converted = onnx_model.convert(
        frozen, name=name, output=output, contract=contract, labels=labels
    )
    storage.write_bytes(path(f"{name}.onnx"), converted)

    _say(f"TF-Lite, calibrated on {len(calibration_images)} training images")
    flatbuffers = {}
    for key, plain in tflite.convert(network, calibration_images).items():
        flatbuffer = tflite_metadata.add(plain, name=name, contract=contract, labels=labels)
        structure.require_whole(key, flatbuffer, layout, extra_bytes=len(flatbuffer) - len(plain))
        storage.write_bytes(path(f"{name}{tflite.SUFFIXES[key]}"), flatbuffer)
        flatbuffers[key] = flatbuffer

    return Artefacts(
        network=network if quantized else _original(state, weights),
        runners={
            "saved_model": runtimes.of_saved_model(path(SAVED_MODEL)),
            "keras": runtimes.of_keras_file(path(f"{name}.keras")),
            "keras_applications": runtimes.of_keras_weights(
                path(weights_file), variant, layout.classifier.out_channels
            ),
            "frozen_graph": runtimes.of_frozen_graph(path(f"{name}_frozen.pb"), output),
            "onnx": runtimes.of_onnx(path(f"{name}.onnx")),
            **{key: runtimes.of_tflite(each, key) for key, each in flatbuffers.items()},
        },
        files={
            "checkpoint": f"{name}.ckpt.data-00000-of-00001",
            "saved_model": SAVED_MODEL,
            "keras": f"{name}.keras",
            "keras_applications": weights_file,
            "frozen_graph": f"{name}_frozen.pb",
            "onnx": f"{name}.onnx",
            **{key: f"{name}{tflite.SUFFIXES[key]}" for key in flatbuffers},
        },
        tflite=flatbuffers,
    )


def _original(state: TrainingState, weights: str) -> keras.Model:
    """The network as it was trained; what is exported is a copy of it made of plain layers."""
    return state.averaged_model if weights == "ema" else state.model


def _values(model: keras.Model, layout: Architecture) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in slim_variables(model, layout).items()}


def _plain(layout: Architecture, values: dict[str, np.ndarray], size: int) -> keras.Model:
    """The network of Keras' own layers, which everyone can load, with these weights."""
    network = mobilenet(
        layout,
        ModelConfig(weight_decay=0.0),
        resolution=size,
        batch_normalization=keras.layers.BatchNormalization,
    )
    for name, variable in slim_variables(network, layout).items():
        variable.assign(values[name])
    return network


def _info(name: str, layout: Architecture, weights: str, contract: dict[str, Any]) -> bytes:
    """What the published info file says, names of input and output, and the contract."""
    lines = {
        "Model": name,
        "Input": slim_graph.INPUT,
        "Output": slim_graph.output_name(layout),
        "Weights": weights,
        "MACs": layout.macs,
        "Parameters": layout.parameters,
        **{f"Input {key}": value for key, value in contract.items()},
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items()).encode()


def _say(what: str) -> None:
    print(f"export: {what}", file=sys.stderr, flush=True)
