"""The run of one process, from its environment to a finished run or an error with an exit code."""

from __future__ import annotations

import contextlib
import time

import tensorflow as tf

from preprocessing.errors import NonFiniteLossError, PermanentError, RetryError, UsageError
from training.loop.loop import train
from training.loop.train_job import TrainJob
from training.workdir import attempts, recovery
from training.workdir.lock import exclusive_between_machines
from training.workdir.progress import Progress
from training.workdir.workdir import Workdir
from training.workers.failures import explained
from training.workers.heartbeats import bear_silence
from training.workers.rendezvous import rendezvous
from training.workers.watchdog import ProcessWatchdog, StoppedError, raise_if_signalled

LEAVING_SECONDS = 20.0  # TensorFlow may wait for a peer that is gone
LOOK_SECONDS = 10.0  # between two looks at the workdir while waiting for peers


def run_training(job: TrainJob) -> Progress:
    """Train as worker `job.cluster.index`; return the final progress.

    Raises:
        RetryError: A peer did not come or was lost, or this process was asked to stop.
        PermanentError: Data, storage or loss are at fault, or attempts are used up.
    """
    limits, is_chief = job.config.loop, job.cluster.is_chief
    watchdog = ProcessWatchdog(limits.grace_seconds)
    shared = is_chief and job.cluster.has_peers
    with exclusive_between_machines(job.workdir) if shared else contextlib.nullcontext():
        with explained(job.records, has_peers=job.cluster.has_peers):
            rendezvous(
                job.cluster, limits.startup_timeout_seconds, _WaitingCheck(job.workdir).check
            )
        if is_chief:  # only now: to wait for the others in vain is no attempt
            attempts.begin(job.workdir, limits.max_attempts)
        try:
            return _train_together(job, watchdog)
        except (StoppedError, UsageError):  # ended from outside, or a command that was refused
            if is_chief:
                attempts.uncount(job.workdir)
            raise
        except NonFiniteLossError as error:
            watchdog.exit_code = error.exit_code
            final = recovery.go_back(job.workdir, error, limits.max_blow_up_recoveries, is_chief)
            watchdog.exit_code = final.exit_code
            if is_chief:
                attempts.note_failure(job.workdir, final)
            raise final from error
        except (PermanentError, RetryError) as error:
            watchdog.exit_code = error.exit_code
            if is_chief:
                with contextlib.suppress(OSError):  # the failure may be of this very folder
                    attempts.note_failure(job.workdir, error)
            raise
        finally:
            watchdog.expect("leaving TensorFlow", LEAVING_SECONDS)


class _WaitingCheck:
    """What ends the wait for peers: a signal, or the end of the run without this worker."""

    def __init__(self, workdir: Workdir) -> None:
        self._workdir = workdir
        self._look_at = time.monotonic() + LOOK_SECONDS

    def check(self) -> None:
        """Raise if waiting has become pointless.

        Raises:
            StoppedError: This process was asked to stop.
            RetryError: The run is complete, with another worker in the place of this one.
        """
        raise_if_signalled()
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        if self._workdir.read_progress().complete:
            raise RetryError(
                f"the run in {self._workdir} was completed while this worker waited for the "
                "others; run the same command again, it will find that nothing is left to do"
            )


def _train_together(job: TrainJob, watchdog: ProcessWatchdog) -> Progress:
    """Connect to the other workers, then train."""
    seconds = job.config.loop.startup_timeout_seconds
    with explained(job.records, has_peers=job.cluster.has_peers):
        watchdog.expect("connecting to the other workers (loop.startup_timeout_seconds)", seconds)
        bear_silence(job.cluster)
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        watchdog.listen()
        progress = train(job, strategy, watchdog=watchdog)
        watchdog.exit_code = 0
        return progress
