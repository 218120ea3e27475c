"""A profile of a TF-Lite model: every operator timed on its own."""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from pipeline.export.latency import MIN_RUNS, timed_ms

WARM_UP_RUNS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorTime:
    """The time of one operator; `output` is the shape of its result."""

    op: str
    output: tuple[int, ...]
    median_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorSummary:
    """All operators of one type; `share` is their fraction of the time."""

    count: int
    ms: float
    share: float


def profile(flatbuffer: bytes) -> list[OperatorTime]:
    """Cut a model into models of one operator each and time those with one thread.

    LiteRT's own profiler cannot be reached from Python. Alone, an operator has warm caches and
    nothing to fuse with: shares are meaningful, but the sum is not quite the whole.

    Returns:
        The operators in the order of computation.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flatbuffer))
    graph = model.subgraphs[0]
    widened = {
        int(operator.outputs[0]): operator
        for operator in graph.operators
        if _is_constant(model, operator.inputs[0])
    }
    return [
        OperatorTime(
            op=flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex),
            output=tuple(int(side) for side in graph.tensors[operator.outputs[0]].shape),
            median_ms=_median_ms(_alone(model, operator, widened)),
        )
        for operator in graph.operators
        if int(operator.outputs[0]) not in widened
    ]


def by_type(profiled: list[OperatorTime]) -> dict[str, OperatorSummary]:
    """Return count, time and share of every type of operator, the most expensive first."""
    total = sum(operator.median_ms for operator in profiled)
    grouped: dict[str, list[float]] = defaultdict(list)
    for operator in profiled:
        grouped[operator.op].append(operator.median_ms)
    ordered = sorted(grouped.items(), key=lambda item: -sum(item[1]))
    return {
        op: OperatorSummary(
            count=len(times), ms=round(sum(times), 4), share=round(sum(times) / total, 4)
        )
        for op, times in ordered
    }


def _is_constant(model: Any, index: int) -> bool:
    data = model.buffers[model.subgraphs[0].tensors[index].buffer].data
    return data is not None and len(data) > 0


def _alone(model: Any, operator: Any, widened: dict[int, Any]) -> bytes:
    """Return a model of one operator, whose inputs are what earlier operators compute.

    Args:
        model: The whole model.
        operator: One of its operators.
        widened: Operators on constants by output, which make float32 of float16 weights. They
            become part of the model.
    """
    whole = model.subgraphs[0]
    kept = [*(widened[int(index)] for index in operator.inputs if int(index) in widened), operator]
    used = [int(index) for op in kept for index in (*op.inputs, *op.outputs) if index >= 0]
    number = {index: position for position, index in enumerate(dict.fromkeys(used))}
    tensors, buffers = [], [schema.BufferT()]
    for index in number:
        tensor = copy.copy(whole.tensors[index])
        tensor.buffer = len(buffers) if _is_constant(model, index) else 0
        if tensor.buffer:
            buffers.append(model.buffers[whole.tensors[index].buffer])
        tensors.append(tensor)
    operators = []
    for op in kept:
        copied = copy.copy(op)
        copied.inputs = [number.get(int(index), -1) for index in op.inputs]
        copied.outputs = [number[int(index)] for index in op.outputs]
        operators.append(copied)
    computed = {index for op in operators for index in op.outputs}
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
