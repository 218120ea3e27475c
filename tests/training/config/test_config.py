"""A config that exists is valid, and an impossible one is refused with a remedy."""

from __future__ import annotations

import pytest

from preprocessing.errors import UsageError
from training.config import RunConfig, differences, override
from training.config.recipes import RECIPES, recipe
from training.config.setting import Setting
from training.models.variants import Variant

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
