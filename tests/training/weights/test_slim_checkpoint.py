"""Written checkpoints have the published format, and come back bit by bit."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from preprocessing.errors import DataError, UsageError
from training.config import ModelConfig
from training.models.architecture import architecture
from training.models.layout import Architecture
from training.models.mobilenet import mobilenet
from training.models.variants import Variant
from training.weights import slim_checkpoint
from training.weights.slim_checkpoint import SHADOW, slim_variables

DATA = Path(__file__).parents[2] / "data"


def network(key: str, seed: int = 0) -> tuple[keras.Model, Architecture]:
    version, width, outputs = key.split("_")
    layout = architecture(Variant(f"mobilenet_{version}", width, 96), int(outputs))
    return mobilenet(layout, ModelConfig(), resolution=96, seed=seed), layout


def arrays(model: keras.Model, layout: Architecture, offset: float = 0) -> dict[str, np.ndarray]:
    named = slim_variables(model, layout)
    random = np.random.default_rng(int(offset * 10))
    return {
        name: random.normal(offset, 1, variable.shape).astype(np.float32)
        for name, variable in named.items()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict]]:
    """Write a checkpoint whose averages differ from its raw weights."""
    model, layout = network("v2_0.35_1001")
    raw, averages = arrays(model, layout), arrays(model, layout, 0.5)
    prefix = tmp_path_factory.mktemp("slim") / "mobilenet_v2_0.35_96.ckpt"
    slim_checkpoint.write(str(prefix), raw, averages, 1234)
    return prefix, {"raw": raw, "ema": averages}


def shapes() -> dict[str, tuple[int, ...]]:
    named = json.loads((DATA / "variables.json").read_text())["v2_0.35_1001"]
    return {name: tuple(shape) for name, shape in named.items()}


def test_names_and_shapes_are_slims_and_each_has_its_shadow(
    written: tuple[Path, dict[str, dict]],
) -> None:
    stored = tf.train.load_checkpoint(str(written[0])).get_variable_to_shape_map()
    expected = {name: list(shape) for name, shape in shapes().items()}
    expected |= {name + SHADOW: shape for name, shape in list(expected.items())}
    assert stored == {**expected, "global_step": []}


@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_what_is_written_comes_back_bit_by_bit(
    written: tuple[Path, dict[str, dict]], weights: str
) -> None:
    prefix, values = written
    found, step = slim_checkpoint.read(str(prefix), shapes(), weights)
    assert step == 1234
    for name, value in values[weights].items():
        assert np.array_equal(found[name], value), name


def test_the_notebook_takes_averages_but_raw_statistics(
    written: tuple[Path, dict[str, dict]],
) -> None:
    prefix, values = written
    found, _ = slim_checkpoint.read(str(prefix), shapes(), "notebook")
    for name, value in found.items():
        kind = "raw" if "moving_" in name else "ema"
        assert np.array_equal(value, values[kind][name]), name


def test_a_tf1_graph_restores_it_with_a_saver(written: tuple[Path, dict[str, dict]]) -> None:
    """slim, TF Object Detection and DeepLab restore it in this way."""
    prefix, values = written
    names = ["MobilenetV2/expanded_conv_3/project/weights", "MobilenetV2/Conv/BatchNorm/gamma"]
    with tf.Graph().as_default():
        variables = [
            tf.compat.v1.get_variable(name, shapes()[name], use_resource=False) for name in names
        ]
        saver = tf.compat.v1.train.Saver(variables)
        with tf.compat.v1.Session() as session:
            saver.restore(session, str(prefix))
            for name, value in zip(names, session.run(variables), strict=True):
                assert np.array_equal(value, values["raw"][name])


@pytest.mark.parametrize("form", ["folder", "tgz"])
def test_the_folder_and_the_published_archive_are_read_too(
    written: tuple[Path, dict[str, dict]], tmp_path: Path, form: str
) -> None:
    """This holds also when the archive has a SavedModel with its own variables."""
    prefix, values = written
    path = prefix.parent
    variables = path / "saved_model" / "variables"
    variables.mkdir(parents=True, exist_ok=True)
    (path / "saved_model" / "saved_model.pb").touch()
    (variables / "variables.index").touch()
    if form == "tgz":
        path = tmp_path / "mobilenet_v2_0.35_96.tgz"
        with tarfile.open(path, "w:gz") as archive:
            for file in prefix.parent.iterdir():
                archive.add(file, file.name)
    found, _ = slim_checkpoint.read(str(path), shapes())
    assert np.array_equal(
        found["MobilenetV2/Conv/weights"], values["ema"]["MobilenetV2/Conv/weights"]
    )


def test_all_that_is_missing_or_misshapen_is_listed(
    written: tuple[Path, dict[str, dict]],
) -> None:
    needed = {**shapes(), "MobilenetV2/Extra/weights": (1,), "MobilenetV2/Extra/biases": (1,)}
    needed["MobilenetV2/Conv/weights"] = (3, 3, 3, 32)
    with pytest.raises(DataError) as refused:
        slim_checkpoint.read(str(written[0]), needed, "raw")
    message = str(refused.value)
    assert "2 missing: MobilenetV2/Extra/weights, MobilenetV2/Extra/biases" in message
    assert "1 of another shape: MobilenetV2/Conv/weights is (3, 3, 3, 16)" in message


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.tgz").write_bytes(b"\x1f\x8b\x08 not all of it")
    (tmp_path / "odd.ckpt.index").write_bytes(b"odd")
    with pytest.raises(UsageError, match="is no checkpoint"):
        slim_checkpoint.read(str(tmp_path / "none.ckpt"), shapes())
    with pytest.raises(DataError, match=r"no complete \.tgz"):
        slim_checkpoint.read(str(tmp_path / "cut.tgz"), shapes())
    with pytest.raises(DataError, match="no TensorFlow checkpoint"):
        slim_checkpoint.read(str(tmp_path / "odd.ckpt"), shapes())


@pytest.mark.parametrize("name", ["../out.index", "/out.index", "a/../../out.index"])
def test_a_member_outside_the_archive_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "crafted.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataError, match="no file or folder inside it"):
        slim_checkpoint.read(str(path), shapes())


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "crafted.tgz"
    link = tarfile.TarInfo("a.index")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(link)
    with pytest.raises(DataError, match="no file or folder inside it"):
        slim_checkpoint.read(str(path), shapes())
