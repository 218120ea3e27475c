"""The frozen graph as ONNX, converted by tf2onnx: the same bytes each time."""

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
_NUMBERED = re.compile(r"(.*)__\d+:0")  # a tensor that tf2onnx added before the one of that name


def convert(
    frozen: tf.compat.v1.GraphDef,
    *,
    name: str,
    output: str,
    contract: dict[str, Any],
    labels: bytes,
) -> bytes:
    """Contents of an `.onnx` file.

    Input `input:0`, `float32 [N, S, S, 3]` in [-1, 1]; output as in the frozen graph,
    `float32 [N, outputs]`. Labels and input contract are in its metadata.

    Args:
        frozen: See `slim_graph.frozen_graph`.
        name: Of the variant.
        output: The frozen graph's tensor of probabilities.
        contract: See `pipeline.export.input_contract`.
        labels: Content of `labels.txt`.
    """
    logging.disable(logging.WARNING)  # both libraries speak of calls that are not ours to change
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
    """Names and order that follow from the graph alone.

    tf2onnx numbers names with a counter of the process, and of equal constants keeps any one.
    Here a node that it added is named after the one it serves and its operator, a constant after
    the first node that takes it.
    """
    constants = {each.name for each in graph.initializer}
    names: dict[str, str] = {}
    for node in graph.node:
        (tensor,) = node.output
        numbered = _NUMBERED.fullmatch(tensor)
        node.name = f"{numbered[1]}/{node.op_type}" if numbered else tensor.removesuffix(":0")
        names[tensor] = f"{node.name}:0"
        parameters = onnx.defs.get_schema(node.op_type).inputs
        for parameter, each in zip(parameters, node.input, strict=False):
            if each in constants:
                names.setdefault(each, f"{node.name}/{parameter.name}")
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(each, each) for each in tensors]
    for constant in graph.initializer:
        constant.name = names[constant.name]
    ordered = sorted(graph.initializer, key=lambda each: each.name)
    del graph.initializer[:]
    graph.initializer.extend(ordered)
    del graph.value_info[:]  # shapes in between, which every runtime infers
    for public in (*graph.input, *graph.output):
        public.type.tensor_type.shape.dim[0].dim_param = "N"
