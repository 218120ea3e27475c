"""The Beam graph: it takes shards to write and returns their counts.

This is the only module that imports Beam. One element is the name of one shard; neither image
bytes nor references travel.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from requests import exceptions as http

from preprocessing.errors import PermanentError, RetryError, decode_failure, encode_failure
from preprocessing.execution import local_workers
from preprocessing.ingest_plan import ShardPlan
from preprocessing.shards import ShardWriter

NAMESPACE = "ingest"  # namespace of the counters `images`, `rejected`, `repaired` and `bytes`
# What Flink says when a task manager or its worker pool is gone and the job's restarts are used up.
LOST_WORKER = re.compile(
    r"is no longer reachable|Heartbeat of TaskManager|closed by remote task manager"
    r"|Lost connection to task manager|NoResourceAvailableException|NoTaskManagerException"
    r"|The TaskExecutor is shutting down|JobManager is no longer|UNAVAILABLE: io exception"
)


def _count(counts: Counter[str]) -> None:
    for name, count in counts.items():
        Metrics.counter(NAMESPACE, name).inc(count)


class WriteShard(beam.DoFn):
    """Write one shard on the worker that holds the element."""

    def __init__(self, writer: ShardWriter) -> None:
        self.writer = writer

    def process(self, plan: ShardPlan) -> None:
        """Write the shard unless an attempt before this one did; a retry writes the same bytes."""
        try:
            _count(self.writer.finished(plan) or self.writer.write(plan))
        except (PermanentError, OSError) as error:
            # Runners return text, not exceptions.
            raise RuntimeError(encode_failure(error)) from error


class WriteShardsLocally(beam.DoFn):
    """Collect shards and write them on the worker processes of this machine.

    This is for the runner that lives in this process: its own worker processes, one Beam
    worker each, take half a minute to start.
    """

    def __init__(self, writer: ShardWriter) -> None:
        self.writer = writer

    def start_bundle(self) -> None:
        """Begin with no shards."""
        self.plans: list[ShardPlan] = []

    def process(self, plan: ShardPlan) -> None:
        """Collect a shard."""
        self.plans.append(plan)

    def finish_bundle(self) -> None:
        """Write all collected shards on all workers."""
        try:
            for counts in local_workers.write_shards(self.writer, self.plans):
                _count(counts)
        except (PermanentError, RetryError, OSError) as error:
            raise RuntimeError(encode_failure(error)) from error


def build(
    pipeline: beam.Pipeline, shards: Iterable[ShardPlan], writer: ShardWriter, local: bool
) -> None:
    """Add the graph to `pipeline`; `local` writes on the processes of `worker_processes`."""
    write = WriteShardsLocally(writer) if local else WriteShard(writer)
    (
        pipeline
        | "Shards" >> beam.Create(list(shards), reshuffle=not local)
        | "Write" >> beam.ParDo(write)
    )


def run(
    shards: Iterable[ShardPlan], writer: ShardWriter, arguments: list[str], *, local: bool = False
) -> dict[str, int]:
    """Build the graph, run it on the runner that `arguments` name, and wait for its end.

    Returns:
        The counters by name.

    Raises:
        PermanentError: A worker found a problem with data, options or storage.
        RetryError: A worker was killed, or the runner does not answer.
    """
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(arguments))
        build(pipeline, shards, writer, local)
        result = pipeline.run()
        result.wait_until_finish()
    except (http.ConnectionError, http.Timeout) as error:
        raise RetryError(
            f"the runner does not answer ({error}); run the same command again, it continues"
        ) from error
    except Exception as error:
        failure = decode_failure(str(error)) or _lost_worker(str(error))
        if failure is None:
            raise
        raise failure from error
    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    return {counter.key.metric.name: counter.result for counter in counters}


def _lost_worker(text: str) -> RetryError | None:
    """Return the error for a job that ended because its runner lost workers."""
    if not (lost := LOST_WORKER.search(text)):
        return None
    line = next(line for line in text.splitlines() if lost[0] in line)
    return RetryError(
        f"the runner lost a worker ({line.strip()}); run the same command again, it continues"
    )
