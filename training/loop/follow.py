"""Evaluation as a process of its own: every new checkpoint of a run, until the run is complete."""

from __future__ import annotations

import sys
import time
from typing import Any

import tensorflow as tf

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.records.schema import Manifest
from training.input.data import Records
from training.loop.evaluate import Evaluator
from training.monitoring.summaries import Summaries
from training.monitoring.tensorboard import Watcher
from training.optimization.state import TrainingState
from training.workdir import workdir as workdirs
from training.workdir.checkpoint import load_into

POLL_SECONDS = 5.0
BATCH = 100  # slim's eval_image_classifier
FOLDER = "follow"  # of event files, beside those of the trainer


def follow(workdir: str, records_folder: str, manifest: Manifest) -> dict[str, Any]:
    """Evaluate the newest checkpoint whenever there is a new one; returns the last result.

    A checkpoint that the trainer replaced before it was read is passed over. Where evaluations
    are, the trainer keeps the best checkpoint, so it need not evaluate itself.
    """
    run = workdirs.Run.read(workdir)
    state = TrainingState.of(run)
    records = Records(records_folder, manifest, "validation")
    evaluator = Evaluator(
        tf.distribute.get_strategy(),
        state.averaged_model,
        records,
        run.config.evaluation,
        batch_per_replica=BATCH,
    )
    events = storage.join(workdirs.tensorboard_folder(workdir), FOLDER)
    watcher = Watcher(Summaries(events, enabled=True), run, manifest, state, profile_steps=0)
    result: dict[str, Any] = {}
    try:
        while True:
            complete = workdirs.read_progress(workdir)["complete"]  # before looking for the last
            step = workdirs.newest_checkpoint_step(workdir)
            if step and step != result.get("step"):
                try:
                    load_into(state, workdir, step)
                except DataError as error:
                    if step in workdirs.checkpoint_steps(workdir):
                        raise
                    print(f"evaluate: {error}", file=sys.stderr, flush=True)
                    continue
                predictions = evaluator.predict()
                accuracy = predictions.accuracy
                result = {"step": step, "top1": accuracy.top1, "top5": accuracy.top5}
                workdirs.write_evaluation(
                    workdir, step, {"top1": accuracy.top1, "top5": accuracy.top5}
                )
                watcher.evaluation(step, accuracy, None, predictions, records)
                print(
                    f"evaluate: step {step}  top-1 {accuracy.top1:.4f}  top-5 {accuracy.top5:.4f}",
                    file=sys.stderr,
                    flush=True,
                )
            elif complete:
                return result
            else:
                time.sleep(POLL_SECONDS)
    finally:
        watcher.close()
