"""Keras' formats: the whole network, and weights for `keras.applications`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.export.formats.export_format import ExportFormat, Runner

if TYPE_CHECKING:
    from pipeline.export.conversion.sources import ExportedNetwork, ExportSources


def _write_keras(sources: ExportSources, path: str) -> None:
    from pipeline.export.conversion import serving

    serving.write_keras(sources.network, path)


def _open_keras(path: str, network: ExportedNetwork) -> Runner:
    from pipeline.export.conversion import runtimes

    return runtimes.of_keras_file(path)


def _write_weights(sources: ExportSources, path: str) -> None:
    from training.weights import keras_applications

    keras_applications.write_weights(path, sources.network, sources.variant, sources.layout)


def _open_weights(path: str, network: ExportedNetwork) -> Runner:
    from pipeline.export.conversion import runtimes

    return runtimes.of_keras_weights(path, network.variant, network.num_outputs)


KERAS = ExportFormat(
    name="keras",
    title=".keras",
    file="{variant}.keras",
    write=_write_keras,
    open=_open_keras,
)
KERAS_APPLICATIONS = ExportFormat(
    name="keras_applications",
    title="weights for keras.applications",
    file="{variant}.weights.h5",
    write=_write_weights,
    open=_open_weights,
    exists_for=lambda family: family.keras_application is not None,
)
