"""The comparison: every format and the reference on the same images, a chunk at a time."""

from __future__ import annotations

import os

import numpy as np

from pipeline.export.conversion.graph_runner import GraphRunner
from pipeline.export.conversion.sources import ExportedNetwork
from pipeline.export.formats.export_format import Runner
from pipeline.export.job import CHUNK, Export
from pipeline.export.metrics import REFERENCE, InputContract
from pipeline.export.predictions import Predictions
from pipeline.export.unfinished import REFERENCE_GRAPH, Unfinished
from preprocessing.storage.map_ahead import map_ahead
from training.input.data import evaluation_examples
from training.input.records import Records, damage_named

BATCH_PIXELS = 200_000  # of images at once: larger batches are not faster and take more memory


class Comparison:
    """The reference and every format, each read back from its file into its own runtime.

    Formats that are the same graph with the same weights, as TensorFlow reads it back from
    their files, give the same answers, so one of them runs for all.
    """

    def __init__(self, job: Export, unfinished: Unfinished, contract: InputContract) -> None:
        """Load the reference and the formats.

        Args:
            job: The order.
            unfinished: Where the converted files are.
            contract: The files' input contract.
        """
        self._job = job
        self._records = Records(job.records, job.manifest, "validation")
        network = ExportedNetwork(variant=job.variant, contract=contract)
        opened: dict[str, Runner] = {
            REFERENCE: GraphRunner.from_bytes(unfinished.read(REFERENCE_GRAPH)),
            **{
                item.name: item.open(
                    os.path.join(unfinished.export, item.file_of(job.variant.name)), network
                )
                for item in job.export_formats
            },
        }
        first: dict[str, str] = {}
        self._runs_as = {
            name: first.setdefault(_key(name, run), name) for name, run in opened.items()
        }
        self._runners = {name: opened[name] for name in first.values()}
        self._examples = evaluation_examples(
            self._records, job.run.config.evaluation, job.variant.resolution
        )

    def chunk(self, number: int) -> dict[str, Predictions]:
        """Return the predictions of the reference and of every format on one chunk of images.

        Raises:
            DataError: A record is damaged.
        """
        positions = self._job.positions[number * CHUNK : (number + 1) * CHUNK]
        batch = max(1, BATCH_PIXELS // self._job.variant.resolution**2)
        batches = np.array_split(positions, range(batch, len(positions), batch))
        parts: dict[str, list[Predictions]] = {name: [] for name in self._runners}
        with damage_named(self._records, positions.tolist()):
            for images, labels in map_ahead(self._examples, batches, self._job.records):
                reference = self._runners[REFERENCE](images)
                for name, run in self._runners.items():
                    scores = reference if name == REFERENCE else run(images)
                    parts[name].append(Predictions.of(scores, labels, reference))
        joined = {name: Predictions.joined(chunks) for name, chunks in parts.items()}
        return {name: joined[runs_as] for name, runs_as in self._runs_as.items()}


def _key(name: str, run: Runner) -> str:
    """Return a text that is equal for runners that compute the same."""
    return run.fingerprint if isinstance(run, GraphRunner) else name
