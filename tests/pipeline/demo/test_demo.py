"""The whole pipeline with real processes: its results, and that no kill destroys them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from pipeline.cli.registry import COMMANDS
from preprocessing import storage
from tests.cluster.node.network import can_make_namespaces
from tests.conftest import Outcome, mobilenet
from tests.pipeline.demo import commands
from tests.recorded_network import RecordedNetwork, recorded_network

pytestmark = pytest.mark.slow

VARIANT = "mobilenet_v2_0.35_64"
STAGES = ("sample", "prepare", "train", "evaluate", "export", "publish", "fetch", "report")
MEASURED = ("latency_ms", "sha256", "bytes", "export_digest", "version_file", "file_bytes")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordedNetwork | None]:
    """Return a network that notes what is asked for; None where it cannot be made."""
    if os.geteuid() or not can_make_namespaces():
        yield None
        return
    with recorded_network(tmp_path_factory.mktemp("network")) as recorded:
        yield recorded


@pytest.fixture(scope="module")
def demo(
    tmp_path_factory: pytest.TempPathFactory, network: RecordedNetwork | None
) -> tuple[Path, Outcome]:
    """Return an undisturbed demo."""
    output = tmp_path_factory.mktemp("demo") / "output"
    run = network.mobilenet if network else mobilenet
    return output, run("demo", f"--output={output}")


def table_of(output: Path) -> list[dict[str, Any]]:
    """Return the published entries without what a clock measured or a history decides."""
    index = json.loads((output / "published" / "index.json").read_text())
    return [
        {key: value for key, value in entry.items() if key not in MEASURED}
        for entry in index["models"]
    ]


def test_every_format_reaches_the_accuracy_and_the_result_is_complete(
    demo: tuple[Path, Outcome],
) -> None:
    output, outcome = demo
    assert outcome.code == 0, outcome.err
    result = outcome.result
    assert result["variant"] == VARIANT
    assert {"checkpoint", "frozen_graph", "keras", "saved_model"} <= set(result["top1"])
    assert sum(name.startswith("tflite_") for name in result["top1"]) == 5
    assert min(result["top1"].values()) >= 0.97
    assert result["top1"]["tflite_float32"] == result["top1"]["checkpoint"]
    assert abs(result["top1"]["tflite_int8"] - result["top1"]["tflite_float32"]) <= 0.01
    assert (result["macs"], result["parameters"]) == (4_749_248, 396_128)
    assert result["rejected"] == 1
    assert result["seconds"] > 0
    assert Path(result["export"]) == output / "exports" / VARIANT


def test_progress_and_where_to_look_are_on_stderr(demo: tuple[Path, Outcome]) -> None:
    output, outcome = demo
    before, _, _ = outcome.err.partition("$ mobilenet ")
    for place in ("records", f"runs/{VARIANT}", f"exports/{VARIANT}", "report.html"):
        assert f" {output}/{place}\n" in before
    for stage in STAGES:
        assert f"$ mobilenet {stage} " in outcome.err
    assert "rejected train/n99900003/n99900003_144.JPEG" in outcome.err
    assert f" dashboard {output}/runs/{VARIANT}\n" in outcome.err
    assert f" registry --database {output}/registry/mlflow.db\n" in outcome.err
    assert f"| [{VARIANT}]({VARIANT}.tgz) | 4 | 0.39 |" in outcome.err
    assert len(outcome.out.splitlines()) == 1


def test_the_packed_models_work_where_they_are_unpacked(
    demo: tuple[Path, Outcome], tmp_path: Path
) -> None:
    """LiteRT runs a downloaded file on an image that is drawn here, by the input contract alone."""
    output, _ = demo
    with tarfile.open(output / "published" / f"{VARIANT}.tgz") as archive:
        archive.extractall(tmp_path)
    labels = (tmp_path / "labels.txt").read_text().splitlines()
    one = np.zeros((8, 8), np.float32)
    one[:, 3:5] = 1.0  # an upright stroke
    image = tf.image.resize(one[..., None].repeat(3, -1), (64, 64), "bicubic").numpy()
    for name, value in (
        (f"{VARIANT}.tflite", np.clip(image, 0, 1) * 2 - 1),
        (f"{VARIANT}_int8.tflite", np.round(np.clip(image, 0, 1) * 255)),
    ):
        interpreter = Interpreter(model_path=str(tmp_path / name))
        interpreter.allocate_tensors()
        details = interpreter.get_input_details()[0]
        interpreter.set_tensor(details["index"], value[None].astype(details["dtype"]))
        interpreter.invoke()
        scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        assert labels[int(np.argmax(scores))] == "one"


def test_the_fetched_model_is_the_exported_one_and_the_report_shows_it(
    demo: tuple[Path, Outcome],
) -> None:
    output, outcome = demo
    export, fetched = Path(outcome.result["export"]), output / "fetched" / VARIANT
    names = list(storage.list_files(str(export)))
    assert list(storage.list_files(str(fetched))) == names
    assert all((export / name).read_bytes() == (fetched / name).read_bytes() for name in names)
    report = (output / "report.html").read_text()
    assert report.count("data:image/jpeg;base64,") > 12
    assert "Worst mistakes" in report


def test_no_command_asks_for_a_host_that_its_user_did_not_name(
    demo: tuple[Path, Outcome], network: RecordedNetwork | None, tmp_path: Path
) -> None:
    """Nor does any keep something for later in the user's home, as reports to its makers would be.

    The workers of the demo train in a network of their own, in which nothing is noted; `certify`
    and `diagnose` train in this one.
    """
    if network is None:
        pytest.skip("needs root, and a container that lets root make namespaces")
    output, _ = demo
    assert not network.taken(), "of the demo"
    environment = commands.environment(tmp_path)
    called = {"demo", *STAGES}
    for call in commands.calls(output, tmp_path):
        outcome = call.run(network, environment)
        assert call.did_its_job(outcome), outcome.out + outcome.err
        assert network.taken() == {call.host} - {None}, call
        called.add(call.arguments[0])
    assert called == {command.name for command in COMMANDS}
    kept = {"/".join(path.relative_to(network.home).parts[:2]) for path in network.home.glob("*/*")}
    assert kept <= {".cache/matplotlib", ".config/matplotlib", ".keras/keras.json"}


def test_a_library_that_reports_its_use_would_be_noticed(tmp_path: Path) -> None:
    """ONNX Runtime does, ten seconds after its first session, unless `pipeline` is imported."""
    if os.geteuid() or not can_make_namespaces():
        pytest.skip("needs root, and a container that lets root make namespaces")
    onnx.save(an_onnx_model(), tmp_path / "model.onnx")
    for before, reports in (("", True), ("import pipeline; ", False)):
        folder = tmp_path / f"network-{reports}"
        folder.mkdir()
        session = f"onnxruntime.InferenceSession('{tmp_path}/model.onnx')"
        script = f"{before}import sys, onnxruntime; kept = {session}; sys.stdin.read()"
        with recorded_network(folder) as network:
            with network.start(sys.executable, "-c", script) as process:
                deadline = time.monotonic() + (60 if reports else 0)
                while not network.asked and time.monotonic() < deadline:
                    time.sleep(0.1)
                process.communicate(timeout=60)
            assert process.returncode == 0
            assert bool(network.taken()) is reports
            assert any(network.home.iterdir()) is reports


def an_onnx_model() -> onnx.ModelProto:
    shape = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "graph", shape[:1], shape[1:])
    opset = onnx.helper.make_opsetid("", 13)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)


def test_run_again_it_redoes_nothing_and_shows_the_same_table(demo: tuple[Path, Outcome]) -> None:
    output, first = demo

    def made() -> dict[Path, int]:
        return {
            path: path.stat().st_mtime_ns
            for path in output.rglob("*")
            if path.is_file() and "registry" not in path.parts and path.name != ".lock"
        }

    before = made()
    again = mobilenet("demo", f"--output={output}")
    assert again.code == 0
    assert made() == before
    without_time = [{**outcome.result, "seconds": 0} for outcome in (first, again)]
    assert without_time[0] == without_time[1]


def test_killed_at_random_moments_it_ends_with_the_same_table(
    demo: tuple[Path, Outcome], tmp_path: Path
) -> None:
    """SIGKILL hits the whole command, whose workers must notice; then it runs again."""
    undisturbed, _ = demo
    output = tmp_path / "output"
    seed = random.randrange(10**6)
    print(f"moments drawn with seed {seed}")
    moments = random.Random(seed)
    # One kill somewhere in each stage that takes long enough to be hit.
    for mark in ("archives.partial", "records/.ingest", "runs", "train: step", "exports", "mlflow"):
        started = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "demo", f"--output={output}"],
            stdout=subprocess.DEVNULL,
            stderr=open(tmp_path / "stderr", "w"),  # noqa: SIM115
        )
        deadline = time.monotonic() + 300
        while started.poll() is None and time.monotonic() < deadline:
            if _reached(mark, output, tmp_path / "stderr"):
                # Publishing is the last stage and takes two seconds; the others take longer.
                time.sleep(moments.uniform(0, 0.5 if mark == "mlflow" else 1.5))
                break
            time.sleep(0.01)
        started.send_signal(signal.SIGKILL)
        assert started.wait() == -signal.SIGKILL, f"{mark}: it had ended already"
        assert _nothing_half_written_looks_complete(output)
    final = mobilenet("demo", f"--output={output}")
    assert final.code == 0, final.err
    assert table_of(output) == table_of(undisturbed)
    assert not list(output.rglob("*.partial-*"))


def _reached(mark: str, output: Path, stderr: Path) -> bool:
    if mark == "train: step":
        return mark in stderr.read_text()
    if mark == "exports":
        return any((output / "exports").glob("*")) if (output / "exports").exists() else False
    if mark == "mlflow":
        return any((output / "registry").glob("mlflow.db*"))  # its tables are being made, or are
    # `os.walk` does not mind folders that the demo removes meanwhile.
    return any(
        os.path.join(folder, name).startswith(f"{output}/{mark}")
        for folder, folders, files in os.walk(output)
        for name in (*folders, *files)
    )


def _nothing_half_written_looks_complete(output: Path) -> bool:
    """Check that every file with a final name can be used."""
    if (output / "archives").exists():
        assert (output / "archives" / "sample.json").exists()
    if (output / "records" / "dataset.json").exists():
        manifest = json.loads((output / "records" / "dataset.json").read_text())
        for shards in manifest["shards"].values():
            for shard in shards:
                assert os.path.getsize(output / "records" / shard["file"]) == shard["bytes"]
    if (output / "exports" / VARIANT).exists():
        metrics = json.loads((output / "exports" / VARIANT / "metrics.json").read_text())
        for name, file in metrics["files"].items():
            assert os.path.getsize(output / "exports" / VARIANT / name) == file["bytes"]
    return True
