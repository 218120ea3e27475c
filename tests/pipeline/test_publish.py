"""Publishing is a function of exports: reproducible, repeatable, and never silently replacing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import exports
from pipeline.publish import pack, publish, published_entry, read_index
from pipeline.registry import register, sqlite_uri
from preprocessing import storage
from preprocessing.errors import DataError, PermanentError, UsageError


def make_export(
    folder: Path,
    variant: str = "mobilenet_v2_0.35_64",
    top1: float = 0.97,
    flatbuffer: bytes = b"flatbuffer",
) -> Path:
    """An export directory as `mobilenet export` leaves it, with small files."""
    (folder / "saved_model").mkdir(parents=True)
    (folder / f"{variant}.tflite").write_bytes(flatbuffer)
    (folder / "saved_model" / "saved_model.pb").write_bytes(b"graph")
    config = {"config": {"seed": 1, "optimizer": {"momentum": 0.9}}, "num_classes": 10}
    storage.write_json(str(folder / "config.json"), config)
    names = ("checkpoint", "saved_model", "tflite_float32", "tflite_int8")
    figures = {"top1": top1, "top5": 1.0, "examples": 360, "agreement_with_checkpoint": 1.0}
    timing = {"median_ms": 0.25, "p95_ms": 0.5}
    metrics = {
        "variant": variant,
        "recipe": "demo",
        "macs": 4_749_248,
        "parameters": 396_128,
        "formats": {name: dict(figures) for name in names},
        "latency": {
            "host": {"cpu": "a CPU", "cores": 2, "system": "Linux"},
            "tflite_float32": timing,
            "tflite_int8": timing,
        },
        "rejected": 1,
        "lineage": {
            "checkpoint_step": 299,
            "records_digest": "r" * 64,
            "config_digest": "c" * 64,
            "git_commit": "abc",
        },
        "files": exports.file_digests(str(folder)),
    }
    storage.write_json(str(folder / exports.METRICS), metrics)
    return folder


def publish_to(export: Path, folder: Path, **options: Any) -> dict[str, Any]:
    metrics = exports.read_metrics(str(export))
    registered = {"model": metrics["variant"], "version": 1}
    return publish(str(export), metrics, registered, str(folder), options.get("overwrite", False))


def test_packing_is_reproducible_and_holds_every_file_flat(tmp_path: Path) -> None:
    first = make_export(tmp_path / "a")
    second = make_export(tmp_path / "b")
    assert pack(str(first)) == pack(str(second))
    (tmp_path / "packed.tgz").write_bytes(pack(str(first)))
    with tarfile.open(tmp_path / "packed.tgz") as archive:
        assert archive.getnames() == exports.list_files(str(first))


def test_index_and_page_show_what_was_measured(tmp_path: Path) -> None:
    export = make_export(tmp_path / "e")
    entry = publish_to(export, tmp_path / "published")
    assert read_index(str(tmp_path / "published")) == [entry]
    page = (tmp_path / "published" / "README.md").read_text()
    row = "| 4 | 0.39 | 97.0 | 100.0 | 97.0 | 0.25 | 0.25 |"
    assert f"| [mobilenet_v2_0.35_64](mobilenet_v2_0.35_64.tgz) {row}" in page
    archive = tmp_path / "published" / entry["file"]
    assert storage.digest_of_file(str(archive)) == entry["sha256"]


def test_publishing_again_is_recognised(tmp_path: Path) -> None:
    export = make_export(tmp_path / "e")
    entry = publish_to(export, tmp_path / "published")
    metrics = exports.read_metrics(str(export))
    assert published_entry(str(tmp_path / "published"), metrics) == entry
    assert publish_to(export, tmp_path / "published") == entry


def test_another_export_of_a_variant_replaces_only_when_told(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    publish_to(make_export(tmp_path / "old"), folder)
    better = make_export(tmp_path / "new", top1=0.99)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match="--overwrite"):
        publish_to(better, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    publish_to(better, folder, overwrite=True)
    assert [each["top1"]["checkpoint"] for each in read_index(str(folder))] == [0.99]


def test_variants_come_in_the_order_of_the_published_table(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    names = ["mobilenet_v2_0.35_64", "mobilenet_v2_0.35_96", "mobilenet_v2_1.4_224"]
    for name in names:
        publish_to(make_export(tmp_path / name, name), folder)
    assert [each["variant"] for each in read_index(str(folder))] == names[::-1][:2] + names[:1]


def test_an_export_that_is_not_what_was_measured_is_refused(tmp_path: Path) -> None:
    export = make_export(tmp_path / "e")
    (export / "mobilenet_v2_0.35_64.tflite").write_bytes(b"flatbuffeR")
    with pytest.raises(DataError, match=r"mobilenet_v2_0\.35_64\.tflite changed"):
        exports.require_intact(str(export), exports.read_metrics(str(export)))


def test_registering_twice_changes_nothing_and_the_best_is_champion(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = sqlite_uri(str(tmp_path / "registry"))
    worse, better = make_export(tmp_path / "a", top1=0.9), make_export(tmp_path / "b", top1=0.95)
    metrics = [exports.read_metrics(str(each)) for each in (worse, better)]
    first = register(str(worse), metrics[0], uri)
    assert register(str(worse), metrics[0], uri) == first
    assert register(str(better), metrics[1], uri)["version"] == first["version"] + 1
    client = MlflowClient(uri, uri)
    versions = client.search_model_versions("name = 'mobilenet_v2_0.35_64'")
    assert len(versions) == 2
    champion = client.get_model_version_by_alias("mobilenet_v2_0.35_64", "champion")
    assert champion.tags["top1"] == "0.95"
    assert champion.tags["records_digest"] == "r" * 64
    run = client.get_run(champion.run_id)
    assert run.data.params["optimizer.momentum"] == "0.9"
    assert run.data.metrics["tflite_int8.top1"] == 0.95
    assert run.data.metrics["macs"] == 4_749_248
    files = {each.path for each in client.list_artifacts(champion.run_id, "export")}
    assert "export/metrics.json" in files


def test_a_run_that_a_killed_publish_left_is_completed(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = sqlite_uri(str(tmp_path / "registry"))
    export = make_export(tmp_path / "e")
    metrics = exports.read_metrics(str(export))
    (tmp_path / "registry").mkdir()
    client = MlflowClient(uri, uri)
    experiment = client.create_experiment(metrics["variant"])
    left = client.create_run(
        experiment, tags={"mobilenet.export_digest": exports.export_digest(metrics)}
    )
    registered = register(str(export), metrics, uri)
    assert registered["run_id"] == left.info.run_id
    assert client.get_run(left.info.run_id).info.status == "FINISHED"


def test_a_registry_that_is_down_leaves_the_export_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    export = make_export(tmp_path / "e")
    metrics = exports.read_metrics(str(export))
    with pytest.raises(PermanentError, match=r"is intact, run `mobilenet publish` again"):
        register(str(export), metrics, "http://127.0.0.1:9")
    exports.require_intact(str(export), json.loads((export / "metrics.json").read_text()))


def test_killed_while_it_makes_its_tables_the_registry_is_made_anew(tmp_path: Path) -> None:
    export = make_export(tmp_path / "export")
    uri = sqlite_uri(str(tmp_path / "registry"))
    code = (
        "import sys; from pipeline import exports, registry;"
        "registry.register(sys.argv[1], exports.read_metrics(sys.argv[1]), sys.argv[2])"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(export), uri])
    while killed.poll() is None:
        if any((tmp_path / "registry").glob("mlflow.db.partial-*")):
            killed.kill()
        time.sleep(0.005)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "registry" / "mlflow.db").exists()
    assert register(str(export), exports.read_metrics(str(export)), uri)["version"] == 1
    assert not list((tmp_path / "registry").glob("*.partial-*"))
