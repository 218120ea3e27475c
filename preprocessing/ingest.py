"""Archives to a complete records folder, on any Beam runner.

One Beam element is one shard: only references travel through the graph, never
image bytes, and a shard is retried or resumed as a whole.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from tqdm import tqdm

from preprocessing import schema, storage, tally
from preprocessing.errors import DataError, PermanentError, UsageError
from preprocessing.plan import IngestPlan, ShardPlan, plan_ingest
from preprocessing.records import key_of, read_at
from preprocessing.schema import SPLITS, ImageClass, Manifest
from preprocessing.shards import REPORTS, ShardReport
from preprocessing.sources import Source, find_source
from preprocessing.tally import Tally

# Named because Beam's default DirectRunner fetches a binary from the network at run time.
LOCAL_RUNNER = ("--runner=FnApiRunner", "--direct_running_mode=multi_threading")


def prepare(
    source_folder: str,
    records: str,
    *,
    num_shards: dict[str, int],
    seed: int,
    max_rejects: int,
    overwrite: bool,
    beam_arguments: Sequence[str],
) -> Manifest:
    """Write the records folder, or what is still missing of it; `dataset.json` last.

    Args:
        source_folder: Folder of the archives, local or a URL.
        records: Folder to write, local or a URL.
        num_shards: Per split; 0 means by size.
        seed: Of the global shuffle.
        max_rejects: More rejected images than this fail the whole ingest.
        overwrite: Replace records of other sources or options.
        beam_arguments: Passed to Beam untouched.

    Raises:
        UsageError: Source incomplete, or `records` holds something else.
        DataError: A broken archive, or too many rejects.
    """
    source = find_source(source_folder)
    plan = plan_ingest(source, num_shards, seed)
    finished = _finished(records, plan, overwrite)
    if finished:
        _refuse_too_many_rejects(finished, max_rejects)
        return finished
    missing = [shard for shard in plan.shards if ShardReport.read(records, shard.file) is None]
    if missing:
        with _progress(plan, records):
            _run_beam(missing, plan.classes, records, beam_arguments)
    manifest = _manifest(source, plan, records)
    _refuse_too_many_rejects(manifest, max_rejects)
    manifest.write(records)
    storage.remove(storage.join(records, REPORTS))
    return manifest


def _finished(records: str, plan: IngestPlan, overwrite: bool) -> Manifest | None:
    """The manifest if this very plan is complete; otherwise make the folder ready to go on."""
    plan_path = storage.join(records, REPORTS, "plan.json")
    here: dict[str, Any] | None = None
    if storage.exists(storage.join(records, schema.MANIFEST)):
        manifest = Manifest.read(records)
        if manifest.fingerprint == plan.fingerprint:
            storage.remove(storage.join(records, REPORTS))
            return manifest
        here = {"fingerprint": manifest.fingerprint, "options": manifest.options}
    elif storage.exists(plan_path):
        here = storage.read_json(plan_path)
    elif [name for name in storage.list_names(records) if name != REPORTS]:
        raise UsageError(
            f"{records} is not empty and holds no records; choose another folder for --records"
        )
    if here and here["fingerprint"] != plan.fingerprint:
        if not overwrite:
            raise UsageError(
                f"{records} holds records of {_difference(here['options'], plan.options)}; "
                "choose another folder or pass --overwrite"
            )
        _clear(records)
    storage.make_folder(storage.join(records, REPORTS))
    _clear_partial(records)
    storage.write_json(plan_path, {"fingerprint": plan.fingerprint, "options": plan.options})
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


def _run_beam(
    shards: list[ShardPlan],
    classes: tuple[ImageClass, ...],
    records: str,
    beam_arguments: Sequence[str],
) -> None:
    # Imported late: `mobilenet --help` and a finished ingest must not wait for Beam.
    logging.disable(logging.WARNING)  # it warns of clients for services that are not used here
    from preprocessing.beam_graph import run

    logging.disable(logging.NOTSET)
    if beam_arguments:
        run(shards, classes, records, list(beam_arguments))
        return
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # what fails is raised below
    chatter = io.StringIO()  # the local runner prints a traceback before it raises
    try:
        with contextlib.redirect_stderr(chatter):
            run(shards, classes, records, list(LOCAL_RUNNER))
    except PermanentError:
        raise
    except Exception:
        print(chatter.getvalue(), file=sys.stderr)
        raise


@contextlib.contextmanager
def _progress(plan: IngestPlan, records: str) -> Iterator[None]:
    """Images in finished shards, read off the reports: true for every runner, near or far."""
    images = {shard.file: len(shard.images) for shard in plan.shards}
    stopped = threading.Event()

    def count() -> int:
        names = storage.list_names(storage.join(records, REPORTS))
        return sum(images.get(name.removesuffix(".json"), 0) for name in names)

    def watch(show: Callable[[int], Any]) -> None:
        while not stopped.wait(0.5):
            show(count())

    already = count()
    with tqdm(
        total=plan.num_images, initial=already, desc="prepare", unit=" images", file=sys.stderr
    ) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        watcher = threading.Thread(target=watch, args=(show,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stopped.set()
            watcher.join()
            show(count())


def _manifest(source: Source, plan: IngestPlan, records: str) -> Manifest:
    """Collect the shard reports and write `record_offsets.npz`."""
    reports = []
    for shard in plan.shards:
        report = ShardReport.read(records, shard.file)
        if report is None:
            raise DataError(f"shard {shard.file} vanished from {records}; run prepare again")
        reports.append(report)
    by_split = {split: [each for each in reports if each.split == split] for split in SPLITS}
    for split, written in by_split.items():
        if not sum(each.shard.examples for each in written):
            raise DataError(f"no {split} image could be read; see the rejects of {records}")
    offsets_path = storage.join(records, schema.RECORD_OFFSETS)
    storage.write_bytes(
        offsets_path,
        schema.encode_record_offsets(
            {split: [each.offsets for each in written] for split, written in by_split.items()}
        ),
    )
    repaired: Counter[str] = Counter()
    for report in reports:
        repaired.update(report.repaired)
    shards = {split: tuple(each.shard for each in written) for split, written in by_split.items()}
    return Manifest(
        schema_version=schema.SCHEMA_VERSION,
        digest=storage.digest_of(
            [
                [[each.index, each.synset, each.text] for each in plan.classes],
                {split: [each.sha256 for each in written] for split, written in shards.items()},
            ]
        ),
        fingerprint=plan.fingerprint,
        classes=plan.classes,
        shards=shards,
        rejects=tuple(reject for report in reports for reject in report.rejects),
        repaired=dict(sorted(repaired.items())),
        record_offsets=storage.digest_of_file(offsets_path),
        statistics=tally.merge(
            {
                split: [Tally.from_json(each.tally) for each in written]
                for split, written in by_split.items()
            },
            len(plan.classes),
            partial(_key_at, records, by_split),
        ),
        source=source.description,
        options=plan.options,
        versions={
            name: importlib.metadata.version(name)
            for name in ("apache-beam", "mobilenet-pipeline", "pillow")
        },
    )


def _key_at(
    records: str, by_split: dict[str, list[ShardReport]], split: str, shard: int, record: int
) -> str:
    report = by_split[split][shard]
    path = storage.join(records, report.shard.file)
    with storage.open_read(path) as stream:
        return key_of(split, read_at(stream, report.offsets[record], path))


def _refuse_too_many_rejects(manifest: Manifest, max_rejects: int) -> None:
    if len(manifest.rejects) > max_rejects:
        first = "; ".join(f"{each.key}: {each.reason}" for each in manifest.rejects[:3])
        raise DataError(
            f"{len(manifest.rejects)} images were rejected, more than --max-rejects "
            f"{max_rejects}, first {first}"
        )
