"""`import mobilenet` gives what the commands give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mobilenet
from pipeline.cli.entry_point import main
from pipeline.export import per_image
from preprocessing.errors import DataError, RetryError, UsageError
from preprocessing.records.schema import Manifest
from tests.pipeline.conftest import Exported, make_export
from tests.shallow_family import VARIANT
from training.input.records import Records
from training.workdir.workdir import Workdir

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return make_export(tmp_path_factory.mktemp("exported"), "shallow_1.0_96")


def test_importing_the_package_imports_nothing_heavy() -> None:
    script = (
        "import mobilenet, sys; print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.slow
def test_extensions_are_known_to_whoever_imports_the_package(tmp_path: Path) -> None:
    extension = ROOT / "tests" / "shallow_family.py"
    script = f"import mobilenet; print(mobilenet.build({VARIANT!r}, classes=3).output_shape)"
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "MOBILENET_EXTENSIONS": str(extension), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "(None, 4)"


@pytest.mark.slow
def test_the_datasets_hold_every_example_once_and_the_labels_of_the_records(records: Path) -> None:
    opened = mobilenet.records(records)
    manifest = Manifest.read(str(records))
    assert opened.classes == tuple(each.text for each in manifest.classes)
    labels: list[int] = []
    for pixels, batch in opened.dataset("validation", size=32, batch=50):
        assert pixels.shape[1:] == (32, 32, 3)
        assert 0 <= float(pixels.numpy().min()) <= float(pixels.numpy().max()) <= 255.001
        labels += batch.numpy().tolist()
    source = Records(str(records), manifest, "validation")
    expected = [int(source.read(index)[1]) for index in np.arange(source.num_examples)]
    assert labels == expected
    epoch = opened.num_examples("train") // 48 * 48
    drawn = opened.dataset("train", size=32, batch=48, recipe="demo", seed=3)
    first, second = (
        np.concatenate([part.numpy() for _, part in drawn.take(epoch // 48)]) for _ in range(2)
    )
    assert np.array_equal(first, second)


@pytest.mark.slow
def test_a_network_learns_in_keras_and_its_input_is_what_the_datasets_give(records: Path) -> None:
    import keras

    opened = mobilenet.records(records)
    model = mobilenet.build(VARIANT, classes=len(opened.classes), recipe="demo")
    assert [layer.name for layer in model.layers].count("dropout") == 1
    model.compile(
        keras.optimizers.Adam(0.003),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        opened.dataset("train", size=32, batch=48, recipe="demo"),
        steps_per_epoch=60,
        epochs=2,
        verbose=0,
    )
    assert history.history["loss"][1] < 0.8 * history.history["loss"][0]


@pytest.mark.slow
def test_a_network_with_the_weights_of_an_export_says_what_the_export_says(
    exported: Exported,
) -> None:
    variant = exported.what.variant.name
    classes = len(exported.what.manifest.classes)
    model = mobilenet.build(variant, classes=classes, weights=exported.folder)
    opened = mobilenet.records(exported.what.records)
    logits = model.predict(opened.dataset("validation", size=96, batch=100), verbose=0)
    kept = per_image.read(str(exported.folder), "checkpoint")
    np.testing.assert_array_equal(logits.argmax(axis=1), kept.classes[:, 0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tflite_float32", "keras", "onnx"])
def test_a_loaded_model_classifies_files_as_it_did_when_it_was_exported(
    name: str, exported: Exported, tmp_path: Path
) -> None:
    files = []
    source = Records(exported.what.records, exported.what.manifest, "validation")
    for index in range(7):
        files.append(tmp_path / f"{index}.jpg")
        files[-1].write_bytes(source.read(np.int64(index))[0].numpy())
    classifier = mobilenet.load(exported.folder, format=name)
    kept = per_image.read(str(exported.folder), name)
    for index, prediction in enumerate(classifier.classify(files)):
        assert prediction.label == classifier.labels[kept.classes[index, 0]]
        assert prediction.probability == pytest.approx(kept.scores[index, 0], abs=1e-3)
        alone = classifier(files[index].read_bytes())
        assert alone.top(3)[0] == (alone.label, alone.probability)
        assert alone.label == prediction.label


@pytest.mark.slow
def test_one_file_alone_is_the_export(exported: Exported, tmp_path: Path) -> None:
    file = exported.metrics.files_by_format["tflite_float32"]
    alone = tmp_path / "model.tflite"
    alone.write_bytes((exported.folder / file).read_bytes())
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    expected = mobilenet.load(exported.folder)(pixels)
    for model in (exported.folder / file, alone):
        found = mobilenet.load(model)(pixels)
        assert found.labels == expected.labels
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)


@pytest.mark.slow
def test_any_kind_of_image_is_classified_and_a_turned_one_as_the_upright_one(
    exported: Exported, tmp_path: Path
) -> None:
    classifier = mobilenet.load(exported.folder)
    gradient = np.zeros((40, 80, 3), np.uint8)
    gradient[..., 0] = np.linspace(0, 255, 80)
    image = Image.fromarray(gradient)
    expected = classifier(gradient).probabilities
    for name in ("a.png", "a.webp", "a.bmp", "a.jpg"):
        options = {"lossless": True} if name == "a.webp" else {"quality": 100, "subsampling": 0}
        image.save(tmp_path / name, **({} if name.endswith("bmp") else options))
        np.testing.assert_allclose(
            classifier(tmp_path / name).probabilities, expected, atol=0.01, err_msg=name
        )
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    sideways = image.transpose(Image.Transpose.ROTATE_90)
    sideways.save(tmp_path / "sideways.jpg", quality=100, subsampling=0, exif=exif)
    found = classifier(tmp_path / "sideways.jpg").probabilities
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.slow
def test_the_command_prints_what_the_package_finds_and_names_what_is_no_image(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels[::-1]).save(folder / "b.png")
    (folder / ".DS_Store").write_bytes(b"x")
    arguments = ["predict", str(folder), f"--model={exported.folder}", "--top=2"]
    assert main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [Path(row["image"]).name for row in rows] == ["a.png"] * 2 + ["b.png"] * 2
    best = mobilenet.load(exported.folder)(folder / "a.png").top(2)
    assert [(row["class"], row["probability"]) for row in rows[:2]] == [
        (label, round(probability, 4)) for label, probability in best
    ]
    assert main(arguments) == 0
    assert "a.png" in capsys.readouterr().out
    (folder / "c.jpg").write_bytes(b"no image")
    assert main([*arguments, "--json"]) == 3
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)) == 4
    assert "c.jpg cannot be classified" in shown.err
    assert "1 of 3 images could not be classified" in shown.err


@pytest.mark.slow
def test_wrong_models_and_images_are_refused_in_one_line(
    exported: Exported, tmp_path: Path
) -> None:
    (tmp_path / "empty.tflite").write_bytes(b"x" * 100)
    (tmp_path / "photo.jpg").write_bytes(b"x")
    for model, format_name, message in (
        (tmp_path / "nothing", None, "does not exist"),
        (tmp_path, None, "no model that can be opened"),
        (tmp_path / "photo.jpg", None, "no model that can be opened"),
        (tmp_path / "empty.tflite", None, "no labels"),
        (exported.folder, "tflite", "has no format 'tflite'; it has "),
        (tmp_path / "photo.jpg", "onnx", "no choice of a format"),
    ):
        with pytest.raises((UsageError, DataError), match=message):
            mobilenet.load(model, format=format_name)
    classifier = mobilenet.load(exported.folder)
    for image in (np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(DataError, match=r"expected uint8 \[H, W, 3\]"):
            classifier(image)
    with pytest.raises(FileNotFoundError):
        classifier(tmp_path / "nothing.jpg")


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["mobilenet_v2_0.35_96", "mobilenet_v1_0.25_128"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_maps_have_the_strides_that_were_asked_for(variant: str, output_stride: int) -> None:
    strides = [stride for stride in (2, 4, 8, 16, 32) if stride <= output_stride]
    extractor = mobilenet.feature_maps(
        variant, strides=strides, output_stride=output_stride, size=160
    )
    maps = extractor(np.zeros((2, 160, 160, 3), np.float32))
    assert [tuple(each.shape[:3]) for each in maps] == [
        (2, 160 // stride, 160 // stride) for stride in strides
    ]


@pytest.mark.slow
def test_a_map_of_a_network_without_dilation_is_the_one_inside_the_network() -> None:
    import keras

    variant = "mobilenet_v2_0.35_96"
    keras.utils.set_random_seed(1)
    extractor = mobilenet.feature_maps(variant, strides=(16, 32))
    network = mobilenet.build(variant, classes=1)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    features = next(layer for layer in network.layers if layer.name == "features")
    inside = keras.Model(
        features.input,
        [features.get_layer(name).output for name in _names_of_last_maps(features)],
    )
    for expected, found in zip(inside(pixels / 127.5 - 1), extractor(pixels), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def _names_of_last_maps(features: object) -> list[str]:
    layers = features.layers  # type: ignore[attr-defined]
    before_pool = layers[1 : [layer.name for layer in layers].index("pool")]
    last = {layer.output.shape[1]: layer.name for layer in before_pool}
    return [last[6], last[3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strides": (5,)}, "strides must be some of"),
        ({"strides": ()}, "strides must be some of"),
        ({"strides": (32,), "output_stride": 16}, "strides must be some of"),
        ({"output_stride": 4}, "output_stride must be"),
        ({"size": 100}, "multiple of 32"),
    ],
)
def test_impossible_maps_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mobilenet.feature_maps("mobilenet_v2_0.35_96", **arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_run_is_the_one_of_the_command_and_its_errors_are_raised(
    records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = mobilenet.train(
        VARIANT,
        records=records,
        workdir=tmp_path / "run",
        recipe="demo",
        epochs=0.1,
        settings={"augmentation.flip": True, "training.batch_per_replica": 16},
    )
    assert progress.complete
    assert "train: step" in capsys.readouterr().err
    run = Workdir(str(tmp_path / "run")).read_run()
    assert run.config.augmentation.flip
    with pytest.raises(UsageError, match="did you mean 'demo'"):
        mobilenet.train(VARIANT, records=records, workdir=tmp_path / "other", recipe="dem")
    with pytest.raises(UsageError, match="holds another run"):
        mobilenet.train(VARIANT, records=records, workdir=tmp_path / "run", recipe="published")


def test_a_run_that_was_interrupted_says_that_it_can_go_on() -> None:
    from mobilenet.runs import _raise_for

    with pytest.raises(RetryError, match="run it again"):
        _raise_for(143, "mobilenet: interrupted; run it again")
    _raise_for(0, "")
