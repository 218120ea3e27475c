"""The ingest: any source becomes a complete records folder, on any Beam runner.

One Beam element is one shard: only its name travels through the graph, and a shard is retried or
resumed as a whole. `.ingest/` in the records folder holds the plan files of unfinished work and
a report per finished shard, by which another run sees what is missing or has changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from preprocessing import storage
from preprocessing.assemble import assemble
from preprocessing.errors import DataError, PermanentError, RetryError, UsageError
from preprocessing.execution.beam_options import beam_options
from preprocessing.execution.local_workers import num_cores, worker_processes
from preprocessing.execution.progress_bar import shown_progress
from preprocessing.ingest_plan import ImageOptions, IngestPlan, ShardPlan, plan_ingest
from preprocessing.records import schema, verify
from preprocessing.records.schema import SPLITS, Manifest
from preprocessing.shards import PLANS, REPORTS, ShardWriter, read_reports
from preprocessing.sources.ignored import DESCRIPTION
from preprocessing.sources.references import Source
from preprocessing.sources.registry import find_source
from preprocessing.storage import contracts

logger = logging.getLogger(__name__)

# Beam's default DirectRunner would fetch a binary from the network at run time.
LOCAL_RUNNER = ("--runner=FnApiRunner", "--direct_running_mode=in_memory")
# Smaller work is done before another process has started.
MIN_BYTES_PER_WORKER = 32 << 20


def prepare(
    source_folder: str,
    records: str,
    *,
    num_shards: dict[str, int],
    seed: int,
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
        image: Options for each image besides its repair.
        max_rejects: More rejected images than this fail the whole ingest.
        overwrite: Write the records again, whatever the folder holds of them.
        num_workers: Processes of the local runner; 0 means one more than there are cores, or
            none for little data.
        beam_arguments: Flags for Beam; without any, the local runner is used.

    Raises:
        UsageError: The source is incomplete, or `records` holds something else or is being
            written by another process.
        DataError: An archive is broken, or too many images were rejected.
    """
    if num_workers and beam_arguments:
        raise UsageError(
            "--workers starts local processes, and the runner named after -- has its own; "
            "pass only one of them"
        )
    beam_arguments = beam_options(beam_arguments, source_folder, records)
    source = find_source(source_folder)
    _refuse_foreign(records)
    with storage.exclusive(records):
        with _scratch(records) as scratch:
            plans = os.path.join(scratch, "plans")
            plan = plan_ingest(source, plans, num_shards=num_shards, seed=seed, image=image)
            if source.ignored.count:
                logger.info("prepare: ignored %d %s", source.ignored.count, DESCRIPTION)
            complete = _of_this_plan(records, plan, overwrite)
            missing = _missing(records, plan, plans)
            if complete and not missing and _is_current(records, complete, source):
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
            _remove_outdated(records, plan, missing)
            storage.publish_folder(plans, storage.join(records, PLANS))
            storage.write_json(_plan_path(records), _identity(plan))
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


def _plan_path(records: str) -> str:
    return storage.join(records, REPORTS, "plan.json")


def _identity(plan: IngestPlan) -> dict[str, Any]:
    return {"fingerprint": plan.fingerprint, "options": plan.options}


def _refuse_foreign(records: str) -> None:
    """Refuse a folder that holds files but neither records nor unfinished ones."""
    ours = {schema.MANIFEST, REPORTS}
    names = [name for name in storage.list_names(records) if storage.PARTIAL not in name]
    if names and not ours & set(names):
        raise UsageError(
            f"{records} is not empty and holds no records; choose another folder for --records"
        )


@contextlib.contextmanager
def _scratch(records: str) -> Iterator[str]:
    """Yield a local folder for the plan, on the disk of the records where that is possible."""
    if storage.is_remote(records) or storage.exists(storage.join(records, schema.MANIFEST)):
        with tempfile.TemporaryDirectory(prefix="mobilenet-plan-") as folder:
            yield folder
        return
    _clear_partial(records)
    folder = os.path.join(records, f".plan{storage.PARTIAL}{uuid.uuid4().hex[:8]}")
    os.mkdir(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _of_this_plan(records: str, plan: IngestPlan, overwrite: bool) -> Manifest | None:
    """Return the manifest if the folder holds complete records of this plan.

    The files of another plan are removed if that is wanted.

    Raises:
        UsageError: The folder holds records of another plan.
    """
    manifest: Manifest | None = None
    stored: dict[str, Any] | None = None
    if storage.exists(storage.join(records, schema.MANIFEST)):
        if overwrite:
            _clear(records)
            return None
        manifest = Manifest.read(records)
        stored = {"fingerprint": manifest.fingerprint, "options": manifest.options}
    elif storage.exists(_plan_path(records)):
        stored = storage.read_json(_plan_path(records))
    if not stored or stored["fingerprint"] == plan.fingerprint:
        return manifest
    if not overwrite:
        raise UsageError(
            f"{records} holds records of {_difference(stored['options'], plan.options)}; "
            "choose another folder or pass --overwrite"
        )
    _clear(records)
    return None


def _missing(records: str, plan: IngestPlan, plans: str) -> list[ShardPlan]:
    """Return the shards to write: those that are lost, cut or of images that have changed."""
    current: set[str] = set()
    shards = {shard.file: shard for shard in plan.shards}
    with tqdm(total=plan.num_images, desc="compare", unit=" images", delay=5) as bar:
        for report in read_reports(records, list(shards)):
            shard = shards[report.shard.file]
            contents = report.source.compared(shard.images(plans))
            bar.update(shard.num_images)
            if contents is None:
                continue
            current.add(shard.file)
            if contents != report.source:
                dataclasses.replace(report, source=contents).write(records)
    return [shard for shard in plan.shards if shard.file not in current]


def _is_current(records: str, manifest: Manifest, source: Source) -> bool:
    """Return whether all files are as the manifest says, and the source is as it describes."""
    try:
        verify.check_files(records, manifest)
    except DataError:
        return False
    return contracts.to_json(manifest)["source"] == source.description


def _remove_outdated(records: str, plan: IngestPlan, missing: list[ShardPlan]) -> None:
    """Remove the manifest first, then the reports of missing shards and shards of no plan."""
    storage.remove(storage.join(records, schema.MANIFEST))
    reports = set(storage.list_names(storage.join(records, REPORTS)))
    for report in sorted(reports & {f"{shard.file}.json" for shard in missing}):
        storage.remove(storage.join(records, REPORTS, report))
    planned = {shard.file for shard in plan.shards}
    for name in storage.list_names(records):
        if name.startswith(tuple(f"{split}-" for split in SPLITS)) and name not in planned:
            storage.remove(storage.join(records, name))


def _difference(stored: dict[str, Any], wanted: dict[str, Any]) -> str:
    changed = [
        f"{name} {stored.get(name)} (now {value})"
        for name, value in wanted.items()
        if stored.get(name) != value
    ]
    return ", ".join(changed) or "other images"


def _clear(records: str) -> None:
    """Remove our files, the manifest first, so that nobody reads an incomplete folder."""
    storage.remove(storage.join(records, schema.MANIFEST))
    for name in storage.list_names(records):
        if name in (REPORTS, schema.RECORD_OFFSETS) or name.split("-")[0] in SPLITS:
            storage.remove(storage.join(records, name))


def _clear_partial(records: str) -> None:
    """Remove the partial files that a killed run left."""
    for folder in (records, storage.join(records, REPORTS)):
        for name in storage.list_names(folder):
            if storage.PARTIAL in name:
                storage.remove(storage.join(folder, name))


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
    """Return one worker per core, and one that works while another waits for the disk."""
    return min(num_cores() + 1, sum(shard.num_bytes for shard in shards) // MIN_BYTES_PER_WORKER)


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
