"""From a process and its environment to a finished run, or to the exit code that says why not."""

from __future__ import annotations

import contextlib
from typing import Any

import tensorflow as tf

from preprocessing.errors import NonFiniteLossError, PermanentError, RetryError
from training.config import RunConfig
from training.loop.loop import train
from training.workdir import attempts, recovery
from training.workdir.lock import exclusive_between_machines
from training.workers.cluster import Cluster, meet
from training.workers.failures import explained
from training.workers.watchdog import ProcessGuard, StoppedError, raise_if_signalled

LEAVING_SECONDS = 20.0  # TensorFlow may wait for a peer that is gone


def run_training(
    config: RunConfig,
    records: str,
    workdir: str,
    cluster: Cluster,
    initial_checkpoint: str = "",
    profile_steps: int = 0,
    data_service: str = "",
) -> dict[str, Any]:
    """Train as worker `cluster.index`; returns the final progress.

    Raises:
        RetryError: A peer was lost, or this process was asked to stop.
        PermanentError: Data, storage or loss are at fault, or attempts are used up.
    """
    several = len(cluster.workers) > 1
    guard = ProcessGuard(config.loop.grace_seconds)
    shared = several and cluster.is_chief
    with exclusive_between_machines(workdir) if shared else contextlib.nullcontext():
        if cluster.is_chief:
            attempts.begin(workdir, config.loop.max_attempts)
        try:
            with explained(records):
                meet(cluster, config.loop.startup_timeout_seconds, raise_if_signalled)
                guard.expect(
                    "connecting to the other workers (loop.startup_timeout_seconds)",
                    config.loop.startup_timeout_seconds,
                )
                strategy = tf.distribute.MultiWorkerMirroredStrategy()
                guard.listen()
                done = train(
                    config,
                    records,
                    workdir,
                    cluster,
                    strategy,
                    initial_checkpoint,
                    guard,
                    profile_steps,
                    data_service,
                )
                guard.exit_code = 0
                return done
        except StoppedError:
            if cluster.is_chief:
                attempts.forgive(workdir)
            raise
        except NonFiniteLossError as error:
            guard.exit_code = error.exit_code
            final = recovery.go_back(
                workdir, error, config.loop.max_blow_up_recoveries, cluster.is_chief
            )
            guard.exit_code = final.exit_code
            if cluster.is_chief:
                attempts.note_failure(workdir, final)
            raise final from error
        except (PermanentError, RetryError) as error:
            guard.exit_code = error.exit_code
            if cluster.is_chief:
                with contextlib.suppress(OSError):  # what went wrong may be this very folder
                    attempts.note_failure(workdir, error)
            raise
        finally:
            guard.expect("leaving TensorFlow", LEAVING_SECONDS)
