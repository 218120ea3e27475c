"""The progress of an ingest on stderr: images, images/s, bytes/s and the time left.

It is read from the shard reports, so it is right for every runner, local or remote.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from preprocessing import storage
from preprocessing.ingest_plan import IngestPlan
from preprocessing.progress import progress_bar
from preprocessing.shards import REPORTS

SECONDS_BETWEEN_LOOKS = {False: 0.5, True: 5.0}  # for a local folder, for a bucket


@contextlib.contextmanager
def shown_progress(plan: IngestPlan, records: str) -> Iterator[None]:
    """Show the progress of `plan` in `records` while the block runs."""
    shards = {f"{shard.file}.json": shard for shard in plan.shards}
    reports = storage.join(records, REPORTS)

    def done() -> tuple[int, int]:
        finished = [shards[name] for name in storage.list_names(reports) if name in shards]
        return (
            sum(shard.num_images for shard in finished),
            sum(shard.num_bytes for shard in finished),
        )

    already, already_bytes = done()
    started = time.monotonic()
    stopped = threading.Event()
    with progress_bar(
        total=plan.num_images, initial=already, desc="prepare", unit=" images"
    ) as bar:

        def show() -> None:
            images, num_bytes = done()
            seconds = time.monotonic() - started
            rate = (num_bytes - already_bytes) / seconds / 1e6
            bar.set_postfix_str(f"{rate:.1f} MB/s, {num_bytes / 1e9:.2f} GB", refresh=False)
            bar.update(images - bar.n)

        def watch() -> None:
            while not stopped.wait(SECONDS_BETWEEN_LOOKS[storage.is_remote(records)]):
                show()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stopped.set()
            watcher.join()
            show()
