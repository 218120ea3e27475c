"""Any source to a complete records folder, on any Beam runner.

One Beam element is one shard: only its name travels through the graph, and a shard is
retried or resumed as a whole. What is under way is in `.ingest/` of the records folder: the
plan files and a report per finished shard.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from preprocessing import storage
from preprocessing.assemble import assemble
from preprocessing.errors import DataError, PermanentError, RetryError, UsageError
from preprocessing.execution.beam_options import beam_options
from preprocessing.execution.local_workers import num_cores, worker_processes
from preprocessing.execution.progress_bar import shown_progress
from preprocessing.ingest_plan import ImageOptions, IngestPlan, ShardPlan, plan_ingest
from preprocessing.records import schema
from preprocessing.records.schema import SPLITS, Manifest
from preprocessing.shards import PLANS, REPORTS, ShardWriter, read_reports
from preprocessing.sources.registry import find_source

# Named because Beam's default DirectRunner fetches a binary from the network at run time.
LOCAL_RUNNER = ("--runner=FnApiRunner", "--direct_running_mode=in_memory")
# Less is done before another process has started.
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
    """Write the records folder, or what is still missing of it; `dataset.json` last.

    Args:
        source_folder: Folder of the archives or images, local or a URL.
        records: Folder to write, local or a URL.
        num_shards: Per split; 0 means by size.
        seed: Of the global shuffle.
        image: What is done to each image besides repairing it.
        max_rejects: More rejected images than this fail the whole ingest.
        overwrite: Replace records of other sources or options.
        num_workers: Processes of the local runner; 0 means one more than cores, or none for
            little data.
        beam_arguments: Passed to Beam untouched; none means the local runner.

    Raises:
        UsageError: Source incomplete, `records` holds something else or is being written.
        DataError: A broken archive, or too many rejects.
    """
    if num_workers and beam_arguments:
        raise UsageError("--workers starts local processes; the runner named after -- has its own")
    beam_arguments = beam_options(beam_arguments, source_folder, records)
    source = find_source(source_folder)
    _refuse_foreign(records)
    with storage.exclusive(records):
        with _scratch(records) as scratch:
            plans = os.path.join(scratch, "plans")
            plan = plan_ingest(source, plans, num_shards=num_shards, seed=seed, image=image)
            finished = _finished(records, plan, overwrite)
            if finished:
                _refuse_too_many_rejects(finished, max_rejects)
                return finished
            storage.publish_folder(plans, storage.join(records, PLANS))
            storage.write_json(_plan_path(records), _identity(plan))
        missing = _missing(records, plan)
        if missing:
            writer = ShardWriter(records=records, classes=plan.classes, image=image)
            with shown_progress(plan, records):
                counters = _run_beam(missing, writer, num_workers, beam_arguments)
            print(f"prepare: counters {counters}", file=sys.stderr)
        manifest = assemble(source, plan, records)
        _refuse_too_many_rejects(manifest, max_rejects)
        manifest.write(records)
        storage.remove(storage.join(records, REPORTS))
        return manifest


def _plan_path(records: str) -> str:
    return storage.join(records, REPORTS, "plan.json")


def _identity(plan: IngestPlan) -> dict[str, Any]:
    return {"fingerprint": plan.fingerprint, "options": plan.options}


def _refuse_foreign(records: str) -> None:
    """Refuse a folder that holds something, but neither records nor the beginning of them."""
    ours = {schema.MANIFEST, REPORTS}
    names = [name for name in storage.list_names(records) if storage.PARTIAL not in name]
    if names and not ours & set(names):
        raise UsageError(
            f"{records} is not empty and holds no records; choose another folder for --records"
        )


@contextlib.contextmanager
def _scratch(records: str) -> Iterator[str]:
    """A local folder to plan in, on the disk of the records unless they are remote or complete."""
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


def _finished(records: str, plan: IngestPlan, overwrite: bool) -> Manifest | None:
    """The manifest if this very plan is complete; otherwise clear away what is of another plan."""
    here: dict[str, Any] | None = None
    if storage.exists(storage.join(records, schema.MANIFEST)):
        manifest = Manifest.read(records)
        if manifest.fingerprint == plan.fingerprint:
            storage.remove(storage.join(records, REPORTS))
            return manifest
        here = {"fingerprint": manifest.fingerprint, "options": manifest.options}
    elif storage.exists(_plan_path(records)):
        here = storage.read_json(_plan_path(records))
    if here and here["fingerprint"] != plan.fingerprint:
        if not overwrite:
            raise UsageError(
                f"{records} holds records of {_difference(here['options'], plan.options)}; "
                "choose another folder or pass --overwrite"
            )
        _clear(records)
    return None


def _difference(there: dict[str, Any], wanted: dict[str, Any]) -> str:
    changed = [
        f"{name} {there.get(name)} (now {value})"
        for name, value in wanted.items()
        if there.get(name) != value
    ]
    return ", ".join(changed) or "another source"


def _clear(records: str) -> None:
    """Remove our files, the manifest first, so that the folder is never half trusted."""
    storage.remove(storage.join(records, schema.MANIFEST))
    for name in storage.list_names(records):
        if name in (REPORTS, schema.RECORD_OFFSETS) or name.split("-")[0] in SPLITS:
            storage.remove(storage.join(records, name))


def _clear_partial(records: str) -> None:
    """Remove what a killed run left half-written."""
    for folder in (records, storage.join(records, REPORTS)):
        for name in storage.list_names(folder):
            if storage.PARTIAL in name:
                storage.remove(storage.join(folder, name))


def _missing(records: str, plan: IngestPlan) -> list[ShardPlan]:
    there = {each.shard.file for each in read_reports(records, [each.file for each in plan.shards])}
    return [shard for shard in plan.shards if shard.file not in there]


def _run_beam(
    shards: list[ShardPlan], writer: ShardWriter, num_workers: int, beam_arguments: list[str]
) -> dict[str, int]:
    if beam_arguments:
        return _beam_graph().run(shards, writer, beam_arguments)
    num_workers = min(num_workers or _useful_workers(shards), len(shards))
    in_processes = num_workers > 1
    with worker_processes(num_workers) if in_processes else contextlib.nullcontext():
        beam_graph = _beam_graph()
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # what fails is raised below
        chatter = io.StringIO()  # the local runner prints a traceback before it raises
        try:
            with contextlib.redirect_stderr(chatter):
                return beam_graph.run(shards, writer, list(LOCAL_RUNNER), here=in_processes)
        except (PermanentError, RetryError):
            raise
        except Exception:
            print(chatter.getvalue(), file=sys.stderr)
            raise


def _useful_workers(shards: list[ShardPlan]) -> int:
    """One a core, and one more that works while another waits for the disk to have a shard."""
    return min(num_cores() + 1, sum(shard.num_bytes for shard in shards) // MIN_BYTES_PER_WORKER)


def _beam_graph() -> Any:
    """Imported late: `mobilenet --help` and a finished ingest must not wait for Beam."""
    logging.disable(logging.WARNING)  # it warns of clients for services that are not used here
    from preprocessing.execution import beam_graph

    logging.disable(logging.NOTSET)
    # It warns that it really starts and really ends a job server, the latter after our last line.
    logging.getLogger("apache_beam.utils.subprocess_server").setLevel(logging.ERROR)
    return beam_graph


def _refuse_too_many_rejects(manifest: Manifest, max_rejects: int) -> None:
    if len(manifest.rejects) > max_rejects:
        first = "; ".join(f"{each.key}: {each.reason}" for each in manifest.rejects[:3])
        raise DataError(
            f"{len(manifest.rejects)} images were rejected, more than --max-rejects "
            f"{max_rejects}, first {first}"
        )
