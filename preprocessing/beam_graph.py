"""The Beam graph: shards to write in, shard names out. The only module that imports Beam."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from preprocessing.errors import PermanentError, decode_failure, encode_failure
from preprocessing.plan import ShardPlan
from preprocessing.schema import ImageClass
from preprocessing.shards import write_shard


class WriteShard(beam.DoFn):
    """Write one shard; counters `images`, `rejected`, `repaired` and `bytes` say what happened."""

    def __init__(self, classes: tuple[ImageClass, ...], records: str) -> None:
        self.classes = classes
        self.records = records

    def process(self, plan: ShardPlan) -> Iterator[str]:
        """Yield the name of the finished shard."""
        try:
            report = write_shard(plan, self.classes, self.records)
        except (PermanentError, OSError) as error:
            # Runners hand back text, not exceptions.
            raise RuntimeError(encode_failure(error)) from error
        counts = {
            "images": report.shard.examples,
            "rejected": len(report.rejects),
            "repaired": sum(report.repaired.values()),
            "bytes": report.shard.bytes,
        }
        for name, count in counts.items():
            Metrics.counter("ingest", name).inc(count)
        yield report.shard.file


def run(
    shards: Iterable[ShardPlan],
    classes: tuple[ImageClass, ...],
    records: str,
    arguments: list[str],
) -> None:
    """Build the graph, run it on the runner that `arguments` name and wait for its end.

    Raises:
        PermanentError: What a worker found wrong with data, options or storage.
    """
    try:
        with beam.Pipeline(options=PipelineOptions(arguments)) as pipeline:
            (
                pipeline
                | "Shards" >> beam.Create(list(shards), reshuffle=True)
                | "Write" >> beam.ParDo(WriteShard(classes, records))
            )
    except Exception as error:
        failure = decode_failure(str(error))
        if failure is None:
            raise
        raise failure from error
