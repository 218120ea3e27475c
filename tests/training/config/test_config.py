"""A config that exists is valid, and an impossible one is refused with a remedy."""

from __future__ import annotations

import dataclasses

import pytest

from preprocessing.errors import UsageError
from training.config import RunConfig, differences, override
from training.config.recipes import RECIPES, configured, recipe
from training.config.setting import Setting
from training.models.variants import Variant
from training.optimization.schedule import Schedule

VARIANT = Variant.parse("mobilenet_v2_1.0_224")


@pytest.mark.parametrize("name", RECIPES)
def test_a_config_comes_back_from_its_json(name: str) -> None:
    config = recipe(name, VARIANT)
    assert RunConfig.from_json(config.to_json()) == config


def test_published_is_the_documented_recipe() -> None:
    config = recipe("published", VARIANT)
    assert config.num_steps(8) == 700_000
    assert (config.optimizer.learning_rate_per_replica, config.optimizer.decay_rate) == (
        0.045,
        0.98,
    )
    assert config.optimizer.decay_epochs == 2.5
    assert (config.training.batch_per_replica, config.training.label_smoothing) == (96, 0.1)
    assert config.training.ema_decay == 0.9999


def test_the_demo_keeps_optimizer_smoothing_and_average_of_the_published_recipe() -> None:
    changed = differences(recipe("published", VARIANT).to_json(), recipe("demo", VARIANT).to_json())
    sections = {line.split()[0] for line in changed}
    kept = {"optimizer.rho", "optimizer.momentum", "optimizer.epsilon", "training.label_smoothing"}
    assert not sections & {*kept, "training.ema_decay", "model.weight_decay", "model.dropout"}


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("optimizer.momentum=0.8", 0.8),
        ("augmentation.flip=false", False),
        ("training.batch_per_replica=32", 32),
        ("training.bn_statistics=mean", "mean"),
    ],
)
def test_an_override_has_the_type_of_what_it_replaces(assignment: str, value: object) -> None:
    section, field = assignment.partition("=")[0].split(".")
    config = override(recipe("published", VARIANT), assignment)
    assert getattr(getattr(config, section), field) == value


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimizer.momentun=0.8", "did you mean 'momentum'"),
        ("optimiser.momentum=0.8", "did you mean 'optimizer'"),
        ("optimizer.momentum", "section.field=value"),
        ("optimizer.momentum=much", "expects float, got 'much'"),
        ("augmentation.flip=maybe", "expects true or false"),
        ("optimizer=sgd", "is a section"),
        ("seed.x=1", "has no fields"),
        ("optimizer.momentum=1.5", r"must be in \[0, 1\)"),
        ("training.batch_per_replica=0", "must be positive"),
        ("training.bn_statistics=both", "replica0"),
        ("augmentation.min_area=0", "must be positive"),
        ("augmentation.color_order=random", "brightness_first"),
        ("evaluation.crop=center", "resize_256"),
        ("loop.steps_per_loop=0", "must be positive"),
    ],
)
def test_a_wrong_override_is_refused_with_a_way_out(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override(recipe("published", VARIANT), assignment)


SETTINGS = recipe("published", VARIANT).settings()


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_says_what_it_means_and_what_it_may_be(setting: Setting) -> None:
    assert setting.value == setting.default or setting.name.startswith("model.")
    assert setting.meaning.endswith(".")
    assert setting.allowed not in ("", "None")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
@pytest.mark.parametrize("value", ["-1", "nan", "none"])
def test_every_setting_refuses_what_it_cannot_be_by_its_name(setting: Setting, value: str) -> None:
    with pytest.raises(UsageError, match=setting.name):
        override(recipe("published", VARIANT), f"{setting.name}={value}")


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'published'"):
        recipe("publish", VARIANT)


@pytest.mark.parametrize("name", RECIPES)
def test_epochs_change_the_length_of_any_recipe_and_keep_the_shape_of_its_schedule(
    name: str,
) -> None:
    examples = RECIPES[name].num_examples or 500
    usual = configured(name, VARIANT, num_examples=examples)
    short = configured(name, VARIANT, ["epochs=7"], examples)
    assert short.training.total_images == 7 * examples
    factor = usual.training.total_images / short.training.total_images
    for section, field in (
        ("optimizer", "decay_epochs"),
        ("optimizer", "warmup_epochs"),
        ("training", "head_epochs"),
    ):
        of_usual = getattr(getattr(usual, section), field)
        assert getattr(getattr(short, section), field) * factor == pytest.approx(of_usual)
    ratio = _last_learning_rate(short, examples) / _last_learning_rate(usual, examples)
    four_stairs = usual.optimizer.decay_rate**4  # a short run has stairs of few steps
    assert four_stairs <= ratio * 1.001
    assert ratio <= 1.001 / four_stairs


def _last_learning_rate(config: RunConfig, examples: int) -> float:
    schedule = Schedule.of(
        config.optimizer,
        num_examples=examples,
        batch_per_replica=config.training.batch_per_replica,
        num_replicas=1,
    )
    return schedule.at(config.num_steps(1) - 1)


def test_the_usual_length_in_epochs_is_the_usual_config_but_for_the_rhythm() -> None:
    usual = configured("improved", VARIANT)
    same = configured("improved", VARIANT, ["epochs=450"])
    assert dataclasses.replace(same, loop=usual.loop) == usual


@pytest.mark.parametrize("examples", [50, 500, 3_000, 50_000])
def test_fine_tuning_follows_the_data(examples: int) -> None:
    config = configured("finetune", VARIANT, num_examples=examples)
    epochs = config.training.total_images / examples
    assert 10 <= epochs <= 100
    assert 0 < config.training.head_epochs < epochs / 2
    steps = config.num_steps(1)
    assert 5 <= steps // config.loop.evaluate_every_steps <= 20


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["epochs=0"], "above 0"),
        (["epochs=-3"], "above 0"),
        (["epochs=nan"], "above 0"),
        (["epochs=inf"], "above 0"),
        (["epochs=ten"], "got 'ten'"),
        (["epochs=3", "training.total_images=100"], "keep one of them"),
    ],
)
def test_an_impossible_length_is_refused(assignments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        configured("published", VARIANT, assignments)
