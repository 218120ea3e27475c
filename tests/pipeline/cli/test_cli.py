"""The command line answers at once, and a mistake is one line and a documented exit code."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.entry_point import command_named, parse, parser
from tests.conftest import mobilenet
from tests.pipeline.cli.outcomes import refused

VARIANT = "--variant=mobilenet_v2_0.35_64"


def test_help_imports_neither_tensorflow_nor_beam_nor_mlflow() -> None:
    script = (
        "import sys\n"
        "from pipeline.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "usage: mobilenet" in done.stdout
    heavy = {"tensorflow", "keras", "apache_beam", "mlflow", "sklearn", "numpy", "gcsfs"}
    assert not heavy & set(done.stderr.split())


def test_every_command_has_a_function_and_help() -> None:
    (subparsers,) = (action for action in parser()._actions if action.dest == "command")
    assert subparsers.choices
    for name in subparsers.choices:
        assert callable(command_named(name).run)
        with pytest.raises(SystemExit) as stopped:
            parse([name, "--help"])
        assert stopped.value.code == 0


def test_local_workers_and_another_runner_exclude_each_other() -> None:
    outcome = mobilenet(
        "prepare", "--source=s", "--records=r", "--workers=2", "--", "--runner=FlinkRunner"
    )
    refused(outcome, 2, "--workers starts local processes")


def test_what_follows_two_dashes_goes_to_beam_untouched() -> None:
    flags = ["--runner=FlinkRunner", "--flink_master=localhost:8081"]
    arguments = parse(["prepare", "--source=s", "--records=r", "--", *flags])
    assert arguments.beam_arguments == flags
    with pytest.raises(SystemExit):
        parse(["evaluate", "--workdir=w", "--records=r", "--", "--runner=x"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["invalid choice: 'trian'"]),
        ([], ["COMMAND"]),
        (["train", "--variant=x"], ["--workdir", "required"]),
        (["train", "--variant=x", "--workdir=y"], ["--records", "--synthetic", "required"]),
        (["sample", "--output=x", "--ouput=y"], ["--ouput"]),
        (["demo", "--workers=none"], ["--workers", "'none'"]),
    ],
    ids=["command", "nothing", "missing flag", "missing source", "misspelt flag", "no number"],
)
def test_wrong_usage_is_one_line_and_2(arguments: list[str], words: list[str]) -> None:
    refused(mobilenet(*arguments), 2, *words)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    outcome = mobilenet("prepare", f"--source={tmp_path}/no", f"--records={tmp_path}/r")
    refused(outcome, 2, f"{tmp_path}/no does not exist")


def test_an_archive_that_is_no_tar_is_named(archives: Path, tmp_path: Path) -> None:
    shutil.copytree(archives, tmp_path / "a")
    (tmp_path / "a" / "ILSVRC2012_img_train.tar").write_text("<html>")
    outcome = mobilenet("prepare", f"--source={tmp_path}/a", f"--records={tmp_path}/r")
    refused(outcome, 3, "ILSVRC2012_img_train.tar", "not a complete tar")


@pytest.mark.parametrize("command", ["train", "evaluate", "export"])
def test_records_without_a_manifest_are_refused(
    command: str, records: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "records"
    shutil.copytree(records, copied)
    (copied / "dataset.json").unlink()
    flags = {
        "train": [VARIANT],
        "evaluate": [],
        "export": [f"--output={tmp_path}/e"],
    }[command]
    workdir = tmp_path / "w"
    outcome = mobilenet(command, *flags, f"--records={copied}", f"--workdir={workdir}")
    refused(outcome, 2, "no dataset.json" if command == "train" else "no training run")


def test_an_unknown_variant_names_the_nearest(records: Path, tmp_path: Path) -> None:
    outcome = mobilenet(
        "train",
        "--variant=mobilenet_v2_1.0_244x",
        f"--records={records}",
        f"--workdir={tmp_path}/w",
    )
    refused(outcome, 2, "did you mean 'mobilenet_v2_1.0_224'")


def test_an_unknown_recipe_names_the_nearest(records: Path, tmp_path: Path) -> None:
    outcome = mobilenet(
        "train", VARIANT, "--recipe=dem", f"--records={records}", f"--workdir={tmp_path}/w"
    )
    refused(outcome, 2, "did you mean 'demo'")


def test_a_misspelt_setting_names_the_nearest(records: Path, tmp_path: Path) -> None:
    outcome = mobilenet(
        "train",
        VARIANT,
        "--set=optimizer.momentun=0.8",
        f"--records={records}",
        f"--workdir={tmp_path}/w",
    )
    refused(outcome, 2, "did you mean 'momentum'")
    assert not (tmp_path / "w").exists()


def test_the_demo_refuses_a_misspelt_setting_before_it_does_anything(tmp_path: Path) -> None:
    outcome = mobilenet("demo", f"--output={tmp_path}/d", "--set=training.total_image=1")
    refused(outcome, 2, "did you mean 'total_images'")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("command", ["dashboard", "registry"])
def test_a_port_in_use_is_named(command: str, tmp_path: Path) -> None:
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        where = [str(tmp_path)] if command == "dashboard" else [f"--database={tmp_path}/mlflow.db"]
        outcome = mobilenet(command, *where, f"--port={port}")
    refused(outcome, 2, f"port {port} is in use", "--port")


def test_a_file_where_a_folder_should_be_is_named(archives: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for outcome in (
        mobilenet("sample", f"--output={tmp_path}/file/a"),
        mobilenet("prepare", f"--source={archives}", f"--records={tmp_path}/file/r"),
        mobilenet("demo", f"--output={tmp_path}/file/d"),
    ):
        refused(outcome, 2, f"{tmp_path}/file", "ot a directory")


def test_a_folder_that_cannot_be_written_is_named(archives: Path) -> None:
    """/proc accepts no folders, not even from root."""
    for outcome in (
        mobilenet("sample", "--output=/proc/sample"),
        mobilenet("prepare", f"--source={archives}", "--records=/proc/records"),
        mobilenet("demo", "--output=/proc/demo"),
    ):
        refused(outcome, 2, "/proc/")


def test_the_published_table_is_printed_whole() -> None:
    outcome = mobilenet("table")
    assert outcome.code == 0
    rows = [line for line in outcome.out.splitlines() if "mobilenet_v2" in line]
    assert len(rows) == 22
    assert rows[2] == "| mobilenet_v2_1.0_224 | 300 | 3.47 | 71.8 | 91.0 | 73.8 |"


def test_results_are_one_json_line(tmp_path: Path) -> None:
    outcome = mobilenet("sample", f"--output={tmp_path}/a")
    assert json.loads(outcome.out)["train"] == 1437
    again = mobilenet("sample", f"--output={tmp_path}/a")
    assert again.out == outcome.out
