"""MLflow, as an index of exports: the truth is each export's metrics.json.

Experiment and registered model are named after the variant; a run is a training run, a
version is an evaluated export. Registering the same export again changes nothing.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shlex
import subprocess
import sys
from typing import Any

import platformdirs

from pipeline import exports
from preprocessing import storage
from preprocessing.errors import PermanentError, UsageError

DIGEST_TAG = "mobilenet.export_digest"


def default_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or a SQLite file in the user's data folder."""
    from_environment = os.environ.get("MLFLOW_TRACKING_URI")
    return from_environment or sqlite_uri(platformdirs.user_data_dir("mobilenet"))


def sqlite_uri(folder: str) -> str:
    """The embedded registry in `folder`."""
    return f"sqlite:///{os.path.abspath(os.path.join(folder, 'mlflow.db'))}"


def sqlite_file(uri: str) -> str | None:
    """The file of an embedded registry; None for a server."""
    return uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None


def browse_command(uri: str, program: str = "mobilenet") -> str:
    """The command, or address, that shows the registry's page."""
    database = sqlite_file(uri)
    return f"{program} registry --database {shlex.quote(database)}" if database else uri


def register(export_folder: str, metrics: dict[str, Any], uri: str) -> dict[str, Any]:
    """Make sure the registry holds this export as a version of its variant.

    The best top-1 of the checkpoint gets the alias `champion`.

    Returns:
        `uri`, `model`, `version`, `run_id`.

    Raises:
        PermanentError: The registry cannot be reached; the export is intact.
    """
    database = sqlite_file(uri)
    for name in ("mlflow", "alembic"):  # both tell of every table they create
        logging.getLogger(name).setLevel(logging.ERROR)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        if database:
            _ensure_database(database)
        return _Registry(MlflowClient(uri, uri), uri).register(export_folder, metrics)
    except MlflowException as error:
        raise PermanentError(
            f"registry {uri}: {str(error).splitlines()[0]}; the export {export_folder} is intact, "
            "run `mobilenet publish` again"
        ) from error


def _ensure_database(database: str) -> None:
    """MLflow's tables, all or none: a process killed among them would leave a useless file."""
    from mlflow import MlflowClient

    folder, name = os.path.split(database)
    os.makedirs(folder, exist_ok=True)
    with open(f"{database}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(database):
            return
        partial = os.path.join(folder, f"{name}{storage.PARTIAL}tables")
        for left in (partial, f"{partial}-journal"):
            if os.path.exists(left):
                os.unlink(left)
        uri = f"sqlite:///{partial}"
        client = MlflowClient(uri, uri)
        client.search_experiments()
        client.search_registered_models()
        os.replace(partial, database)


class _Registry:
    def __init__(self, client: Any, uri: str) -> None:
        self._client = client
        self._uri = uri

    def register(self, export_folder: str, metrics: dict[str, Any]) -> dict[str, Any]:
        digest = exports.export_digest(metrics)
        name = metrics["variant"]
        version = self._version(name, digest)
        if version is None:
            run_id = self._run(export_folder, metrics, digest)
            version = self._client.create_model_version(
                name,
                source=f"{self._client.get_run(run_id).info.artifact_uri}/export",
                run_id=run_id,
                tags={DIGEST_TAG: digest, **_tags(metrics)},
            )
        self._crown(name)
        return {
            "uri": self._uri,
            "model": name,
            "version": int(version.version),
            "run_id": version.run_id,
        }

    def _version(self, name: str, digest: str) -> Any:
        """The registered version of this export, if there is one; creates the model."""
        models = self._client.search_registered_models(f"name = '{name}'")
        if not models:
            self._client.create_registered_model(name)
        for version in self._client.search_model_versions(f"name = '{name}'"):
            if version.tags.get(DIGEST_TAG) == digest:
                return version
        return None

    def _run(self, export_folder: str, metrics: dict[str, Any], digest: str) -> str:
        """A complete run for this export; one that a killed process left is completed."""
        experiment = self._client.get_experiment_by_name(metrics["variant"])
        experiment_id = (
            experiment.experiment_id if experiment else self._create_experiment(metrics["variant"])
        )
        found = self._client.search_runs([experiment_id], f"tags.`{DIGEST_TAG}` = '{digest}'")
        run = (
            found[0]
            if found
            else self._client.create_run(
                experiment_id,
                run_name=f"{metrics['recipe']}-{metrics['lineage']['checkpoint_step']}",
                tags={DIGEST_TAG: digest, **_tags(metrics)},
            )
        )
        run_id: str = run.info.run_id
        config = storage.read_json(os.path.join(export_folder, "config.json"))["config"]
        for key, value in _flat(config).items():
            self._client.log_param(run_id, key, value)
        for key, measurement in _measurements(metrics).items():
            self._client.log_metric(run_id, key, measurement)
        self._client.log_artifacts(run_id, export_folder, "export")
        self._client.set_terminated(run_id)
        return run_id

    def _create_experiment(self, name: str) -> str:
        database = sqlite_file(self._uri)
        artifacts = (
            f"file://{os.path.join(os.path.dirname(database), 'artifacts', name)}"
            if database
            else None
        )
        experiment_id: str = self._client.create_experiment(name, artifact_location=artifacts)
        return experiment_id

    def _crown(self, name: str) -> None:
        """Give `champion` to the version with the best top-1, the older one on a tie."""
        versions = self._client.search_model_versions(f"name = '{name}'")
        best = max(versions, key=lambda each: (float(each.tags["top1"]), -int(each.version)))
        self._client.set_registered_model_alias(name, "champion", best.version)


def _tags(metrics: dict[str, Any]) -> dict[str, str]:
    return {
        **{key: str(value) for key, value in metrics["lineage"].items()},
        "recipe": metrics["recipe"],
        "top1": repr(metrics["formats"]["checkpoint"]["top1"]),
    }


def _measurements(metrics: dict[str, Any]) -> dict[str, float]:
    measurements: dict[str, float] = {"macs": metrics["macs"], "parameters": metrics["parameters"]}
    for name, figures in metrics["formats"].items():
        for key in ("top1", "top5", "agreement_with_checkpoint"):
            measurements[f"{name}.{key}"] = figures[key]
    for name in ("tflite_float32", "tflite_int8"):
        for key, value in metrics["latency"][name].items():
            measurements[f"{name}.latency_{key}"] = value
    return measurements


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = json.dumps(value) if not isinstance(value, str) else value
    return flat


def serve(database: str, port: int) -> int:
    """Show the embedded registry's page until interrupted; returns the exit code."""
    if not os.path.exists(database):
        raise UsageError(f"no registry at {database}; publish something first")
    return subprocess.call(
        [
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--backend-store-uri",
            f"sqlite:///{os.path.abspath(database)}",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ]
    )
