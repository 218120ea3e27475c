"""The run of one process, from its environment to a finished run or an error with an exit code."""

from __future__ import annotations

import contextlib

import tensorflow as tf

from preprocessing.errors import NonFiniteLossError, PermanentError, RetryError, UsageError
from training.loop.loop import train
from training.loop.train_job import TrainJob
from training.workdir import attempts, recovery
from training.workdir.lock import exclusive_between_machines
from training.workdir.progress import Progress
from training.workers.failures import explained
from training.workers.heartbeats import bear_silence
from training.workers.rendezvous import rendezvous
from training.workers.watchdog import ProcessWatchdog, StoppedError, raise_if_signalled

LEAVING_SECONDS = 20.0  # TensorFlow may wait for a peer that is gone


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
            rendezvous(job.cluster, limits.startup_timeout_seconds, raise_if_signalled)
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
