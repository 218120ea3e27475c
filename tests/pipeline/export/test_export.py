"""Every file of an export gives the answers of the checkpoint, in the tools that people use."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from google.protobuf import text_format
from PIL import Image

from pipeline.export import directory, unfinished
from pipeline.export.conversion import litert, slim_graph, tflite, tflite_metadata
from pipeline.export.conversion.structure import require_whole
from pipeline.export.exporter import export
from pipeline.export.formats.registry import tflite_formats
from preprocessing import storage
from preprocessing.errors import CheckFailedError, DataError
from tests.pipeline.conftest import VARIANT, Exported, make_export
from training.config import ModelConfig
from training.input.inception import eval_view
from training.input.records import Records
from training.models.architecture import architecture
from training.models.mobilenet import mobilenet
from training.models.variants import Variant, published_variants
from training.monitoring.image_grid import GAP
from training.weights.keras_applications import application
from training.weights.run_weights import load_state
from training.weights.slim_checkpoint import SHADOW, slim_variables

PLAIN = ModelConfig(weight_decay=0.0)
OUTPUT = "MobilenetV2/Predictions/Reshape_1:0"
CONVERT_TWICE = f"""
import json, sys
from pathlib import Path
import tensorflow as tf
from pipeline.export.conversion import onnx_model
frozen, contract, labels, output = map(Path, sys.argv[1:])
graph = tf.compat.v1.GraphDef.FromString(frozen.read_bytes())
first, second = (
    onnx_model.convert(
        graph,
        name="{VARIANT}",
        output="{OUTPUT}",
        contract=json.loads(contract.read_text()),
        labels=labels.read_bytes(),
    )
    for _ in range(2)
)
assert first == second
output.write_bytes(first)
"""
FORMATS = {
    *("checkpoint", "saved_model", "keras", "keras_applications", "frozen_graph", "onnx"),
    *(item.name for item in tflite_formats()),
}


@pytest.fixture(scope="module")
def jpegs(exported: Exported) -> list[bytes]:
    records = Records(exported.what.records, exported.what.manifest, "validation")
    return [records.read(tf.constant(i, tf.int64))[0].numpy() for i in range(8)]


@pytest.fixture(scope="module")
def images(exported: Exported, jpegs: list[bytes]) -> np.ndarray:
    config = exported.what.run.config.evaluation
    return np.stack([eval_view(jpeg, 96, config).numpy() for jpeg in jpegs])


@pytest.fixture(scope="module")
def expected(exported: Exported, images: np.ndarray) -> np.ndarray:
    """Return the probabilities of the checkpoint."""
    model = load_state(exported.what.workdir, exported.what.run).averaged_model
    return tf.nn.softmax(model(images, training=False)).numpy()


def test_the_folder_holds_what_the_published_archive_holds_and_what_people_want_today(
    exported: Exported,
) -> None:
    endings = (
        *(".ckpt.data-00000-of-00001", ".ckpt.index", ".ckpt.meta"),
        *("_eval.pbtxt", "_frozen.pb", "_info.txt", ".tflite"),
        *("_float16.tflite", "_dynamic.tflite", "_int8.tflite", "_int8_signed.tflite"),
        *(".keras", ".weights.h5", ".onnx"),
    )
    files = set(storage.list_files(str(exported.folder)))
    assert {f"{VARIANT}{ending}" for ending in endings} <= files
    assert {"labels.txt", "calibration.json", "saved_model/saved_model.pb"} <= files


def test_metrics_say_everything_of_every_format(exported: Exported) -> None:
    metrics = exported.metrics
    assert set(metrics.formats) == set(metrics.sizes) == FORMATS
    for name, figures in metrics.formats.items():
        assert figures.examples == 40
        assert figures.agreement_with_checkpoint >= 0.95, name
    for name in (item.name for item in tflite_formats()):
        timing = metrics.latency.formats[name]
        assert timing.threads
        assert timing.median_ms == timing.threads["1"].median_ms
        assert set(timing.threads) == {"1", "2", "4"}
        assert metrics.arena_bytes[name] > 96 * 96 * 3
    assert metrics.arena_bytes["tflite_int8"] < metrics.arena_bytes["tflite_float32"] / 3
    contract = metrics.input_contract
    assert contract
    assert (contract.range, contract.crop_fraction, contract.label_offset) == (
        (-1.0, 1.0),
        0.875,
        1,
    )
    directory.require_intact(str(exported.folder), metrics)


def test_calibration_takes_as_many_of_every_class_and_says_which(exported: Exported) -> None:
    listing = json.loads((exported.folder / "calibration.json").read_text())
    records = Records(exported.what.records, exported.what.manifest, "train")
    labels = [int(records.read(tf.constant(i, tf.int64))[1]) for i in listing["indices"]]
    assert labels == listing["labels"]
    assert listing["records_digest"] == exported.what.manifest.digest
    assert len(set(listing["indices"])) == 60  # fewer than 500 images: all of them


def test_a_saver_restores_the_averages_into_the_meta_graph(
    exported: Exported, images: np.ndarray, expected: np.ndarray
) -> None:
    prefix = exported.file(".ckpt")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.train.import_meta_graph(f"{prefix}.meta").restore(session, prefix)
        found = session.run(OUTPUT, {"input:0": images})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_saver_of_slims_variables_restores_the_raw_weights(exported: Exported) -> None:
    prefix = exported.file(".ckpt")
    state = load_state(exported.what.workdir, exported.what.run)
    named = slim_variables(state.model, state.layout)
    values = {name: variable.numpy() for name, variable in named.items()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = [
            tf.compat.v1.get_variable(name, value.shape, use_resource=False)
            for name, value in values.items()
        ]
        tf.compat.v1.train.Saver(variables).restore(session, prefix)
        for found, value in zip(session.run(variables), values.values(), strict=True):
            assert np.array_equal(found, value)


def test_the_eval_graph_is_text_with_the_saver_of_the_averages(exported: Exported) -> None:
    graph = tf.compat.v1.GraphDef()
    text_format.Parse(Path(exported.file("_eval.pbtxt")).read_text(), graph)
    names = {node.name for node in graph.node}
    assert {"input", OUTPUT.removesuffix(":0"), "save/restore_all"} <= names
    restored = next(node for node in graph.node if node.name == "save/RestoreV2/tensor_names")
    assert all(name.decode().endswith(SHADOW) for name in restored.attr["value"].tensor.string_val)


def test_a_session_runs_the_frozen_graph(
    exported: Exported, images: np.ndarray, expected: np.ndarray
) -> None:
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(Path(exported.file("_frozen.pb")).read_bytes())
    assert not [node.name for node in graph.node if "Variable" in node.op]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(graph, name="")
        found = session.run(OUTPUT, {"input:0": images})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_opencv_runs_the_frozen_graph(
    exported: Exported, images: np.ndarray, expected: np.ndarray
) -> None:
    network = cv2.dnn.readNetFromTensorflow(exported.file("_frozen.pb"))
    network.setInput(images.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(network.forward(), expected, atol=1e-4)


def test_onnx_runtime_and_opencv_run_the_onnx_file_by_what_is_inside_it_alone(
    exported: Exported, images: np.ndarray, expected: np.ndarray
) -> None:
    session = onnxruntime.InferenceSession(exported.file(".onnx"))
    (given,) = session.get_inputs()
    assert given.shape == ["N", 96, 96, 3]
    (found,) = session.run([OUTPUT], {given.name: images})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    inside = session.get_modelmeta().custom_metadata_map
    assert inside["labels"].splitlines() == ["background", *(f"class {i}" for i in range(1, 11))]
    assert json.loads(inside["input_contract"]) == exported.contract.to_json()
    network = cv2.dnn.readNetFromONNX(exported.file(".onnx"))
    for image, wanted in zip(images, expected, strict=True):
        network.setInput(image[np.newaxis])
        np.testing.assert_allclose(network.forward()[0], wanted, atol=1e-4)


def test_the_onnx_file_is_the_same_in_every_process(exported: Exported, tmp_path: Path) -> None:
    contract = tmp_path / "contract.json"
    contract.write_text(json.dumps(exported.contract.to_json()))
    again = tmp_path / "again.onnx"
    subprocess.run(
        [
            *(sys.executable, "-c", CONVERT_TWICE, exported.file("_frozen.pb"), str(contract)),
            *(str(exported.folder / "labels.txt"), str(again)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        check=True,
    )
    assert again.read_bytes() == Path(exported.file(".onnx")).read_bytes()


def test_the_saved_model_takes_images_and_jpegs_without_our_code(
    exported: Exported, jpegs: list[bytes], images: np.ndarray, expected: np.ndarray
) -> None:
    loaded = tf.saved_model.load(str(exported.folder / "saved_model"))
    from_images = loaded.signatures["serving_default"](images=tf.constant(images))
    from_jpegs = loaded.signatures["jpeg"](encoded_images=tf.constant(jpegs))
    for outputs in (from_images, from_jpegs):
        np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-5)
        np.testing.assert_allclose(tf.nn.softmax(outputs["logits"]), expected, atol=1e-5)


def test_keras_loads_its_file_and_it_names_nothing_of_ours(
    exported: Exported, images: np.ndarray, expected: np.ndarray
) -> None:
    with zipfile.ZipFile(exported.file(".keras")) as archive:
        config = archive.read("config.json").decode()
    assert "mobilenet>" not in config
    assert "training." not in config
    model = keras.models.load_model(exported.file(".keras"))
    np.testing.assert_allclose(model(images, training=False), expected, atol=1e-5)


def test_keras_own_network_loads_the_weights_and_gives_the_same_logits(
    exported: Exported, images: np.ndarray
) -> None:
    state = load_state(exported.what.workdir, exported.what.run)
    theirs = application(exported.what.variant, state.layout.classifier.out_channels)
    theirs.load_weights(exported.file(".weights.h5"))
    expected = state.averaged_model(images, training=False).numpy()
    found = theirs(images, training=False).numpy()
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".tflite", np.float32),
        ("_float16.tflite", np.float32),
        ("_dynamic.tflite", np.float32),
        ("_int8.tflite", np.uint8),
        ("_int8_signed.tflite", np.int8),
    ],
)
def test_litert_runs_every_file_by_what_is_inside_it_alone(
    exported: Exported, images: np.ndarray, expected: np.ndarray, suffix: str, kind: type
) -> None:
    flatbuffer = Path(exported.file(suffix)).read_bytes()
    model = litert.LiteRTModel(flatbuffer)
    assert model.input_type == model.output_type == kind
    labels = tflite_metadata.read_files(flatbuffer)["labels.txt"].decode().splitlines()
    assert labels == ["background", *(f"class {i}" for i in range(1, 11))]
    contract = json.loads(tflite_metadata.read_files(flatbuffer)["input_contract.json"])
    assert contract == exported.contract.to_json()
    if kind is not np.float32:
        require_pixels_as_the_metadata_says(flatbuffer, kind)
    found = np.stack([model.probabilities(image) for image in images])
    tolerance = 0.15 if "int8" in suffix or "dynamic" in suffix else 1e-2
    np.testing.assert_allclose(found, expected, atol=tolerance)
    assert np.mean(found.argmax(axis=1) == expected.argmax(axis=1)) >= 0.85


def require_pixels_as_the_metadata_says(flatbuffer: bytes, kind: type) -> None:
    said = b"the pixels as they are" if kind is np.uint8 else b"the pixels minus 128"
    assert said in flatbuffer
    model = Interpreter(model_content=flatbuffer)
    scale, zero_point = model.get_input_details()[0]["quantization"]
    pixels = np.arange(256)
    stored = pixels if kind is np.uint8 else pixels - 128
    assert np.abs(scale * (stored - zero_point) - (pixels - 127.5) / 127.5).max() <= scale


def test_int8_is_full_int8_per_channel(exported: Exported) -> None:
    for suffix in ("_int8.tflite", "_int8_signed.tflite"):
        interpreter = Interpreter(model_path=exported.file(suffix))
        kernels = [
            details
            for details in interpreter.get_tensor_details()
            if details["dtype"] == np.int8 and len(details["quantization_parameters"]["scales"]) > 1
        ]
        assert len(kernels) == len(list(architecture(Variant.parse(VARIANT), 11).convolutions()))
        floats = [e for e in interpreter.get_tensor_details() if e["dtype"] == np.float32]
        assert not floats


def test_a_format_outside_its_tolerance_stops_the_export_and_shows_the_worst_images(
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """The converter turns the sign of the first kernel."""
    convert = tflite.convert

    def sign_turned(model: keras.Model, calibration_images: np.ndarray) -> dict[str, bytes]:
        kernel = model.get_layer("Conv").kernel
        before = kernel.numpy()
        kernel.assign(-before)
        try:
            return convert(model, calibration_images)
        finally:
            kernel.assign(before)

    monkeypatch.setattr(tflite, "convert", sign_turned)
    with pytest.raises(CheckFailedError, match=r"tflite_float32 disagrees .* nothing was exported"):
        export(exported.what, str(tmp_path / "refused"))
    kept = f"refused{unfinished.SUFFIX}"  # for the same export with a larger tolerance
    assert sorted(path.name for path in tmp_path.iterdir()) == [kept, "refused.worst.png"]
    assert Image.open(tmp_path / "refused.worst.png").width % (224 + GAP) == GAP
    assert "tflite_float32 is wrong on validation image" in capsys.readouterr().err


def test_a_file_without_weights_is_refused_before_it_is_run(float32: bytes) -> None:
    layout = architecture(Variant.parse(VARIANT), 11)
    require_whole("tflite_float32", float32, layout, bytes_per_weight=4, extra_bytes=1000)
    model = mobilenet(layout, PLAIN, resolution=96)

    @tf.function(input_signature=[tf.TensorSpec((1, 96, 96, 3), tf.float32)])
    def classify(batch: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(model(batch, training=False))

    function = classify.get_concrete_function()
    emptied = tf.lite.TFLiteConverter.from_concrete_functions([function], model).convert()
    with pytest.raises(CheckFailedError, match="tflite_float32"):
        require_whole("tflite_float32", emptied, layout, bytes_per_weight=4, extra_bytes=0)


def test_a_file_of_another_network_is_refused_by_its_operators(float32: bytes) -> None:
    other = architecture(Variant.parse("mobilenet_v1_0.25_96"), 11)
    with pytest.raises(CheckFailedError, match="CONV_2D instead of"):
        require_whole("tflite_float32", float32, other, bytes_per_weight=4, extra_bytes=0)


def test_a_truncated_file_is_refused_in_one_line(exported: Exported, tmp_path: Path) -> None:
    whole = Path(exported.file(".tflite")).read_bytes()
    for length in (10, 1000, len(whole) // 2):
        cut = tmp_path / "cut.tflite"
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.tflite is no complete TF-Lite model") as refused:
            litert.LiteRTModel.read(str(cut))
        assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match="cut short"):
        tflite_metadata.read_files(whole[:-100])


def test_raw_weights_are_exported_when_asked_for(exported: Exported, tmp_path: Path) -> None:
    what = dataclasses.replace(exported.what, weights="raw", formats=("frozen_graph",))
    metrics = export(what, str(tmp_path / "raw"))
    assert metrics.weights == "raw"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        prefix = str(tmp_path / "raw" / f"{VARIANT}.ckpt")
        saver = tf.compat.v1.train.import_meta_graph(f"{prefix}.meta")
        saver.restore(session, prefix)
        names = tf.compat.v1.get_default_graph().get_operation_by_name(
            "save/RestoreV2/tensor_names"
        )
        restored = session.run(names.outputs[0])
    assert not [name for name in restored if name.decode().endswith(SHADOW)]


def test_the_graph_follows_every_published_variant() -> None:
    """Names and shapes of the frozen graph's constants are the checkpoint's, V1 and V2."""
    names = published_variants()
    for name in (names[0], names[-1]):
        variant = Variant.parse(name)
        layout = architecture(variant, 1001)
        model = mobilenet(layout, PLAIN, resolution=variant.resolution)
        values = {key: variable.numpy() for key, variable in slim_variables(model, layout).items()}
        graph = slim_graph.frozen_graph(layout, variant.resolution, values)
        constants = {node.name: node for node in graph.node if node.op == "Const"}
        for key, value in values.items():
            assert np.array_equal(tf.make_ndarray(constants[key].attr["value"].tensor), value)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["mobilenet_v1_0.25_128", "mobilenet_v2_1.4_224"])
def test_small_and_large_variants_pass_every_check_with_1001_outputs(
    variant: str, tmp_path: Path
) -> None:
    """In `benchmarks/variants.py` all 38 variants do."""
    metrics = make_export(tmp_path, variant, num_classes=1000).metrics
    assert set(metrics.formats) == FORMATS
    for name, size in (("tflite_float32", 4), ("tflite_float16", 2), ("tflite_int8", 1)):
        assert metrics.sizes[name] >= size * metrics.parameters
