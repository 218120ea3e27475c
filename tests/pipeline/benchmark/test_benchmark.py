"""`mobilenet benchmark` measures all figures of an export, on this machine and on a phone."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from pipeline.benchmark import adb, op_profile
from pipeline.benchmark.adb import Phone
from pipeline.benchmark.measurement import benchmark
from pipeline.export import directory
from pipeline.export.conversion import litert
from pipeline.export.conversion.structure import expected_ops
from pipeline.export.formats.registry import tflite_formats
from preprocessing import storage
from preprocessing.errors import DataError, PermanentError, UsageError
from tests.conftest import mobilenet
from tests.emulator import Emulator
from tests.pipeline.conftest import VARIANT, Exported
from training.models.architecture import architecture
from training.models.variants import Variant

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[2] / "data"
# What benchmark_model of TensorFlow 2.18 prints, shortened, and of 2.4, without percentiles.
PRINTED = (DATA / "benchmark_model_2.18.txt").read_text()
OLD = (DATA / "benchmark_model_2.4.txt").read_text()
FAKE_ADB = """\
#!{python}
import os, shutil, sys
device, arguments = os.environ["FAKE_DEVICE"], sys.argv[1:]
with open(os.path.join(device, "calls"), "a") as calls:
    print(*arguments, file=calls)
if arguments[:1] == ["-s"]:
    if arguments[1] != "emulator-5554":
        sys.exit(f"error: device '{{arguments[1]}}' not found")
    arguments = arguments[2:]
verb, *rest = arguments
local = lambda path: device + path
if verb == "push":
    shutil.copy(rest[0], local(rest[1]))
elif rest[0].startswith("mkdir"):
    os.makedirs(local(rest[0].split()[-1]), exist_ok=True)
elif rest[0].startswith("rm"):
    os.remove(local(rest[0].split()[-1]))
elif rest[0].startswith("getprop"):
    print({{"ro.product.model": "Pixel 1"}}.get(rest[0].split()[-1], "unknown"))
elif "benchmark_model --" in rest[0]:
    graph = rest[0].split("--graph=")[1].split()[0]
    assert os.path.getsize(local(graph)) > 1000 and os.path.exists(local(rest[0].split()[0]))
    print({printed!r})
"""


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a fake adb on the path, and return the folder that plays the phone."""
    tools, device = tmp_path / "tools", tmp_path / "device"
    tools.mkdir()
    device.mkdir()
    (tools / "adb").write_text(FAKE_ADB.format(python=sys.executable, printed=PRINTED))
    (tools / "adb").chmod(0o755)
    (tools / "benchmark_model").write_bytes(b"binary")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_DEVICE", str(device))
    return device


def test_figures_are_complete_and_the_export_stays_as_it_is(exported: Exported) -> None:
    result = benchmark(str(exported.folder))
    assert (result.macs, result.variant.name) == (exported.metrics.macs, VARIANT)
    assert result.host.cores == os.cpu_count()
    for name, cost in result.formats.items():
        assert cost.bytes == exported.metrics.sizes[name]
        assert cost.arena_bytes == exported.metrics.arena_bytes[name]
        assert cost.latency.threads
        for timing in cost.latency.threads.values():
            assert 0 < timing.median_ms <= timing.p95_ms
            assert timing.runs
            assert timing.runs >= 20


def test_an_export_in_a_bucket_is_measured(exported: Exported, emulator: Emulator) -> None:
    there = f"{emulator.bucket}/e"
    storage.upload_folder(str(exported.folder), there, last=directory.METRICS)
    outcome = mobilenet("benchmark", there)
    assert outcome.code == 0, outcome.err
    assert {*outcome.result["formats"]} == {item.name for item in tflite_formats()}


def test_the_profile_names_every_operator_of_the_network(exported: Exported) -> None:
    for suffix in (".tflite", "_float16.tflite", "_int8.tflite"):
        profiled = op_profile.profile(Path(exported.file(suffix)).read_bytes())
        counts = {op: summary.count for op, summary in op_profile.by_type(profiled).items()}
        assert expected_ops(architecture(Variant.parse(VARIANT), 11)).items() <= counts.items()
        assert sum(summary.share for summary in op_profile.by_type(profiled).values()) == (
            pytest.approx(1, abs=0.01)
        )


def test_the_arena_holds_the_largest_two_maps_that_live_together(float32: bytes) -> None:
    """The maps have 24 x 24 places: the result of the last block and that of `Conv_1`."""
    largest = 4 * 24 * 24 * (24 + 1280)
    assert largest <= litert.arena_bytes(float32) < 1.5 * largest


def test_a_changed_file_is_refused(exported: Exported, tmp_path: Path) -> None:
    copy = tmp_path / "export"
    shutil.copytree(exported.folder, copy)
    path = copy / f"{VARIANT}.tflite"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=rf"{VARIANT}\.tflite changed"):
        benchmark(str(copy))


def test_a_phone_runs_every_file_and_keeps_none(
    exported: Exported, phone: Path, capsys: pytest.CaptureFixture
) -> None:
    binary = str(phone.parent / "tools" / "benchmark_model")
    result = benchmark(str(exported.folder), phone=Phone(binary, "emulator-5554"))
    printed = result.to_json()
    assert printed["phone"]["ro.product.model"] == "Pixel 1"
    assert set(printed["formats"]) == set(exported.metrics.arena_bytes)
    for cost in printed["formats"].values():
        assert cost["phone"]["median_ms"] == 18.86
        assert set(cost["phone"]["threads"]) == {"1", "2", "4"}
    left = [path.name for path in (phone / adb.REMOTE_FOLDER[1:]).iterdir()]
    assert left == ["benchmark_model"]
    calls = (phone / "calls").read_text()
    assert calls.count("--num_threads=4") == len(result.formats)
    assert "phone" in capsys.readouterr().err


def test_what_the_binary_prints_is_read_whatever_its_age() -> None:
    parsed = adb.parse(PRINTED.replace("\n", "\r\n"))
    assert (parsed.median_ms, parsed.p95_ms, parsed.mean_ms) == (18.86, 19.044, 18.8714)
    assert (parsed.runs, parsed.init_ms, parsed.memory_mb) == (53, 5.579, 19.832)
    assert parsed.ops == {
        "Convolution (NHWC, F32)": adb.PhoneOperators(count=36, ms=14.133),
        "SOFTMAX": adb.PhoneOperators(count=1, ms=0.117),
    }
    old = adb.parse(OLD)
    assert (old.median_ms, old.p95_ms, old.runs) == (249.684, 249.684, 50)
    assert (old.memory_mb, old.ops) == (138.809, {})


def test_mistakes_with_a_phone_end_in_one_line(
    phone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"benchmark_model.*get benchmark_model from"):
        Phone(str(tmp_path / "benchmark_model")).prepare()
    binary = str(phone.parent / "tools" / "benchmark_model")
    with pytest.raises(UsageError, match=r"device 'other' not found; check `adb devices`"):
        Phone(binary, "other").prepare()
    with pytest.raises(PermanentError, match="it said: Segmentation fault"):
        adb.parse("STARTING!\nSegmentation fault\n")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="adb is not installed"):
        Phone(binary).prepare()
