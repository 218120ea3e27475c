"""The ingest: any source becomes a complete records folder, on any Beam runner.

One Beam element is one shard: only its name travels through the graph, and a shard is retried or
resumed as a whole. `.ingest/` in the records folder holds the plan files of unfinished work and
a report per finished shard, by which another run sees what is missing or has changed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from preprocessing import earlier_runs, limits, storage
from preprocessing.assemble import assemble
from preprocessing.errors import DataError, PermanentError, RetryError, UsageError
from preprocessing.execution.beam_options import beam_options
from preprocessing.execution.local_workers import worker_processes
from preprocessing.execution.progress_bar import shown_progress
from preprocessing.ingest_plan import ImageOptions, ShardPlan, plan_ingest
from preprocessing.records import schema
from preprocessing.records.schema import Manifest
from preprocessing.shards import PLANS, ShardWriter
from preprocessing.sources.ignored import DESCRIPTION
from preprocessing.sources.names import first_of
from preprocessing.sources.references import Source
from preprocessing.sources.registry import find_source

logger = logging.getLogger(__name__)

# Beam's default DirectRunner would fetch a binary from the network at run time.
LOCAL_RUNNER = ("--runner=FnApiRunner", "--direct_running_mode=in_memory")
# Smaller work is done before another process has started.
MIN_BYTES_PER_WORKER = 32 << 20
BYTES_OF_A_WORKER = 300 << 20  # its peak memory


def prepare(
    source_folder: str,
    records: str,
    *,
    num_shards: dict[str, int],
    seed: int,
    validation_fraction: float = 0.0,
    image: ImageOptions,
    max_rejects: int,
    overwrite: bool,
    num_workers: int,
    beam_arguments: Sequence[str],
) -> Manifest:
    """Write the records folder, or the shards that are missing or whose images have changed.

    `dataset.json` comes last.

    Args:
        source_folder: Folder of the archives or images, local or a URL.
        records: Folder to write, local or a URL.
        num_shards: Number of shards per split; 0 chooses it by size.
        seed: Seed of the global shuffle.
        validation_fraction: Fraction of each class to hold out as validation images, for a folder
            per class that has none.
        image: Options for each image besides its repair.
        max_rejects: More rejected images than this fail the whole ingest.
        overwrite: Write the records again, whatever the folder holds of them.
        num_workers: Processes of the local runner; 0 means one more than there are cores, or
            none for little data.
        beam_arguments: Flags for Beam; without any, the local runner is used.

    Raises:
        UsageError: The source is incomplete, or `records` holds something else.
        DataError: An archive is broken, or too many images were rejected.
    """
    if num_workers and beam_arguments:
        raise UsageError(
            "--workers starts local processes, and the runner named after -- has its own; "
            "pass only one of them"
        )
    beam_arguments = beam_options(beam_arguments, source_folder, records)
    source = find_source(source_folder, validation_fraction)
    earlier_runs.refuse_foreign(records)
    with storage.exclusive(records, "prepare"):
        with _scratch(records) as scratch:
            plans = os.path.join(scratch, "plans")
            plan = plan_ingest(source, plans, num_shards=num_shards, seed=seed, image=image)
            _tell_unread(source_folder, source)
            complete = earlier_runs.of_this_plan(records, plan, overwrite)
            missing = earlier_runs.missing_shards(records, plan, plans)
            if complete and not missing and earlier_runs.is_current(records, complete, source):
                logger.info(
                    "prepare: %s is complete and the source is unchanged; nothing to do", records
                )
                _refuse_too_many_rejects(complete, max_rejects)
                return complete
            if complete:
                logger.warning(
                    "prepare: %s has %d of %d shards that are lost or whose images have changed; "
                    "writing them again",
                    records,
                    len(missing),
                    len(plan.shards),
                )
            earlier_runs.remove_outdated(records, plan, missing)
            storage.publish_folder(plans, storage.join(records, PLANS))
            earlier_runs.write_plan(records, plan)
        if missing:
            writer = ShardWriter(records=records, classes=plan.classes, image=image)
            with shown_progress(plan, records):
                counters = _run_beam(missing, writer, num_workers, beam_arguments)
            logger.info("prepare: counters %s", counters)
        manifest = assemble(source, plan, records)
        _refuse_too_many_rejects(manifest, max_rejects)
        manifest.write(records)
        storage.remove(storage.join(records, PLANS))
        return manifest


def _tell_unread(source_folder: str, source: Source) -> None:
    if source.ignored.count:
        logger.info("prepare: ignored %d %s", source.ignored.count, DESCRIPTION)
    if source.unread:
        logger.warning("prepare: not read in %s: %s", source_folder, first_of(source.unread))


@contextlib.contextmanager
def _scratch(records: str) -> Iterator[str]:
    """Yield a local folder for the plan, on the disk of the records where that is possible."""
    if storage.is_remote(records) or storage.exists(storage.join(records, schema.MANIFEST)):
        with storage.temporary_folder("plan") as folder:
            yield folder
        return
    earlier_runs.clear_partial(records)
    folder = os.path.join(records, f".plan{storage.PARTIAL}{uuid.uuid4().hex[:8]}")
    os.mkdir(folder)
    try:
        yield folder
    except OSError as error:
        error.filename = error.filename or folder  # of a full disk, the system does not say it
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_beam(
    shards: list[ShardPlan], writer: ShardWriter, num_workers: int, beam_arguments: list[str]
) -> dict[str, int]:
    if beam_arguments:
        return _beam_graph().run(shards, writer, beam_arguments)
    num_workers = min(num_workers or _useful_workers(shards), len(shards))
    in_processes = num_workers > 1
    with worker_processes(num_workers) if in_processes else contextlib.nullcontext():
        beam_graph = _beam_graph()
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # failures are raised below
        printed = io.StringIO()  # the local runner prints a traceback before it raises
        try:
            with contextlib.redirect_stderr(printed):
                return beam_graph.run(shards, writer, list(LOCAL_RUNNER), local=in_processes)
        except (PermanentError, RetryError):
            raise
        except Exception:
            logger.error("%s", printed.getvalue())
            raise


def _useful_workers(shards: list[ShardPlan]) -> int:
    """Return one worker per core, and one that works while another waits for the disk.

    Small sources and little memory take fewer.
    """
    return min(
        limits.num_cores() + 1,
        max(1, limits.memory_bytes() // BYTES_OF_A_WORKER),
        sum(shard.num_bytes for shard in shards) // MIN_BYTES_PER_WORKER,
    )


def _beam_graph() -> Any:
    """Import Beam late: `mobilenet --help` and a finished ingest must not wait for it."""
    logging.disable(logging.WARNING)  # Beam warns of clients for services that are not used
    from preprocessing.execution import beam_graph

    logging.disable(logging.NOTSET)
    # Beam warns when it starts and ends a job server, the latter after our last line.
    logging.getLogger("apache_beam.utils.subprocess_server").setLevel(logging.ERROR)
    return beam_graph


def _refuse_too_many_rejects(manifest: Manifest, max_rejects: int) -> None:
    if len(manifest.rejects) > max_rejects:
        first = "; ".join(f"{reject.key}: {reject.reason}" for reject in manifest.rejects[:3])
        raise DataError(
            f"{len(manifest.rejects)} images were rejected, more than --max-rejects "
            f"{max_rejects}, first {first}"
        )
