"""The job of a worker: what it trains, with what data and where."""

from __future__ import annotations

from dataclasses import dataclass

from training.config import RunConfig
from training.workdir.workdir import Workdir
from training.workers.cluster import Cluster


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainJob:
    """One worker's part of a run; every worker has the same but for `cluster.index`.

    Attributes:
        config: Every setting.
        records: The folder that `prepare` wrote, or `SYNTHETIC`.
        workdir: The run's folder, on one storage that all workers see.
        cluster: All workers and which of them this process is.
        initial_checkpoint: Weights that a run without a checkpoint starts from: a slim
            checkpoint or a Keras file.
        fork: Folder of another run, from whose newest checkpoint a run without one goes on.
        profile_steps: Number of steps to trace for TensorBoard's profile page; 0 for none.
        data_service: `grpc://host:port` of a tf.data service; None to decode here.
    """

    config: RunConfig
    records: str
    workdir: Workdir
    cluster: Cluster
    initial_checkpoint: str | None = None
    fork: str | None = None
    profile_steps: int = 0
    data_service: str | None = None
