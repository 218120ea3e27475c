"""Reports of a run: TensorBoard's pages, progress lines and `progress.json`."""

from __future__ import annotations

import time

from training.loop.actions.action import Action, Moment
from training.loop.actions.evaluation import Evaluate
from training.loop.session import Session
from training.monitoring.progress_report import Reporter
from training.workdir.progress import Progress


class ShowWeights(Action):
    """Shows histograms and memory in TensorBoard every `loop.histograms_every_steps`."""

    def __init__(self, session: Session) -> None:
        self._board = session.board
        self._every = session.job.config.loop.histograms_every_steps

    def after_loop(self, moment: Moment) -> None:
        """Show them if it is time."""
        if moment.is_due(self._every):
            self._board.histograms(moment.step)
            self._board.memory(moment.step)


class Report(Action):
    """Reports each loop: scalars in TensorBoard, a line, `progress.json`.

    Attributes:
        progress: The last report.
    """

    def __init__(self, session: Session, reporter: Reporter, evaluate: Evaluate) -> None:
        self.progress: Progress = session.job.workdir.read_progress()
        self._session = session
        self._reporter = reporter
        self._evaluate = evaluate

    def start(self) -> None:
        """Show the config and the first images."""
        self._session.board.start(self._session.source.train)

    def after_call(self, num_steps: int, loss: float) -> None:
        """Move the live line; start or end the profile."""
        self._reporter.advance(num_steps, loss)
        self._session.board.after_call(num_steps)

    def after_loop(self, moment: Moment) -> None:
        """Report the loop's steps."""
        self.progress = self._progress(moment)
        self._session.board.training(
            self.progress, moment.result.means, moment.result.seconds_per_step
        )
        self._reporter.report(self.progress)

    def finish(self) -> None:
        """Complete the report of a run that was killed between its last checkpoint and report."""
        if not self.progress.complete:
            end = self._session.run.num_steps
            self.progress = self._reporter.complete(self.progress, self._evaluate.evaluate(end))

    def close(self) -> None:
        """Remove the live line and close the event files."""
        self._reporter.close()
        self._session.board.close()

    def _progress(self, moment: Moment) -> Progress:
        session, result = self._session, moment.result
        run, files = session.run, session.source.files
        images_per_step = run.config.training.batch_per_replica * run.num_replicas
        return Progress(
            step=moment.step,
            num_steps=run.num_steps,
            complete=moment.step == run.num_steps,
            epoch=moment.step * images_per_step / run.num_examples,
            loss=result.means.loss,
            learning_rate=float(session.state.schedule(moment.step - 1)),
            images_per_second=images_per_step / result.seconds_per_step,
            eta_seconds=(run.num_steps - moment.step) * result.seconds_per_step,
            checkpoint_step=session.job.workdir.newest_checkpoint_step(),
            unix_time=time.time(),
            train=result.means.to_json(),
            corrupt_records=files.corrupt if files else 0,
            validation=self._evaluate.newest,
        )
