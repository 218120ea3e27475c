"""The calls of MLflow's client that the registry needs, safe for several processes at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.export import directory, history
from pipeline.export.metrics import ExportMetrics
from pipeline.publish import embedded_registry, mlflow_entry
from pipeline.publish.passwords import without_password
from preprocessing.errors import UsageError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

DIGEST_TAG = "mobilenet.export_digest"
TRAINING_TAG = "mobilenet.training_digest"
FOLDER_TAG = "mobilenet.artifact_folder"
ATTEMPTS = 10
CONFLICTS = ("IntegrityError", "database is locked")  # two processes wrote the same at once
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # error codes

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One registered export.

    Attributes:
        num_examples: Validation images of `top1`; 0 in versions that older code registered.
        num_classes: Classes of the records; 0 in versions that older code registered.
    """

    model: str
    version: int
    run_id: str
    export_digest: str
    top1: float
    records_digest: str
    num_examples: int = 0
    num_classes: int = 0


def alias_on(alias: str, records_digest: str) -> str:
    """Return the alias that is given for some records, for example `champion-0123abcd`."""
    return f"{alias}-{records_digest[:8]}"


def champions(versions: Iterable[Version], alias: str) -> dict[str, Version]:
    """Return the best version on each dataset by its alias, and that of the main dataset.

    Top-1 is comparable on the same records only. The best is the older one on a tie. The main
    dataset has the most validation images, then the most classes, then the newest version.
    """
    by_records: dict[str, list[Version]] = {}
    for version in versions:
        by_records.setdefault(version.records_digest, []).append(version)
    best = {
        digest: max(group, key=lambda version: (version.top1, -version.version))
        for digest, group in by_records.items()
    }
    main = max(
        by_records,
        key=lambda digest: max(
            (version.num_examples, version.num_classes, version.version)
            for version in by_records[digest]
        ),
    )
    return {alias: best[main], **{alias_on(alias, digest): best[digest] for digest in best}}


class RegistryClient:
    """An open registry."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client = client
        self._uri = uri

    def register(
        self, export_folder: str, metrics: ExportMetrics, *, champion_alias: str
    ) -> Version:
        """Return the version of this export, made if needed, and choose the champion."""
        return _settled(lambda: self._register(export_folder, metrics, champion_alias))

    def _register(self, export_folder: str, metrics: ExportMetrics, champion_alias: str) -> Version:
        model = metrics.variant.name
        self._ensure_model(model)
        if not self._versions_of(model, metrics.digest):
            self._add(export_folder, metrics)
        # The server numbers the versions. So several processes that add the same export at once
        # all see the same version as the first.
        first, *duplicates = self._versions_of(model, metrics.digest)
        for duplicate in duplicates:
            self._withdraw(duplicate, first)
        self._set_champions(model, champion_alias)
        return first

    def aliased(self, model: str, alias: str) -> Version | None:
        """Return the version with an alias; None if there is no such version."""
        from mlflow.exceptions import MlflowException

        try:
            return _version(self._client.get_model_version_by_alias(model, alias))
        except MlflowException as error:
            if error.error_code in MISSING:
                return None
            raise

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Give an alias to a version unless it has it already."""
        current = self.aliased(model, alias)
        if current is None or current.version != version:
            _settled(lambda: self._client.set_registered_model_alias(model, alias, str(version)))

    def download(self, reference: str, names: tuple[str, ...], folder: str) -> None:
        """Fetch those files `names` that a version has into `folder`."""
        version = self._find(reference)
        artifact_folder = version.tags[FOLDER_TAG]
        artifacts = self._client.list_artifacts(version.run_id, artifact_folder)
        paths = {artifact.path for artifact in artifacts}
        for name in names:
            path = f"{artifact_folder}/{name}"
            if path in paths:
                downloaded = self._client.download_artifacts(version.run_id, path, folder)
                os.replace(downloaded, os.path.join(folder, name))

    def _find(self, reference: str) -> ModelVersion:
        from mlflow.exceptions import MlflowException

        model, _, alias = reference.partition("@")
        try:
            if alias:
                return self._client.get_model_version_by_alias(model, alias)
            model, _, version = reference.partition("/")
            return self._client.get_model_version(model, version)
        except MlflowException as error:
            if error.error_code not in MISSING:
                raise
            models = sorted(model.name for model in self._client.search_registered_models())
            raise UsageError(
                f"no version {reference!r} in registry {without_password(self._uri)}; write "
                "VARIANT@champion, VARIANT@published or VARIANT/NUMBER; it holds: "
                f"{', '.join(models) or 'nothing'}"
            ) from None

    def _versions_of(self, model: str, digest: str | None = None) -> list[Version]:
        """Return the versions of a variant, or of one export, the oldest first."""
        versions = map(_version, self._client.search_model_versions(f"name = '{model}'"))
        return sorted(
            (version for version in versions if digest in (None, version.export_digest)),
            key=lambda version: version.version,
        )

    def _add(self, export_folder: str, metrics: ExportMetrics) -> None:
        """Add the run, complete, and then the version."""
        folder = f"exports/{metrics.digest[:12]}"
        run_id = self._run(export_folder, metrics)
        self._client.log_artifacts(run_id, export_folder, folder)
        self._client.set_terminated(run_id)
        self._client.create_model_version(
            metrics.variant.name,
            source=f"{self._client.get_run(run_id).info.artifact_uri}/{folder}",
            run_id=run_id,
            tags={DIGEST_TAG: metrics.digest, FOLDER_TAG: folder, **mlflow_entry.tags(metrics)},
        )

    def _withdraw(self, duplicate: Version, first: Version) -> None:
        """Remove a second version of the same export, and its run if no other version has it."""
        with _ignored("RESOURCE_DOES_NOT_EXIST"):
            self._client.delete_model_version(duplicate.model, str(duplicate.version))
        kept = (first, *self._versions_of(duplicate.model))
        if duplicate.run_id not in {version.run_id for version in kept}:
            with _ignored("RESOURCE_DOES_NOT_EXIST"):
                self._client.delete_run(duplicate.run_id)

    def _run(self, export_folder: str, metrics: ExportMetrics) -> str:
        """Return the id of the run of the training that made this export.

        Everything logged is a function of the export, so a run that a killed process left
        behind is completed by logging the same again.
        """
        run = directory.read_run(export_folder, metrics)
        training = mlflow_entry.training_digest(run, metrics)
        experiment_id = self._ensure_experiment(metrics.variant.name)
        runs = self._client.search_runs(
            [experiment_id], f"tags.`{TRAINING_TAG}` = '{training}'", order_by=["start_time ASC"]
        )
        run_id: str = (
            runs[0].info.run_id
            if runs
            else self._client.create_run(
                experiment_id,
                run_name=f"{metrics.recipe}-{training[:8]}",
                tags={TRAINING_TAG: training, **mlflow_entry.lineage(metrics)},
            ).info.run_id
        )
        for batch in mlflow_entry.batches(run, metrics, history.read(export_folder)):
            self._client.log_batch(run_id, **batch)
        return run_id

    def _ensure_model(self, name: str) -> None:
        if not self._client.search_registered_models(f"name = '{name}'"):
            with _ignored("RESOURCE_ALREADY_EXISTS"):
                self._client.create_registered_model(name)

    def _ensure_experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            database = embedded_registry.sqlite_file(self._uri)
            location = None
            if database:
                location = f"file://{os.path.join(os.path.dirname(database), 'artifacts')}/{name}"
            with _ignored("RESOURCE_ALREADY_EXISTS"):
                self._client.create_experiment(name, artifact_location=location)
            experiment = self._client.get_experiment_by_name(name)
        experiment_id: str = experiment.experiment_id
        return experiment_id

    def _set_champions(self, model: str, alias: str) -> None:
        """Give the aliases to the versions that `champions` names.

        This is repeated until it holds: another process may have added a better one meanwhile.
        """
        while True:
            changed = False
            for name, best in champions(self._versions_of(model), alias).items():
                current = self.aliased(model, name)
                if current is None or current.version != best.version:
                    self._client.set_registered_model_alias(model, name, str(best.version))
                    changed = True
            if not changed:
                return


def _settled(action: Callable[[], Result]) -> Result:
    """Return what `action` returns, repeated where another process did the same at once.

    Every action first looks at what exists. So a conflict, which a server reports as it comes
    out of its database, is solved by looking again; so is a duplicate that another process
    withdrew after this one had seen it.
    """
    from mlflow.exceptions import MlflowException

    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            return action()
        except MlflowException as error:
            withdrawn = error.error_code == "RESOURCE_DOES_NOT_EXIST"
            conflicting = withdrawn or any(conflict in str(error) for conflict in CONFLICTS)
            if not attempts_left or not conflicting:
                raise
    raise AssertionError  # the loop returns or raises


@contextlib.contextmanager
def _ignored(error_code: str) -> Iterator[None]:
    """Ignore an error of MLflow: another process has done the same meanwhile."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != error_code:
            raise


def _version(version: Any) -> Version:
    return Version(
        model=version.name,
        version=int(version.version),
        run_id=version.run_id,
        export_digest=version.tags.get(DIGEST_TAG, ""),
        top1=float(version.tags.get("top1", "nan")),
        records_digest=version.tags.get("records_digest", ""),
        num_examples=int(version.tags.get("validation_examples", 0)),
        num_classes=int(version.tags.get("classes", 0)),
    )
