"""The published archive's TF1 files: slim checkpoint, its graphs, the info file and labels."""

from __future__ import annotations

import os

from google.protobuf import text_format

from pipeline.export import directory
from pipeline.export.conversion import slim_graph
from pipeline.export.conversion.sources import ExportSources
from preprocessing import storage
from training.weights import slim_checkpoint


def checkpoint_file(variant: str) -> str:
    """Return the name of the file that holds the checkpoint's weights."""
    return f"{variant}.ckpt.data-00000-of-00001"


def write(folder: str, sources: ExportSources) -> None:
    """Write the checkpoint and what belongs to it into `folder`."""
    prefix = os.path.join(folder, sources.variant.name)
    slim_checkpoint.write(
        f"{prefix}.ckpt", sources.raw_values, sources.averages, sources.state.step
    )
    graph = slim_graph.eval_graph(
        sources.layout, sources.image_size, sources.values, averaged=sources.weights == "ema"
    )
    storage.write_bytes(f"{prefix}.ckpt.meta", graph.SerializeToString(deterministic=True))
    text = text_format.MessageToString(graph.graph_def)
    storage.write_bytes(f"{prefix}_eval.pbtxt", text.encode())
    sources.freeze()
    storage.write_bytes(f"{prefix}_info.txt", _info(sources))
    storage.write_bytes(os.path.join(folder, directory.LABELS), sources.labels)


def _info(sources: ExportSources) -> bytes:
    """Return what the published info file says, with the input contract."""
    lines = {
        "Model": sources.variant.name,
        "Input": slim_graph.INPUT,
        "Output": sources.graph_output,
        "Weights": sources.weights,
        "MACs": sources.layout.macs,
        "Parameters": sources.layout.parameters,
        **{f"Input {name}": value for name, value in sources.contract.to_json().items()},
    }
    return "".join(f"{name}: {value}\n" for name, value in lines.items()).encode()
