"""The registry of models, MLflow: an index of exports, whose truth is each export's metrics.json.

Experiment and registered model are named after the variant; a run is a training run, a version is
an evaluated export. Registering the same export again changes nothing, and a lost registry is
rebuilt by registering the exports again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

from pipeline.export.metrics import ExportMetrics
from pipeline.publish import embedded_registry
from pipeline.publish.passwords import without_password
from pipeline.publish.registry_client import RegistryClient, Version, alias_on
from preprocessing.errors import DataError, PermanentError, UsageError

CHAMPION = "champion"  # the best top-1 on the main dataset; `champion-DIGEST` on others
PUBLISHED = "published"  # what `mobilenet publish` published last


def register(export_folder: str, metrics: ExportMetrics, uri: str) -> Version:
    """Make sure that the registry holds this export as a version of its variant.

    The version whose checkpoint has the best top-1 on the same records gets the alias
    `champion-DIGEST`, with the first digits of their digest, and on the main dataset `champion`.

    Raises:
        PermanentError: The registry cannot be reached; the export is intact.
        DataError: The registry is damaged, or a newer MLflow wrote it.
    """
    remedy = f"the export {export_folder} is intact, run the same command again"
    with _opened(uri, remedy) as client:
        return client.register(export_folder, metrics, champion_alias=CHAMPION)


def champion(model: str, records_digest: str, uri: str) -> Version | None:
    """Return the best version on some records; None when none is registered yet."""
    with _opened(uri, "nothing was changed") as client:
        return client.aliased(model, alias_on(CHAMPION, records_digest))


def mark_published(model: str, version: int, uri: str) -> None:
    """Give the alias `published` to a version."""
    with _opened(uri, "run `mobilenet publish` again to set the alias `published`") as client:
        client.set_alias(model, PUBLISHED, version)


def download(reference: str, names: tuple[str, ...], folder: str, uri: str) -> None:
    """Fetch files of a registered version.

    Args:
        reference: `VARIANT@ALIAS` or `VARIANT/VERSION`, as in MLflow's `models:/` addresses.
        names: Files of the export; one that it does not have is left out.
        folder: The folder to put them in.
        uri: The registry.

    Raises:
        UsageError: There is no such version.
    """
    with _opened(uri, "nothing was changed") as client:
        client.download(reference.removeprefix("models:/"), names, folder)


@contextlib.contextmanager
def _opened(uri: str, remedy: str) -> Iterator[RegistryClient]:
    """Open the registry; an embedded one is this process's alone while the block runs."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    for name in ("mlflow", "alembic"):  # both report every table that they create
        logging.getLogger(name).setLevel(logging.ERROR)
    from alembic.util import CommandError
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with embedded_registry.exclusive(embedded_registry.sqlite_file(uri)):
            yield RegistryClient(MlflowClient(uri, uri), uri)
    except ImportError as error:
        raise UsageError(
            f"registry {without_password(uri)} needs the Python package {error.name}, which is "
            "not installed"
        ) from error
    except (CommandError, MlflowException, SQLAlchemyError) as error:
        raise _explained(uri, error, remedy) from error


def _explained(uri: str, error: Exception, remedy: str) -> PermanentError:
    text, uri = without_password(str(error)), without_password(uri)
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
    return PermanentError(f"registry {uri}: {text.splitlines()[0]}; {remedy}")
