"""Where a TF-Lite model spends its time: every operator timed on its own."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from pipeline.export.latency import MIN_RUNS, timed_ms

WARM_UP_RUNS = 3


def profile(flatbuffer: bytes) -> list[dict[str, Any]]:
    """Cut a model into models of one operator each and time those, one thread.

    LiteRT's own profiler cannot be reached from Python. Alone, an operator has warm caches and
    nothing to fuse with: shares are meaningful, the sum is not quite the whole.

    Returns:
        In the order of computation: `op`, `output` (its shape) and `median_ms`.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    graph = model.subgraphs[0]
    widened = {
        int(operator.outputs[0]): operator
        for operator in graph.operators
        if _is_constant(model, operator.inputs[0])
    }
    return [
        {
            "op": flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex),
            "output": [int(side) for side in graph.tensors[operator.outputs[0]].shape],
            "median_ms": _median_ms(_alone(model, operator, widened)),
        }
        for operator in graph.operators
        if int(operator.outputs[0]) not in widened
    ]


def by_type(profiled: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Count, time and share of every type of operator, most expensive first."""
    total = sum(each["median_ms"] for each in profiled)
    grouped: dict[str, list[float]] = defaultdict(list)
    for each in profiled:
        grouped[each["op"]].append(each["median_ms"])
    ordered = sorted(grouped.items(), key=lambda item: -sum(item[1]))
    return {
        op: {
            "count": len(times),
            "ms": round(sum(times), 4),
            "share": round(sum(times) / total, 4),
        }
        for op, times in ordered
    }


def _is_constant(model: Any, index: int) -> bool:
    data = model.buffers[model.subgraphs[0].tensors[index].buffer].data
    return data is not None and len(data) > 0


def _alone(model: Any, operator: Any, widened: dict[int, Any]) -> bytes:
    """A model of this operator; what earlier ones compute becomes its input.

    Args:
        model: The whole.
        operator: One of its operators.
        widened: Operators on constants, by output: float16 weights made float32. They come along.
    """
    whole = model.subgraphs[0]
    kept = [*(widened[int(each)] for each in operator.inputs if int(each) in widened), operator]
    used = [int(index) for each in kept for index in (*each.inputs, *each.outputs) if index >= 0]
    number = {index: position for position, index in enumerate(dict.fromkeys(used))}
    tensors, buffers = [], [schema.BufferT()]
    for index in number:
        tensor = copy.copy(whole.tensors[index])
        tensor.buffer = len(buffers) if _is_constant(model, index) else 0
        if tensor.buffer:
            buffers.append(model.buffers[whole.tensors[index].buffer])
        tensors.append(tensor)
    operators = []
    for each in kept:
        copied = copy.copy(each)
        copied.inputs = [number.get(int(index), -1) for index in each.inputs]
        copied.outputs = [number[int(index)] for index in each.outputs]
        operators.append(copied)
    computed = {index for each in operators for index in each.outputs}
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = tensors, operators
    graph.inputs = [
        index
        for index in operators[-1].inputs
        if index >= 0 and index not in computed and not tensors[index].buffer
    ]
    graph.outputs = list(operators[-1].outputs)
    cut = schema.ModelT()
    cut.version, cut.operatorCodes = model.version, model.operatorCodes
    cut.subgraphs, cut.buffers = [graph], buffers
    return bytes(flatbuffer_utils.convert_object_to_bytearray(cut))


def _median_ms(flatbuffer: bytes) -> float:
    interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], np.ones(details["shape"], details["dtype"]))
    times = timed_ms(interpreter.invoke, warm_up_runs=WARM_UP_RUNS, max_runs=MIN_RUNS)
    return round(float(np.median(times)), 5)
