"""The curves of a training run, copied from its event files into `history.json`."""

from __future__ import annotations

import os
from typing import Any

from preprocessing import storage
from preprocessing.storage import contracts
from preprocessing.storage.contracts import Measure, WholeNumber
from training.workdir.workdir import Workdir

FILE = "history.json"
Point = tuple[WholeNumber, float, Measure]
History = dict[str, list[list[float]]]


def write(folder: str, workdir: Workdir) -> None:
    """Copy every scalar of the run, so that an export can be registered without its workdir.

    A run that was killed and resumed has written some steps twice; the later value counts.
    """
    logdir = workdir.tensorboard_folder
    if not storage.is_remote(logdir):
        storage.write_json(os.path.join(folder, FILE), _scalars(logdir))
        return
    with storage.temporary_folder("events") as copies:
        storage.download_folder(logdir, copies)
        storage.write_json(os.path.join(folder, FILE), _scalars(copies))


def read(folder: str) -> History:
    """Read the points `[step, value, seconds since 1970]` of each scalar.

    An imported run has no scalars.

    Raises:
        DataError: The file is damaged; names the first wrong place.
    """
    path = storage.join(folder, FILE)
    if not storage.exists(path):
        return {}
    with contracts.remedied("export again"):
        curves = contracts.from_json(dict[str, list[Point]], storage.read_json(path), path)
    return {name: [list(point) for point in points] for name, points in curves.items()}


def _scalars(logdir: str) -> History:
    """Read the event files in the order in which they were written."""
    import tensorflow as tf
    from tensorflow.core.util.event_pb2 import Event

    latest: dict[str, dict[int, list[float]]] = {}
    for name in storage.list_names(logdir):
        if "tfevents" not in name:
            continue
        records = tf.data.TFRecordDataset(storage.join(logdir, name))
        try:
            for record in records.as_numpy_iterator():
                event = Event.FromString(record)
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name == "scalars":
                        point = [event.step, float(tf.make_ndarray(value.tensor)), event.wall_time]
                        latest.setdefault(value.tag, {})[event.step] = point
        except tf.errors.DataLossError:
            continue  # the process was killed while it wrote the last event of this file
    return {tag: _ordered(points) for tag, points in sorted(latest.items())}


def _ordered(points: dict[int, list[float]]) -> list[Any]:
    return [points[step] for step in sorted(points)]
