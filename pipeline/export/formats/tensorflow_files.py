"""TensorFlow's formats: the SavedModel and the frozen graph of TF1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.export.formats.export_format import ExportFormat, Runner

if TYPE_CHECKING:
    from pipeline.export.conversion.sources import ExportedNetwork, ExportSources


def _write_saved_model(sources: ExportSources, path: str) -> None:
    from pipeline.export.conversion import serving

    serving.write_saved_model(sources.network, path, sources.evaluation)


def _open_saved_model(path: str, network: ExportedNetwork) -> Runner:
    from pipeline.export.conversion import runtimes

    return runtimes.of_saved_model(path)


def _write_frozen_graph(sources: ExportSources, path: str) -> None:
    from preprocessing import storage

    storage.write_bytes(path, sources.frozen_graph.SerializeToString(deterministic=True))


def _open_frozen_graph(path: str, network: ExportedNetwork) -> Runner:
    from pipeline.export.conversion import runtimes

    return runtimes.of_frozen_graph(path, network.graph_output)


SAVED_MODEL = ExportFormat(
    name="saved_model",
    title="SavedModel",
    file="saved_model",
    write=_write_saved_model,
    open=_open_saved_model,
)
FROZEN_GRAPH = ExportFormat(
    name="frozen_graph",
    title="frozen graph",
    file="{variant}_frozen.pb",
    write=_write_frozen_graph,
    open=_open_frozen_graph,
)
