"""Evaluation as a process of its own: every new checkpoint of a run, until the run is complete."""

from __future__ import annotations

import logging
import time

import tensorflow as tf

from preprocessing import storage
from preprocessing.errors import DataError
from preprocessing.records.schema import Manifest
from training.input.data import EVALUATION_BATCH
from training.input.records import Records
from training.loop.evaluate import Evaluator
from training.monitoring.summaries import Summaries
from training.monitoring.tensorboard import TensorBoard
from training.optimization.state import TrainingState
from training.weights.run_weights import load_into
from training.workdir.evaluations import Evaluation
from training.workdir.workdir import Workdir

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
FOLDER = "follow"  # folder of its event files, next to those of the trainer


def follow(workdir: Workdir, records_folder: str, manifest: Manifest) -> Evaluation | None:
    """Evaluate the newest checkpoint whenever there is a new one; return the last result.

    A checkpoint that the trainer replaced before it was read is passed over. Where evaluations
    are, the trainer keeps the best checkpoint, so it need not evaluate itself.
    """
    run = workdir.read_run()
    state = TrainingState.of(run)
    records = Records(records_folder, manifest, "validation")
    evaluator = Evaluator(
        tf.distribute.get_strategy(),
        state.averaged_model,
        records,
        run.config.evaluation,
        batch_per_replica=EVALUATION_BATCH,
    )
    events = storage.join(workdir.tensorboard_folder, FOLDER)
    board = TensorBoard(Summaries(events, enabled=True), run, manifest, state)
    result: Evaluation | None = None
    try:
        while True:
            complete = workdir.read_progress().complete  # before looking for the last
            step = workdir.newest_checkpoint_step()
            if step and (result is None or step != result.step):
                try:
                    load_into(state, workdir, step)
                except DataError as error:
                    if step in workdir.checkpoint_steps():
                        raise
                    logger.warning("evaluate: %s", error)
                    continue
                images = evaluator.predict()
                accuracy = images.counts.accuracy
                result = Evaluation.of(step, accuracy)
                workdir.write_evaluation(result)
                board.evaluation(step, accuracy, images=images, records=records)
                logger.info(
                    "evaluate: step %d  top-1 %.4f  top-5 %.4f", step, accuracy.top1, accuracy.top5
                )
            elif complete:
                return result
            else:
                time.sleep(POLL_SECONDS)
    finally:
        board.close()
