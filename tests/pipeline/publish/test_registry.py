"""The registry is an index of exports: repeatable, safe for two at once, rebuilt from them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.export import directory
from pipeline.publish import registry
from pipeline.publish.embedded_registry import sqlite_uri
from pipeline.publish.registry import register
from preprocessing import storage
from preprocessing.errors import DataError, PermanentError, UsageError
from tests.pipeline.an_export import VARIANT, make_export, metrics_of

REGISTER = """
import sys
from pipeline.export import directory
from pipeline.publish.registry import register
uri, *folders = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for folder in folders:
    register(folder, directory.read_metrics(folder), uri)
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder, in which files that MLflow writes to relative paths would show."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    yield
    assert not list(here.iterdir())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Provide a real `mlflow server` with a database and artefacts of its own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}"),
            f"--backend-store-uri=sqlite:///{folder}/server.db",
            f"--artifacts-destination={folder}/artifacts",
            "--workers=2",
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def client_of(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri, uri)


def content(uri: str) -> dict[str, Any]:
    """Return all that the registry holds of `VARIANT`, without its own clocks and ids."""
    client = client_of(uri)
    versions = client.search_model_versions(f"name = '{VARIANT}'")
    experiment = client.get_experiment_by_name(VARIANT)
    runs = client.search_runs([experiment.experiment_id])
    model = client.get_registered_model(VARIANT)
    return {
        "versions": {version.version: (version.tags, version.run_id) for version in versions},
        "aliases": model.aliases,
        "runs": {
            run.info.run_id: (run.data.params, run.data.metrics, run.info.status) for run in runs
        },
    }


def test_a_run_holds_the_recipe_the_curves_the_figures_and_the_files(
    tmp_path: Path, uri: str
) -> None:
    export = make_export(tmp_path / "e")
    registered = register(str(export), metrics_of(export), uri)
    client = client_of(uri)
    run = client.get_run(registered.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.momentum"] == "0.9"
    assert run.data.metrics["tflite_int8.top1"] == 0.97
    assert run.data.metrics["tflite_int8.latency.p95_ms"] == 0.5
    assert run.data.metrics["macs"] == 4_749_248
    loss = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in loss] == [(10, 2.0), (20, 1.0)]
    version = client.get_model_version_by_alias(VARIANT, "champion")
    assert version.tags["records_digest"] == "r" * 64
    assert version.tags["git_commit"] == "abc"
    assert version.tags["checkpoint_step"] == "299"
    files = client.list_artifacts(run.info.run_id, version.tags["mobilenet.artifact_folder"])
    assert {file.path.rpartition("/")[2] for file in files} == {
        name.partition("/")[0] for name in storage.list_files(str(export))
    }


def test_registering_twice_changes_nothing(tmp_path: Path, uri: str) -> None:
    export = make_export(tmp_path / "e")
    first = register(str(export), metrics_of(export), uri)
    before = content(uri)
    assert register(str(export), metrics_of(export), uri) == first
    assert content(uri) == before


def test_two_exports_of_one_training_share_its_run(tmp_path: Path, uri: str) -> None:
    folders = [make_export(tmp_path / name, flatbuffer=name.encode()) for name in ("a", "b")]
    first, second = (register(str(folder), metrics_of(folder), uri) for folder in folders)
    assert first.version != second.version
    assert first.run_id == second.run_id


def test_two_imported_checkpoints_do_not(tmp_path: Path, uri: str) -> None:
    """Their training is not known."""
    from preprocessing import storage

    runs = []
    for name in ("a", "b"):
        export = make_export(tmp_path / name, flatbuffer=name.encode())
        config = storage.read_json(str(export / "config.json"))
        storage.write_json(str(export / "config.json"), {**config, "records_digest": ""})
        runs.append(register(str(export), metrics_of(export), uri).run_id)
    assert runs[0] != runs[1]


def test_the_champion_has_the_best_top1_and_the_older_one_on_a_tie(
    tmp_path: Path, uri: str
) -> None:
    for i, top1 in enumerate((0.9, 0.95, 0.93, 0.95)):
        export = make_export(tmp_path / f"{i}", top1=top1, flatbuffer=bytes([i]))
        register(str(export), metrics_of(export), uri)
    best = registry.champion(VARIANT, "r" * 64, uri)
    assert best
    assert (best.top1, best.version) == (0.95, 2)


def test_the_registry_is_made_anew_from_the_exports(tmp_path: Path, uri: str) -> None:
    folders = [make_export(tmp_path / f"{i}", top1=0.9 - i / 10, seed=i) for i in range(2)]

    def register_all(uri: str) -> dict[str, Any]:
        for folder in folders:
            register(str(folder), metrics_of(folder), uri)
        found = content(uri)
        return {
            "versions": {key: tags for key, (tags, _) in found["versions"].items()},
            "aliases": found["aliases"],
            "runs": sorted(map(str, found["runs"].values())),
        }

    assert register_all(sqlite_uri(str(tmp_path / "another"))) == register_all(uri)


@pytest.mark.parametrize("file", ["mine.db", "a/folder/mine.db"])
def test_its_file_may_be_named_from_the_working_folder(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    export = make_export(tmp_path / "e")
    here = register(str(export), metrics_of(export), f"sqlite:///{file}")
    assert here == register(str(export), metrics_of(export), f"sqlite:///{tmp_path}/mine/{file}")


def test_what_a_killed_process_left_is_completed(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was killed between the creation of the run and that of its files and version."""
    from mlflow import MlflowClient

    export = make_export(tmp_path / "e")

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifacts", die)
        with pytest.raises(KeyboardInterrupt):
            register(str(export), metrics_of(export), uri)
    register(str(export), metrics_of(export), uri)
    found = content(uri)
    assert [status for _, _, status in found["runs"].values()] == ["FINISHED"]
    assert list(found["versions"]) == [1]


def test_a_registry_that_is_down_leaves_the_export_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    export = make_export(tmp_path / "e")
    with pytest.raises(PermanentError, match=r"is intact, run the same command again") as refused:
        register(str(export), metrics_of(export), "http://127.0.0.1:9")
    assert len(str(refused.value).splitlines()) == 1
    directory.require_intact(str(export), metrics_of(export))


@pytest.mark.parametrize("damage", ["newer", "other file"])
def test_a_newer_or_damaged_registry_is_refused_in_one_line(
    damage: str, tmp_path: Path, uri: str
) -> None:
    export = make_export(tmp_path / "e")
    register(str(export), metrics_of(export), uri)
    database = tmp_path / "registry" / "mlflow.db"
    if damage == "newer":
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'fffffffffff1'")
        connection.close()
    else:
        database.write_bytes(b"no database at all" * 100)
    # MLflow keeps what it has opened for the life of the process.
    fresh = sqlite_uri(str(tmp_path / "moved"))
    shutil.copytree(tmp_path / "registry", tmp_path / "moved")
    before = (tmp_path / "moved" / "mlflow.db").read_bytes()
    with pytest.raises(DataError, match=r"another MLflow|no SQLite database") as refused:
        register(str(export), metrics_of(export), fresh)
    assert len(str(refused.value).splitlines()) == 1
    assert (tmp_path / "moved" / "mlflow.db").read_bytes() == before


def test_an_unknown_reference_names_what_there_is(tmp_path: Path, uri: str) -> None:
    export = make_export(tmp_path / "e")
    register(str(export), metrics_of(export), uri)
    for reference in (f"{VARIANT}@chmpion", f"{VARIANT}/7", "mobilenet@champion"):
        with pytest.raises(UsageError, match=f"it holds: {VARIANT}"):
            registry.download(reference, ("metrics.json",), str(tmp_path / "d"), uri)


def at_once(uri: str, *groups: list[Path]) -> None:
    """Start one process per group; they are released together, and each registers its exports."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTER, uri, *map(str, group)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for group in groups
    ]
    for process in started:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
    for process in started:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.close()
    for process in started:
        assert process.stderr
        printed = process.stderr.read()
        assert process.wait() == 0, printed.decode()


def require_nothing_lost(uri: str, folders: list[Path]) -> None:
    found = content(uri)
    digests = [tags["mobilenet.export_digest"] for tags, _ in found["versions"].values()]
    assert sorted(digests) == sorted(metrics_of(folder).digest for folder in folders)
    assert {run_id for _, run_id in found["versions"].values()} == set(found["runs"])
    assert all(status == "FINISHED" for _, _, status in found["runs"].values())
    tops = {version: float(tags["top1"]) for version, (tags, _) in found["versions"].items()}
    assert tops[found["aliases"]["champion"]] == max(tops.values())


@pytest.mark.slow
def test_two_processes_at_once_lose_nothing_in_a_file(tmp_path: Path) -> None:
    """This holds also while both create a new database."""
    uri = sqlite_uri(str(tmp_path / "new"))
    folders = [make_export(tmp_path / f"{i}", top1=0.9 + i / 100, seed=i) for i in range(4)]
    at_once(uri, folders[:3], folders[:0:-1])
    require_nothing_lost(uri, folders)


@pytest.mark.slow
def test_two_processes_at_once_lose_nothing_on_a_server(tmp_path: Path, server: str) -> None:
    folders = [make_export(tmp_path / f"{i}", top1=0.9 + i / 100, seed=i) for i in range(4)]
    at_once(server, folders[:3], folders[:0:-1], folders[:3])
    require_nothing_lost(server, folders)
    before = content(server)
    register(str(folders[0]), metrics_of(folders[0]), server)
    assert content(server) == before
    registry.download(f"{VARIANT}@champion", ("metrics.json",), str(tmp_path), server)
    assert metrics_of(tmp_path) == metrics_of(folders[3])


def test_a_version_withdrawn_before_it_is_champion_is_no_error(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    export = make_export(tmp_path / "export")
    give_alias = MlflowClient.set_registered_model_alias
    withdrawn: list[str] = []

    def withdrawn_first(client: MlflowClient, model: str, alias: str, version: str) -> None:
        if not withdrawn:
            withdrawn.append(version)
            client.delete_model_version(model, version)
        give_alias(client, model, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", withdrawn_first)
    register(str(export), metrics_of(export), uri)
    assert withdrawn
    require_nothing_lost(uri, [export])


def test_killed_while_it_makes_its_tables_the_registry_is_made_anew(tmp_path: Path) -> None:
    export = make_export(tmp_path / "export")
    folder = tmp_path / "registry"
    uri = sqlite_uri(str(folder))
    killed = subprocess.Popen(
        [sys.executable, "-c", REGISTER, uri, str(export)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert killed.stdin
    killed.stdin.write("go\n")
    killed.stdin.flush()
    while killed.poll() is None:
        if any(folder.glob("mlflow.db.partial-*")):
            killed.kill()
        time.sleep(0.005)
    assert killed.wait() == -signal.SIGKILL
    assert not (folder / "mlflow.db").exists()
    assert register(str(export), directory.read_metrics(str(export)), uri).version == 1
    assert not list(folder.glob("*.partial-*"))
