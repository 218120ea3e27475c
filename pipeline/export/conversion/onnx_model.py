"""The conversion of the frozen graph to ONNX by tf2onnx; the same graph gives the same bytes."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import onnx
import tensorflow as tf
import tf2onnx

from pipeline.export.conversion import slim_graph

OPSET = 18  # the newest that tf2onnx 1.17 writes
_NUMBERED = re.compile(r"(.*)__\d+:0")  # a tensor that tf2onnx added before the one of this name


def convert(
    frozen: tf.compat.v1.GraphDef,
    *,
    name: str,
    output: str,
    contract: dict[str, Any],
    labels: bytes,
) -> bytes:
    """Return the content of an `.onnx` file.

    Its input is `input:0`, `float32 [N, S, S, 3]` in [-1, 1]; its output is that of the frozen
    graph, `float32 [N, outputs]`. Labels and input contract are in its metadata.

    Args:
        frozen: The graph of `slim_graph.frozen_graph`.
        name: The name of the variant.
        output: The frozen graph's tensor of probabilities.
        contract: The input contract as JSON.
        labels: Content of `labels.txt`.
    """
    logging.disable(logging.WARNING)  # both libraries warn of calls inside themselves
    try:
        model, _ = tf2onnx.convert.from_graph_def(
            frozen, input_names=[slim_graph.INPUT], output_names=[output], opset=OPSET
        )
    finally:
        logging.disable(logging.NOTSET)
    _name_by_place(model.graph)
    model.graph.name = name
    onnx.helper.set_model_props(
        model, {"input_contract": json.dumps(contract), "labels": labels.decode()}
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _name_by_place(graph: onnx.GraphProto) -> None:
    """Give nodes and constants names and an order that follow from the graph alone.

    tf2onnx numbers names with a counter of the process, and keeps an arbitrary one of equal
    constants. Here a node that tf2onnx added is named after its operator and the node that it
    serves, and a constant is named after the first node that takes it.
    """
    constants = {constant.name for constant in graph.initializer}
    names: dict[str, str] = {}
    for node in graph.node:
        (tensor,) = node.output
        numbered = _NUMBERED.fullmatch(tensor)
        node.name = f"{numbered[1]}/{node.op_type}" if numbered else tensor.removesuffix(":0")
        names[tensor] = f"{node.name}:0"
        parameters = onnx.defs.get_schema(node.op_type).inputs
        for parameter, name in zip(parameters, node.input, strict=False):
            if name in constants:
                names.setdefault(name, f"{node.name}/{parameter.name}")
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
    for constant in graph.initializer:
        constant.name = names[constant.name]
    ordered = sorted(graph.initializer, key=lambda constant: constant.name)
    del graph.initializer[:]
    graph.initializer.extend(ordered)
    del graph.value_info[:]  # shapes of intermediate tensors, which every runtime infers
    for public in (*graph.input, *graph.output):
        public.type.tensor_type.shape.dim[0].dim_param = "N"
