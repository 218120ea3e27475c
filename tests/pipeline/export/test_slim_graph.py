"""The TF1 graph computes what the Keras network computes, for every kind of layer."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from pipeline.certificate.golden import inputs
from pipeline.export.conversion import slim_graph
from tests.training.models.tiny_family import TINY
from training.config import ModelConfig
from training.models.architecture import architecture
from training.models.families import FAMILIES
from training.models.mobilenet import mobilenet
from training.models.variants import Variant
from training.weights.slim_checkpoint import slim_variables


@pytest.mark.parametrize("name", ["tiny_1.0_32", "mobilenet_v2_0.35_96", "mobilenet_v1_0.25_128"])
def test_its_probabilities_are_those_of_the_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, TINY.name, TINY)
    variant = Variant.parse(name)
    layout = architecture(variant, 11)
    network = mobilenet(layout, ModelConfig(), resolution=variant.resolution)
    variables = slim_variables(network, layout)
    for scope, variable in variables.items():
        variable.assign(inputs.weights(scope, tuple(variable.shape)))
    images = inputs.images(3, 4, variant.resolution)
    expected = tf.nn.softmax(network(images, training=False)).numpy()

    values = {scope: variable.numpy() for scope, variable in variables.items()}
    with tf.Graph().as_default() as graph:
        frozen = slim_graph.frozen_graph(layout, variant.resolution, values)
        tf.graph_util.import_graph_def(frozen, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            output = slim_graph.output_name(layout)
            probabilities = session.run(output, {slim_graph.INPUT: images})
    assert np.ptp(expected, axis=1).min() > 0.01
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-5)
