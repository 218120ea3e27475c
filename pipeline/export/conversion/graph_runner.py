"""Networks of TensorFlow, run as graphs of constants, and recognised by what they compute."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

SIGNATURE = "classify"


class GraphRunner:
    """A graph from images to probabilities, run by a TF1 session on one thread.

    TensorFlow folds constants into the convolutions and so needs a third less time than for
    variables.

    Attributes:
        fingerprint: Equal for graphs that compute the same.
    """

    def __init__(self, definition: tf.compat.v1.GraphDef, source: str, output: str) -> None:
        """Load a graph.

        Args:
            definition: The graph, without variables.
            source: The tensor of images, `float32 [N, S, S, 3]`.
            output: The tensor of probabilities, `float32 [N, outputs]`.
        """
        self._source, self._output = source, output
        self.fingerprint = _fingerprint(definition, output)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(definition, name="")
        one_thread = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
        )
        self._session = tf.compat.v1.Session(graph=graph, config=one_thread)

    @classmethod
    def of(cls, function: Callable[[tf.Tensor], tf.Tensor], size: int) -> GraphRunner:
        """Return a runner of a function with variables.

        Args:
            function: From images to probabilities.
            size: S, pixels.
        """
        images = tf.TensorSpec((None, size, size, 3), tf.float32)
        concrete = tf.function(function, input_signature=[images]).get_concrete_function()
        frozen = convert_variables_to_constants_v2(concrete)
        return cls(frozen.graph.as_graph_def(), frozen.inputs[0].name, frozen.outputs[0].name)

    @classmethod
    def from_bytes(cls, content: bytes) -> GraphRunner:
        """Return the runner that gave `to_bytes`."""
        meta = tf.compat.v1.MetaGraphDef.FromString(content)
        signature = meta.signature_def[SIGNATURE]
        return cls(
            meta.graph_def, signature.inputs["images"].name, signature.outputs["probabilities"].name
        )

    def to_bytes(self) -> bytes:
        """Return the graph and the names of its ends."""
        meta = tf.compat.v1.MetaGraphDef(graph_def=self._session.graph.as_graph_def())
        signature = meta.signature_def[SIGNATURE]
        signature.inputs["images"].name = self._source
        signature.outputs["probabilities"].name = self._output
        content: bytes = meta.SerializeToString(deterministic=True)
        return content

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities of images."""
        return np.asarray(self._session.run(self._output, {self._source: images}))


def _fingerprint(definition: tf.compat.v1.GraphDef, output: str) -> str:
    """Return a digest of what a graph computes: equal for graphs that differ in names alone."""
    nodes = {node.name: node for node in definition.node}
    digests: dict[str, str] = {}

    def digest(tensor: str) -> str:
        name, _, port = tensor.partition(":")
        if nodes[name].op == "Identity":
            return digest(nodes[name].input[0])
        return f"{digests[name]}:{port or 0}"

    for name in _in_order(nodes, output.partition(":")[0]):
        node = nodes[name]
        if node.op == "Identity":
            continue
        parts = [node.op.encode()]
        if node.op != "Placeholder":
            parts += [
                key.encode() + value.SerializeToString(deterministic=True)
                for key, value in sorted(node.attr.items())
                if not key.startswith("_")
            ]
        parts += [digest(tensor).encode() for tensor in _inputs(node)]
        digests[name] = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return digest(output)


def _in_order(nodes: dict[str, tf.compat.v1.NodeDef], last: str) -> list[str]:
    """Return the nodes that `last` needs, each after its inputs."""
    order: dict[str, None] = {}
    waiting = [last]
    while waiting:
        name = waiting[-1]
        missing = [
            before
            for tensor in _inputs(nodes[name])
            if (before := tensor.partition(":")[0]) not in order
        ]
        if missing:
            waiting += missing
        else:
            order[name] = None
            waiting.pop()
    return list(order)


def _inputs(node: tf.compat.v1.NodeDef) -> list[str]:
    """Return the tensors that a node takes, without control dependencies."""
    return [tensor for tensor in node.input if not tensor.startswith("^")]
