"""MLflow, as an index of exports: the truth is each export's metrics.json.

Experiment and registered model are named after the variant; a run is a training run, a
version is an evaluated export. Registering the same export again changes nothing, and a
lost registry is made anew by registering the exports again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import platformdirs

from pipeline.export import directory, history
from pipeline.publish import mlflow_entry
from preprocessing import storage
from preprocessing.errors import DataError, PermanentError, UsageError

# MLflow would tell its makers of every use; a user who wants that says so.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

DIGEST_TAG = "mobilenet.export_digest"
TRAINING_TAG = "mobilenet.training_digest"
FOLDER_TAG = "mobilenet.artifact_folder"
CHAMPION = "champion"  # best top-1
PUBLISHED = "published"  # what `mobilenet publish` published last
ATTEMPTS = 10
CONFLICTS = ("IntegrityError", "database is locked")  # two processes wrote the same at once


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One registered export."""

    model: str
    version: int
    run_id: str
    export_digest: str
    top1: float
    records_digest: str


def register(export_folder: str, metrics: dict[str, Any], uri: str) -> dict[str, Any]:
    """Make sure the registry holds this export as a version of its variant.

    The best top-1 of the checkpoint gets the alias `champion`.

    Returns:
        `uri`, `model`, `version`, `run_id`.

    Raises:
        PermanentError: The registry cannot be reached; the export is intact.
        DataError: The registry is damaged, or of a newer MLflow.
    """
    with _opened(uri, f"the export {export_folder} is intact, run the same command again") as it:
        version = it.register(export_folder, metrics)
    return {
        "uri": uri,
        "model": version.model,
        "version": version.version,
        "run_id": version.run_id,
    }


def champion(model: str, uri: str) -> Version | None:
    """The version with the alias `champion`; None when nothing is registered yet."""
    with _opened(uri, "nothing was changed") as it:
        return it.aliased(model, CHAMPION)


def mark_published(model: str, version: int, uri: str) -> None:
    """Give `published` to this version."""
    with _opened(uri, "run `mobilenet publish` again to set the alias `published`") as it:
        it.alias(model, PUBLISHED, version)


def download(reference: str, names: tuple[str, ...], folder: str, uri: str) -> None:
    """Fetch files of a registered version.

    Args:
        reference: `VARIANT@ALIAS` or `VARIANT/VERSION`, as in MLflow's `models:/` addresses.
        names: Files of the export; one that it does not have is left out.
        folder: Where to put them.
        uri: The registry.

    Raises:
        UsageError: There is no such version.
    """
    with _opened(uri, "nothing was changed") as it:
        it.download(reference.removeprefix("models:/"), names, folder)


@contextlib.contextmanager
def _opened(uri: str, what_to_do: str) -> Iterator[_Registry]:
    """The registry; an embedded one for this process alone while the block runs."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    for name in ("mlflow", "alembic"):  # both tell of every table they create
        logging.getLogger(name).setLevel(logging.ERROR)
    from alembic.util import CommandError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _exclusive(sqlite_file(uri)):
            yield _Registry(MlflowClient(uri, uri), uri)
    except (CommandError, MlflowException, SQLAlchemyError) as error:
        raise _explained(uri, error, what_to_do) from error


@contextlib.contextmanager
def _exclusive(database: str | None) -> Iterator[None]:
    """One process at a time: making a new database's tables is not safe for two."""
    if database is None:
        yield
        return
    os.makedirs(os.path.dirname(database), exist_ok=True)
    with open(f"{database}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(database):
            _make_database(database)
        yield


def _make_database(database: str) -> None:
    """MLflow's tables, all or none: a process killed among them would leave a useless file."""
    from mlflow import MlflowClient

    partial = f"{database}{storage.PARTIAL}tables"
    for left in (partial, f"{partial}-journal"):
        if os.path.exists(left):
            os.unlink(left)
    uri = f"sqlite:///{partial}"
    client = MlflowClient(uri, uri)
    client.search_experiments()
    client.search_registered_models()
    os.replace(partial, database)


def _explained(uri: str, error: Exception, what_to_do: str) -> PermanentError:
    text = str(error)
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return DataError(
            f"registry {uri} has the schema of another MLflow than the one installed here; "
            "upgrade MLflow, or name another with --registry"
        )
    if "file is not a database" in text or "malformed" in text:
        return DataError(
            f"registry {uri} is no SQLite database; delete it and `mobilenet register` the "
            "exports again, or name another with --registry"
        )
    return PermanentError(f"registry {uri}: {text.splitlines()[0]}; {what_to_do}")


class _Registry:
    def __init__(self, client: Any, uri: str) -> None:
        self._client = client
        self._uri = uri

    def register(self, export_folder: str, metrics: dict[str, Any]) -> Version:
        """The version of this export, made if needed."""
        version: Version = _settled(lambda: self._register(export_folder, metrics))
        return version

    def _register(self, export_folder: str, metrics: dict[str, Any]) -> Version:
        digest, name = directory.export_digest(metrics), metrics["variant"]
        self._ensure_model(name)
        if not self._versions_of(name, digest):
            self._add(export_folder, metrics, digest)
        # The server numbers the versions, so of several processes that came here with the same
        # export all see the same one as the first.
        first, *others = self._versions_of(name, digest)
        for other in others:
            self._withdraw(other, first)
        self._crown(name)
        return first

    def aliased(self, model: str, alias: str) -> Version | None:
        from mlflow.exceptions import MlflowException

        try:
            return _version(self._client.get_model_version_by_alias(model, alias))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def alias(self, model: str, alias: str, version: int) -> None:
        now = self.aliased(model, alias)
        if now is None or now.version != version:
            _settled(lambda: self._client.set_registered_model_alias(model, alias, str(version)))

    def download(self, reference: str, names: tuple[str, ...], folder: str) -> None:
        found = self._find(reference)
        inside = found.tags[FOLDER_TAG]
        there = {each.path for each in self._client.list_artifacts(found.run_id, inside)}
        for name in names:
            if f"{inside}/{name}" in there:
                path = self._client.download_artifacts(found.run_id, f"{inside}/{name}", folder)
                os.replace(path, os.path.join(folder, name))

    def _find(self, reference: str) -> Any:
        from mlflow.exceptions import MlflowException

        model, _, alias = reference.partition("@")
        try:
            if alias:
                return self._client.get_model_version_by_alias(model, alias)
            model, _, version = reference.partition("/")
            return self._client.get_model_version(model, version)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            models = sorted(each.name for each in self._client.search_registered_models())
            raise UsageError(
                f"no version {reference!r} in registry {self._uri}; write VARIANT@champion, "
                f"VARIANT@published or VARIANT/NUMBER; it holds: {', '.join(models) or 'nothing'}"
            ) from None

    def _versions_of(self, name: str, digest: str | None = None) -> list[Version]:
        """The versions of a variant, of one export if given, oldest first."""
        found = map(_version, self._client.search_model_versions(f"name = '{name}'"))
        return sorted(
            (each for each in found if digest in (None, each.export_digest)),
            key=lambda each: each.version,
        )

    def _add(self, export_folder: str, metrics: dict[str, Any], digest: str) -> None:
        """The run, complete, and then the version."""
        folder = f"exports/{digest[:12]}"
        run_id = self._run(export_folder, metrics, digest)
        self._client.log_artifacts(run_id, export_folder, folder)
        self._client.set_terminated(run_id)
        self._client.create_model_version(
            metrics["variant"],
            source=f"{self._client.get_run(run_id).info.artifact_uri}/{folder}",
            run_id=run_id,
            tags={DIGEST_TAG: digest, FOLDER_TAG: folder, **mlflow_entry.tags(metrics)},
        )

    def _withdraw(self, extra: Version, first: Version) -> None:
        """Remove a second version of the same export, and its run if it has one of its own."""
        with _already("RESOURCE_DOES_NOT_EXIST"):
            self._client.delete_model_version(extra.model, str(extra.version))
        if extra.run_id not in {each.run_id for each in (first, *self._versions_of(extra.model))}:
            with _already("RESOURCE_DOES_NOT_EXIST"):
                self._client.delete_run(extra.run_id)

    def _run(self, export_folder: str, metrics: dict[str, Any], digest: str) -> str:
        """The run of the training that made this export.

        Everything logged is a function of the export, so a run that a killed process left
        is completed by doing the same again.
        """
        config = storage.read_json(os.path.join(export_folder, "config.json"))
        training = mlflow_entry.training_digest(config, metrics, digest)
        experiment_id = self._ensure_experiment(metrics["variant"])
        found = self._client.search_runs(
            [experiment_id], f"tags.`{TRAINING_TAG}` = '{training}'", order_by=["start_time ASC"]
        )
        run_id: str = (
            found[0].info.run_id
            if found
            else self._client.create_run(
                experiment_id,
                run_name=f"{metrics['recipe']}-{training[:8]}",
                tags={TRAINING_TAG: training, **mlflow_entry.lineage(metrics)},
            ).info.run_id
        )
        for batch in mlflow_entry.batches(config, metrics, history.read(export_folder)):
            self._client.log_batch(run_id, **batch)
        return run_id

    def _ensure_model(self, name: str) -> None:
        if not self._client.search_registered_models(f"name = '{name}'"):
            with _already("RESOURCE_ALREADY_EXISTS"):
                self._client.create_registered_model(name)

    def _ensure_experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            database = sqlite_file(self._uri)
            artifacts = os.path.join(os.path.dirname(database), "artifacts") if database else ""
            with _already("RESOURCE_ALREADY_EXISTS"):
                self._client.create_experiment(
                    name, artifact_location=f"file://{artifacts}/{name}" if artifacts else None
                )
            experiment = self._client.get_experiment_by_name(name)
        experiment_id: str = experiment.experiment_id
        return experiment_id

    def _crown(self, name: str) -> None:
        """Give `champion` to the version with the best top-1, the older one on a tie.

        Repeated until it holds: another process may have added a better one meanwhile.
        """
        while True:
            best = max(self._versions_of(name), key=lambda each: (each.top1, -each.version))
            now = self.aliased(name, CHAMPION)
            if now is not None and now.version == best.version:
                return
            self._client.set_registered_model_alias(name, CHAMPION, str(best.version))


def _settled(action: Callable[[], Any]) -> Any:
    """Do `action`, again where another process did the same at once.

    Everything here looks first at what is there. So a conflict, which a server reports as it
    comes out of its database, is solved by looking again.
    """
    from mlflow.exceptions import MlflowException

    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            return action()
        except MlflowException as error:
            if not attempts_left or not any(each in str(error) for each in CONFLICTS):
                raise


@contextlib.contextmanager
def _already(error_code: str) -> Iterator[None]:
    """What another process has done meanwhile is as good as ours."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != error_code:
            raise


def _version(found: Any) -> Version:
    return Version(
        model=found.name,
        version=int(found.version),
        run_id=found.run_id,
        export_digest=found.tags.get(DIGEST_TAG, ""),
        top1=float(found.tags.get("top1", "nan")),
        records_digest=found.tags.get("records_digest", ""),
    )


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
