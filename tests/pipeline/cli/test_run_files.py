"""A file describes a run as the flags do, and the file of a run describes the same run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli import flags
from pipeline.cli.entry_point import parse
from preprocessing.errors import UsageError
from training.config import RunConfig, run_files
from training.config.recipes import RECIPES, configured
from training.models.variants import Variant

VARIANT = Variant.parse("mobilenet_v2_0.35_96")
HAND_WRITTEN = """
variant = "mobilenet_v2_0.5_128"
recipe = "finetune"
epochs = 20
seed = 7

[optimizer]
momentum = 0.8

[augmentation]
flip = false
"""


def config_of(path: Path, *arguments: str) -> RunConfig:
    return flags.chosen_config(parse(["plan", "--gpus=1", f"--config={path}", *arguments]))


@pytest.mark.parametrize("name", RECIPES)
def test_the_file_of_a_run_describes_the_same_run(name: str, tmp_path: Path) -> None:
    config = configured(name, VARIANT, ["seed=3", "augmentation.flip=false", "epochs=3"], 200)
    (tmp_path / "run.toml").write_bytes(run_files.written(config))
    assert config_of(tmp_path / "run.toml") == config


def test_a_file_says_what_the_flags_say(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HAND_WRITTEN)
    assignments = ["epochs=20", "seed=7", "optimizer.momentum=0.8", "augmentation.flip=false"]
    expected = configured("finetune", Variant.parse("mobilenet_v2_0.5_128"), assignments)
    assert config_of(path) == expected


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HAND_WRITTEN)
    chosen = ["--variant=mobilenet_v2_0.35_96", "--recipe=demo", "--epochs=5", "--set=seed=8"]
    config = config_of(path, *chosen)
    assert (config.variant, config.recipe, config.seed) == (VARIANT, "demo", 8)
    assert config.optimizer.momentum == 0.8
    assert config == configured(
        "demo",
        VARIANT,
        ["epochs=5", "seed=8", "optimizer.momentum=0.8", "augmentation.flip=false"],
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variant = ", "is not TOML"),
        ("\xff", "is not TOML"),
        ("variant = 3", "variant expects a name, got 3"),
        ("recipe = 'finetun'", "did you mean 'finetune'"),
        ("[optimiser]\nmomentum = 1", "did you mean 'optimizer'"),
        ("[optimizer]\nmomentum = [1]", "optimizer.momentum expects a number"),
        ("[optimizer]\nmomentum = 'x'", "optimizer.momentum expects float, got 'x'"),
        ("[optimizer]\nmomentum = 2.0", "optimizer.momentum must be in"),
        ("seed = 2026-01-01", "seed expects a number"),
        ("records = 'x'", "no such field"),
    ],
)
def test_a_wrong_file_is_refused_by_its_place(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=message):
        config_of(path, "--variant=mobilenet_v2_0.35_96")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.toml does not exist"):
        config_of(tmp_path / "nothing.toml")
