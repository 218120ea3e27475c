"""Evaluation during a run: of the averages and, for comparison, of the raw weights."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from training.loop.actions.action import Action, Moment
from training.loop.evaluate import Evaluator
from training.loop.session import Session
from training.metrics.accuracy import Accuracy
from training.optimization.state import values
from training.workdir.evaluations import Evaluation


class Evaluate(Action):
    """Evaluates at the end and every `loop.evaluate_every_steps`.

    Attributes:
        newest: The newest accuracy of the averages; None before the first evaluation.
    """

    def __init__(self, session: Session) -> None:
        self.newest: Accuracy | None = None
        self._session = session
        strategy, state, config = session.strategy, session.state, session.job.config
        shown = values(state.averaged_model)
        self._every = config.loop.evaluate_every_steps
        self._average = tf.function(lambda: strategy.run(state.average), autograph=False)
        self._take_raw = tf.function(
            lambda: strategy.run(_copy, args=(values(state.model), shown)), autograph=False
        )
        self._evaluator = Evaluator(
            strategy,
            state.averaged_model,
            session.source.validation,
            config.evaluation,
            batch_per_replica=config.training.batch_per_replica,
            before_call=lambda: session.expect("evaluating"),
        )

    def start(self) -> None:
        """Evaluate the checkpoint of a run that was stopped when it was time to evaluate."""
        session, step = self._session, self._session.state.step
        # The report completes the last one.
        if step < session.run.num_steps and session.milestones.is_due(step, self._every):
            evaluated = bool(session.job.workdir.read_evaluations([step]))
            if session.collectives.means([evaluated])[0] < 1:
                self.evaluate(step)

    def is_due(self, moment: Moment) -> bool:
        """Return whether it is time."""
        return moment.is_last or moment.is_due(self._every)

    def after_loop(self, moment: Moment) -> None:
        """Evaluate if it is time."""
        if self.is_due(moment):
            self.evaluate(moment.step)

    def evaluate(self, step: int) -> Accuracy:
        """Evaluate now, write the accuracy and show it."""
        session = self._session
        session.statistics.synchronize()
        self._take_raw()
        raw = self._evaluator.run()
        self._average()
        images = self._evaluator.predict()
        self.newest = images.counts.accuracy
        if session.is_chief:
            session.job.workdir.write_evaluation(Evaluation.of(step, self.newest))
        session.board.evaluation(
            step, self.newest, raw.accuracy, images=images, records=session.source.validation
        )
        return self.newest


def _copy(sources: Sequence[tf.Variable], targets: Sequence[tf.Variable]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.assign(tf.convert_to_tensor(source))
