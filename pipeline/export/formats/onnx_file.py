"""ONNX, converted from the frozen graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.export.formats.export_format import ExportFormat, Runner

if TYPE_CHECKING:
    from pipeline.export.conversion.sources import ExportedNetwork, ExportSources


def _write(sources: ExportSources, path: str) -> None:
    from pipeline.export.conversion import onnx_model
    from preprocessing import storage

    content = onnx_model.convert(
        sources.frozen_graph,
        name=sources.variant.name,
        output=sources.graph_output,
        contract=sources.contract.to_json(),
        labels=sources.labels,
    )
    storage.write_bytes(path, content)


def _open(path: str, network: ExportedNetwork) -> Runner:
    from pipeline.export.conversion import runtimes

    return runtimes.of_onnx(path)


ONNX = ExportFormat(name="onnx", title="ONNX", file="{variant}.onnx", write=_write, open=_open)
