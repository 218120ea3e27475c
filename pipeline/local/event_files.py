"""The event files of one run or many as a local folder: all that TensorBoard has to read.

Pointed at a bucket, TensorBoard lists everything in it every few seconds, checkpoints included
(tensorboard#7088, #158).
"""

from __future__ import annotations

import logging
import os
import threading

from preprocessing import storage
from preprocessing.errors import describe_os_error
from training.workdir.workdir import Workdir

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 30.0


class EventFiles:
    """The event files of a run, or of every run in a folder.

    Local ones are linked, and those in a bucket are copied: only the bytes that are new.

    Attributes:
        logdir: The local folder for TensorBoard, whose folders are named after the runs.
    """

    def __init__(self, folder: str, copy: str) -> None:
        """Look what `folder` is.

        Args:
            folder: A run, or a folder of runs.
            copy: An empty local folder.
        """
        self._folder, self.logdir = folder, copy
        self._is_run = storage.exists(_events_of(folder))

    def refresh(self) -> list[str]:
        """Bring `logdir` up to date and return the names of the runs that have events."""
        with_events = []
        for name, events in self._runs().items():
            copy = os.path.join(self.logdir, name)
            is_there = _fetch(events, copy) if storage.is_remote(events) else _link(events, copy)
            if is_there:
                with_events.append(name)
        return with_events

    def keep_fresh(self) -> None:
        """Refresh from time to time until this process ends."""

        def refresh() -> None:
            while not threading.Event().wait(REFRESH_SECONDS):
                try:
                    self.refresh()
                except OSError as error:
                    logger.warning("dashboard: %s; trying again", describe_os_error(error))

        threading.Thread(target=refresh, daemon=True).start()

    def _runs(self) -> dict[str, str]:
        """Return the folder of events of every run by its name."""
        if self._is_run:
            return {_name_of(self._folder): _events_of(self._folder)}
        return {
            entry.name: _events_of(storage.join(self._folder, entry.name))
            for entry in storage.list_entries(self._folder)
            if entry.is_folder
        }


def _name_of(run: str) -> str:
    path = run if storage.is_remote(run) else os.path.abspath(run)
    return os.path.basename(path.rstrip("/"))


def _events_of(run: str) -> str:
    return Workdir(run).tensorboard_folder


def _link(events: str, copy: str) -> bool:
    if not os.path.isdir(events):
        return False
    if not os.path.exists(copy):
        os.symlink(os.path.abspath(events), copy)
    return True


def _fetch(events: str, copy: str) -> bool:
    """Copy what is new in a bucket; event files only grow, and others are small."""
    sizes = storage.list_files(events)
    known = {name: _size(os.path.join(copy, name)) for name in sizes}
    grown = [name for name, size in sizes.items() if known[name] != size]
    starts = {name: known[name] if known[name] < sizes[name] else 0 for name in grown}
    parts = storage.read_ranges(
        [(storage.join(events, name), starts[name], sizes[name] - starts[name]) for name in grown]
    )
    for name, part in zip(grown, parts, strict=True):
        path = os.path.join(copy, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "ab" if starts[name] else "wb") as stream:
            stream.write(part)
    return bool(sizes)


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
