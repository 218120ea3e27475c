"""The lists of recipes, variants and runs hold everything that there is, in both forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli.entry_point import main
from preprocessing import storage
from training.config.recipes import RECIPES, configured
from training.input import synthetic
from training.models.variants import Variant, published_variants
from training.workdir import attempts
from training.workdir.evaluations import Evaluation
from training.workdir.progress import Progress
from training.workdir.run_record import Run
from training.workdir.workdir import Workdir

STEPS = 700_000


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def a_run(folder: Path, progress: Progress, **top1: float) -> Workdir:
    workdir = Workdir(str(folder))
    config = configured("published", Variant.parse("mobilenet_v2_0.35_96"))
    workdir.write_run(Run.create(config, synthetic.read_manifest("synthetic:"), num_replicas=8))
    workdir.write_progress(progress)
    for step, value in top1.items():
        workdir.write_evaluation(Evaluation(step=int(step.strip("_")), top1=value, top5=1.0))
    return workdir


def test_every_recipe_and_variant_is_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    recipes = json.loads(printed(capsys, "recipes", "--json"))
    assert [row["recipe"] for row in recipes] == list(RECIPES)
    variants = json.loads(printed(capsys, "variants", "--json"))
    assert [row["variant"] for row in variants] == list(published_variants())
    first_column = [line.split()[0] for line in printed(capsys, "variants").splitlines()[1:]]
    assert first_column == list(published_variants())


def test_every_run_is_listed_with_its_state_and_best_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_run(tmp_path / "complete", Progress(step=STEPS, complete=True), _10=0.5, _20=0.7, _30=0.6)
    a_run(tmp_path / "deep" / "er" / "imported", Progress(step=5, complete=True, imported="ema"))
    a_run(tmp_path / "stopped", Progress(step=10))
    busy = a_run(tmp_path / "busy", Progress(step=10))
    failed = a_run(tmp_path / "failed", Progress(step=10))
    attempts.begin(failed, 3)
    attempts.note_failure(failed, ValueError("the loss is nan"))
    broken = a_run(tmp_path / "broken", Progress())
    Path(broken.config_file).write_text("{}")
    (tmp_path / "no run").mkdir()
    with storage.lock_file(busy.file(".lock")):
        rows = json.loads(printed(capsys, "runs", "--json", str(tmp_path)))
        table = printed(capsys, "runs", str(tmp_path))
    states = {Path(row["run"]).name: row["state"] for row in rows}
    assert states.pop("broken").startswith("unreadable: ")
    assert states == {
        "complete": "complete",
        "imported": "imported",
        "stopped": "stopped",
        "busy": "training",
        "failed": "failed: the loss is nan",
    }
    by_name = {Path(row["run"]).name: row for row in rows}
    assert (by_name["complete"]["best_top1"], by_name["complete"]["best_step"]) == (0.7, 20)
    assert by_name["stopped"]["num_steps"] == STEPS
    for name in ("busy", *states):
        assert f"{name} " in table
    assert "0.7000" in table


def test_a_run_that_got_further_since_it_failed_is_not_a_failed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = a_run(tmp_path / "run", Progress(step=10))
    attempts.begin(workdir, 3)
    attempts.note_failure(workdir, ValueError("gone"))
    storage.write_json(storage.join(workdir.checkpoints_folder, "ckpt-20.json"), {})
    (row,) = json.loads(printed(capsys, "runs", "--json", str(tmp_path)))
    assert row["state"] == "stopped"


def test_no_runs_are_an_empty_list_for_programs_and_a_hint_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads(printed(capsys, "runs", "--json", str(tmp_path))) == []
    assert main(["runs", str(tmp_path)]) == 2
    assert "start one with `mobilenet train`" in capsys.readouterr().err
    assert main(["runs", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
