"""The sources of an export: one trained network in every form that a format starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np
import tensorflow as tf

from pipeline.export.conversion import slim_graph, tflite
from pipeline.export.metrics import InputContract, Weights
from training.config import EvaluationConfig, ModelConfig
from training.models.architecture import architecture
from training.models.layout import Architecture
from training.models.mobilenet import mobilenet
from training.models.variants import Variant
from training.optimization.state import TrainingState
from training.weights.slim_checkpoint import slim_variables


@dataclass(frozen=True, kw_only=True)
class ExportedNetwork:
    """A network without its weights: what opening a file takes besides the file.

    Attributes:
        variant: The network's name.
        contract: The input contract.
    """

    variant: Variant
    contract: InputContract

    @cached_property
    def layout(self) -> Architecture:
        """The network's layers."""
        return architecture(self.variant, self.num_outputs)

    @property
    def num_outputs(self) -> int:
        """Classes and the background."""
        return self.contract.outputs

    @property
    def image_size(self) -> int:
        """S, pixels."""
        return self.contract.image_size

    @property
    def graph_output(self) -> str:
        """The frozen graph's tensor of probabilities."""
        return slim_graph.output_name(self.layout)


@dataclass(frozen=True, kw_only=True)
class ExportSources(ExportedNetwork):
    """A trained network, and what its files say of themselves.

    Attributes:
        state: The trained run.
        weights: Which weights are exported.
        evaluation: The preparation of an image, for formats that take encoded ones.
        labels: Content of `labels.txt`.
        calibration_images: Images `float32 [S, S, 3]` in [-1, 1].
        quantized: Whether the run rounded while it trained; its float files do not round.
    """

    state: TrainingState
    weights: Weights
    evaluation: EvaluationConfig
    labels: bytes
    calibration_images: Iterable[np.ndarray]
    quantized: bool

    @cached_property
    def raw_values(self) -> dict[str, np.ndarray]:
        """The weights of the last step by slim name."""
        return _values(self.state.model, self.layout)

    @cached_property
    def averages(self) -> dict[str, np.ndarray]:
        """The moving averages by slim name."""
        return _values(self.state.averaged_model, self.layout)

    @property
    def values(self) -> Mapping[str, np.ndarray]:
        """The exported weights by slim name."""
        return self.averages if self.weights == "ema" else self.raw_values

    @cached_property
    def network(self) -> keras.Model:
        """The network of Keras' own layers, which every Keras can load, from images to logits."""
        network = mobilenet(
            self.layout,
            ModelConfig(weight_decay=0.0),
            resolution=self.image_size,
            batch_normalization=keras.layers.BatchNormalization,
        )
        for name, variable in slim_variables(network, self.layout).items():
            variable.assign(self.values[name])
        return network

    @property
    def reference(self) -> keras.Model:
        """The network that formats are compared with: as it was trained, if it did not round."""
        if self.quantized:
            return self.network
        return self.state.averaged_model if self.weights == "ema" else self.state.model

    @cached_property
    def frozen_graph(self) -> tf.compat.v1.GraphDef:
        """The TF1 graph with constant weights."""
        return slim_graph.frozen_graph(self.layout, self.image_size, self.values)

    def freeze(self) -> None:
        """Build the frozen graph now, before any format is written.

        TensorFlow numbers the functions in a SavedModel by the ops that the process has made so
        far, so a fixed order keeps its bytes the same from version to version.
        """
        _ = self.frozen_graph

    @cached_property
    def tflite_files(self) -> dict[str, bytes]:
        """TF-Lite flatbuffers by format, without metadata; all come from one trace."""
        return tflite.convert(self.network, self.calibration_images)


def _values(model: keras.Model, layout: Architecture) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in slim_variables(model, layout).items()}
