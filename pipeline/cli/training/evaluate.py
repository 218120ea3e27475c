"""`mobilenet evaluate`: exact top-1 and top-5 of the averaged weights."""

from __future__ import annotations

import argparse
import contextlib
import logging
from typing import TYPE_CHECKING

from pipeline.cli import flags
from pipeline.cli.command import Command, Result

if TYPE_CHECKING:
    from preprocessing.records.schema import Manifest
    from training.workdir.evaluations import Evaluation, FinalEvaluation
    from training.workdir.run_record import Run
    from training.workdir.workdir import Workdir

logger = logging.getLogger(__name__)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", required=True, help="folder of the run")
    flags.add_records(parser)
    parser.add_argument(
        "--follow",
        action="store_true",
        help="evaluate every new checkpoint until the run is complete",
    )


def _run(arguments: argparse.Namespace) -> Result:
    from pipeline.cli.records import require_same_records
    from preprocessing import storage
    from preprocessing.errors import DataError
    from training.workdir.evaluations import FinalEvaluation
    from training.workdir.workdir import Workdir

    workdir = Workdir(arguments.workdir)
    run = workdir.read_run()
    manifest = require_same_records(run, arguments.records)
    if arguments.follow:
        last = _follow(workdir, arguments.records, manifest)
        return {"workdir": arguments.workdir, **(last.to_json() if last else {})}
    path = workdir.final_evaluation_file
    if storage.exists(path):
        # Damage is not an obstacle: the run is evaluated again.
        with contextlib.suppress(DataError):
            known = FinalEvaluation.from_json(storage.read_json(path), path)
            step = workdir.result_step(run)
            wanted = (step, manifest.digest, workdir.weights_digest(step))
            if (known.step, known.records_digest, known.weights_digest) == wanted:
                logger.info("evaluate: step %d was evaluated before; nothing to do", step)
                return known.to_json()
    evaluation = _evaluate(workdir, run, arguments.records, manifest)
    logger.info(
        "evaluate: top-1 %.4f, top-5 %.4f on %d images, averaged weights of step %d",
        evaluation.top1,
        evaluation.top5,
        evaluation.examples,
        evaluation.step,
    )
    storage.write_json(path, evaluation.to_json())
    return evaluation.to_json()


def _follow(workdir: Workdir, records: str, manifest: Manifest) -> Evaluation | None:
    """Evaluate every checkpoint as it appears; return the last evaluation."""
    from pipeline.local.quiet import import_tensorflow

    import_tensorflow()
    from training.loop.follow import follow
    from training.workers.failures import explained

    with explained(records):
        return follow(workdir, records, manifest)


def _evaluate(workdir: Workdir, run: Run, records: str, manifest: Manifest) -> FinalEvaluation:
    """Evaluate the averaged weights of the checkpoint that the recipe chooses."""
    from pipeline.local.quiet import import_tensorflow
    from training.workdir.evaluations import FinalEvaluation

    import_tensorflow()
    import tensorflow as tf

    from training.input.data import EVALUATION_BATCH
    from training.input.records import Records
    from training.loop.evaluate import Evaluator
    from training.weights.run_weights import load_result
    from training.workers.failures import explained

    with explained(records):
        state = load_result(workdir, run)
        counts = Evaluator(
            tf.distribute.get_strategy(),
            state.averaged_model,
            Records(records, manifest, "validation"),
            run.config.evaluation,
            batch_per_replica=EVALUATION_BATCH,
        ).run()
    return FinalEvaluation(
        workdir=workdir.path,
        step=state.step,
        top1=counts.top1,
        top5=counts.top5,
        examples=counts.examples,
        records_digest=manifest.digest,
        weights_digest=workdir.weights_digest(state.step),
    )


COMMAND = Command(
    name="evaluate",
    summary="measure exact top-1 and top-5 of the averaged weights",
    add_flags=_add_flags,
    run=_run,
)
