"""Extensions: one object and its registration make a new thing appear everywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.export.conversion.runtimes import of_network
from pipeline.export.conversion.sources import ExportedNetwork, ExportSources
from pipeline.export.exporter import export
from pipeline.export.formats.export_format import ExportFormat, Runner, Tolerance
from pipeline.export.formats.registry import EXPORT_FORMATS
from pipeline.export.formats.tensorflow_files import SAVED_MODEL
from pipeline.export.metrics import ExportMetrics
from pipeline.publish.pages import accuracy_table, plots
from pipeline.publish.pages.accuracy_table import beside_original, ours
from pipeline.publish.pages.html_report import report
from pipeline.publish.published_index import unpublished_entry
from preprocessing.errors import CheckFailedError, UsageError
from preprocessing.records.schema import SPLITS, ImageClass, Manifest
from preprocessing.sources.references import ImageReference, Source
from preprocessing.sources.registry import LAYOUTS, find_source
from tests.conftest import ingest
from tests.pipeline.conftest import VARIANT, Exported, exported  # noqa: F401  (a fixture)
from tests.training.models.tiny_family import TINY
from training.config import ModelConfig
from training.models import mobilenet_v2
from training.models.families import FAMILIES
from training.models.mobilenet import mobilenet
from training.models.model_family import PublishedRow
from training.models.variants import Variant
from training.weights.slim_checkpoint import slim_variables

pytestmark = pytest.mark.slow


def _write_arrays(sources: ExportSources, path: str) -> None:
    np.savez(path, **sources.values)  # type: ignore[arg-type]


def _write_zeros(sources: ExportSources, path: str) -> None:
    zeros = {name: np.zeros_like(value) for name, value in sources.values.items()}
    np.savez(path, **zeros)  # type: ignore[arg-type]


def _open_arrays(path: str, network: ExportedNetwork) -> Runner:
    arrays = np.load(path)
    model = mobilenet(network.layout, ModelConfig(weight_decay=0.0), resolution=network.image_size)
    for name, variable in slim_variables(model, network.layout).items():
        variable.assign(arrays[name])
    return of_network(model)


ARRAYS = ExportFormat(
    name="arrays",
    title="NumPy arrays",
    file="{variant}_arrays.npz",
    write=_write_arrays,
    open=_open_arrays,
    label="arrays",
    shows_accuracy=True,
)


@contextlib.contextmanager
def registered(*export_formats: ExportFormat) -> Iterator[None]:
    """Keep only these formats in the registry, because converting to all takes a minute."""
    kept = list(EXPORT_FORMATS)
    EXPORT_FORMATS[:] = export_formats
    try:
        yield
    finally:
        EXPORT_FORMATS[:] = kept


def test_a_format_is_exported_compared_and_shown(
    exported: Exported,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = str(tmp_path / "export")
    with registered(SAVED_MODEL, ARRAYS):
        metrics = export(exported.what, folder)
        _require_shown(folder, metrics, tmp_path)


def _require_shown(folder: str, metrics: ExportMetrics, tmp_path: Path) -> None:
    assert (tmp_path / "export" / f"{VARIANT}_arrays.npz").stat().st_size == metrics.sizes["arrays"]
    assert metrics.formats["arrays"].agreement_with_checkpoint == 1
    entry = unpublished_entry(folder, metrics)
    assert "arrays Top 1" in ours([entry]).splitlines()[0]
    assert "arrays difference" in beside_original([entry]).splitlines()[0]
    report(folder, str(tmp_path / "report.html"), None)
    page = (tmp_path / "report.html").read_text()
    assert '<th scope="col">arrays<br>top-1</th>' in page
    assert '<th scope="row">arrays</th>' in page


@pytest.mark.parametrize(
    ("tolerance", "message"),
    [
        (Tolerance(), "arrays disagrees with the checkpoint"),
        (Tolerance(max_top1_loss=0.001), "arrays loses .* more than the 0.001 allowed"),
    ],
)
def test_a_format_that_is_wrong_is_refused_by_its_own_tolerance(
    exported: Exported,  # noqa: F811
    tmp_path: Path,
    tolerance: Tolerance,
    message: str,
) -> None:
    wrong = dataclasses.replace(ARRAYS, write=_write_zeros, tolerance=tolerance)
    with registered(wrong), pytest.raises(CheckFailedError, match=message):
        export(exported.what, str(tmp_path / "export"))
    assert not (tmp_path / "export").exists()


def test_a_family_without_keras_network_is_exported_to_everything_else(
    exported: Exported,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(FAMILIES, TINY.name, TINY)
    run = exported.what.run
    config = dataclasses.replace(run.config, variant=Variant.parse("tiny_1.0_32"))
    what = dataclasses.replace(exported.what, run=dataclasses.replace(run, config=config))
    left_out = set(EXPORT_FORMATS) - set(what.export_formats)
    assert {item.name for item in left_out} == {"keras_applications"}
    with pytest.raises(UsageError, match=r"a tiny has no keras_applications; export .*saved_model"):
        dataclasses.replace(what, formats=("keras_applications",))


class FlatFolder:
    """One folder of images whose names start with split and class: `train-cat-0.jpg`."""

    LOOKED_FOR = "a flat folder (SPLIT-CLASS-NUMBER.jpg)"

    def is_here(self, folder: str) -> bool:
        return any(Path(folder).glob("train-*-*.jpg"))

    def find(self, folder: str) -> Source:
        names = sorted({path.name.split("-")[1] for path in Path(folder).glob("*.jpg")})

        def images(split: str) -> Iterator[ImageReference]:
            for path in Path(folder).glob(f"{split}-*.jpg"):
                yield ImageReference(
                    key=f"{split}/{path.name}",
                    path=str(path),
                    offset=0,
                    size=path.stat().st_size,
                    label=names.index(path.name.split("-")[1]) + 1,
                )

        return Source(
            classes=tuple(
                ImageClass(index=index, synset=name, text=name)
                for index, name in enumerate(names, start=1)
            ),
            description={"layout": "flat"},
            listings={split: functools.partial(images, split) for split in SPLITS},
        )


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Return a folder in that layout: two classes, four images to train and two to validate."""
    folder = tmp_path / "flat"
    folder.mkdir()
    random = np.random.default_rng(3)
    for split, count in (("train", 2), ("validation", 1)):
        for name in ("cat", "dog"):
            for number in range(count):
                pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}-{name}-{number}.jpg")
    return folder


def test_a_source_is_recognised_prepared_and_named(flat: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looked for the official archives"):
        find_source(str(flat))
    LAYOUTS.append(FlatFolder())
    try:
        ingest(flat, tmp_path / "records")
        (tmp_path / "nothing").mkdir()
        with pytest.raises(UsageError, match="and a flat folder"):
            find_source(str(tmp_path / "nothing"))
    finally:
        LAYOUTS.pop()
    manifest = Manifest.read(str(tmp_path / "records"))
    assert [image_class.text for image_class in manifest.classes] == ["cat", "dog"]
    assert {split: manifest.num_examples(split) for split in SPLITS} == {
        "train": 4,
        "validation": 2,
    }


def test_a_family_is_in_the_published_table_and_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other laws of families are in `tests/training/models/test_families.py`."""
    row = PublishedRow(width="1.0", resolution=224, top1=80.1, top5=95.2)
    family = dataclasses.replace(
        mobilenet_v2.FAMILY, name="mobilenet_vx", title="MobileNetVX", published=(row,)
    )
    assert b"MobileNetVX" not in plots.accuracy_over_macs([])
    monkeypatch.setitem(FAMILIES, family.name, family)
    cells = ("mobilenet_vx_1.0_224", "300", "3.47", "80.1", "95.2", accuracy_table.NOTHING)
    assert accuracy_table.markdown_row(*cells) in accuracy_table.published()
    assert b"MobileNetVX, published" in plots.accuracy_over_macs([])
