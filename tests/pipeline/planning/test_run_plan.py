"""A plan is the documented recipe's arithmetic, for any number of replicas."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipeline.planning.run_plan import Plan
from preprocessing.records.imagenet import NUM_TRAIN_IMAGES
from tests.conftest import mobilenet
from training.config.recipes import improved, published
from training.models.variants import Variant
from training.optimization.optimizer import WarmedStaircase

VARIANT = "mobilenet_v2_1.0_224"


def plan(replicas: int) -> Plan:
    return Plan(
        config=published(Variant.parse(VARIANT)),
        num_replicas=replicas,
        num_examples=NUM_TRAIN_IMAGES,
    )


def test_eight_replicas_are_the_documented_run() -> None:
    figures = plan(8).summary(images_per_second=20_000, price_per_hour=30.0)
    assert figures["steps"] == 700_000
    assert figures["global_batch"] == 768
    assert figures["epochs"] == 419.62
    assert (figures["decay_steps"], figures["decays"]) == (4170, 167)
    assert figures["first_learning_rate"] == pytest.approx(0.36)
    assert figures["last_learning_rate"] == pytest.approx(0.01233, rel=1e-3)
    assert figures["images_read"] == 537_600_000
    assert figures["flops"] == 537_600_000 * 300_775_552 * 6
    assert figures["hours"] == 7.47
    assert figures["cost"] == pytest.approx(7.47 * 30)


@pytest.mark.parametrize(("replicas", "steps"), [(1, 33363), (2, 16681), (4, 8340), (8, 4170)])
def test_the_plan_is_what_the_trainer_does(replicas: int, steps: int) -> None:
    planned = plan(replicas)
    assert planned.schedule.decay_steps == steps
    schedule = WarmedStaircase(planned.schedule)
    for step in (0, steps - 1, steps, 10 * steps, planned.num_steps - 1):
        assert planned.at(step).learning_rate == pytest.approx(float(schedule(step)), rel=1e-4)


def test_the_improved_recipe_is_450_epochs_of_1536_images_after_a_warm_up() -> None:
    figures = Plan(
        config=improved(Variant.parse(VARIANT)), num_replicas=8, num_examples=NUM_TRAIN_IMAGES
    ).summary()
    assert figures["global_batch"] == 1536
    assert figures["epochs"] == pytest.approx(450, abs=0.01)
    assert figures["warmup_steps"] == int(5 * NUM_TRAIN_IMAGES / 1536)
    assert figures["last_learning_rate"] < 0.045 * 0.97**186


def test_the_gradients_of_a_step_are_one_float_per_trainable_parameter() -> None:
    """Keras counts 3,504,872 for 1,000 classes and their bias; the background adds 1,281."""
    assert plan(8).gradient_bytes == 4 * (3_504_872 + 1_281)


def test_modelled_scaling_follows_the_bytes_and_the_link() -> None:
    fast = plan(8).scaling(images_per_second=2500, gigabits_per_second=2400)
    slow = plan(8).scaling(images_per_second=2500, gigabits_per_second=10)
    assert list(fast) == ["1", "2", "4", "8"]
    assert (
        fast["1"]
        == slow["1"]
        == {
            "bytes_sent_per_step": 0,
            "images_per_second": 2500,
            "efficiency": 1.0,
        }
    )
    assert fast["2"]["bytes_sent_per_step"] == plan(8).gradient_bytes
    assert fast["8"]["bytes_sent_per_step"] == round(plan(8).gradient_bytes * 14 / 8)
    # 24.5 MB at 10 Gb/s are 19.6 ms, 14 hops 0.28 ms, and 96 images 38.4 ms.
    assert slow["8"]["efficiency"] == pytest.approx(38.4 / (38.4 + 19.63 + 0.28), rel=1e-3)
    assert slow["8"]["images_per_second"] == pytest.approx(
        8 * 2500 * slow["8"]["efficiency"], rel=1e-3
    )
    assert fast["8"]["efficiency"] > 0.98


def test_the_average_ramps_until_update_89990() -> None:
    assert plan(8).at(89_989).ema_decay < 0.9999
    assert plan(8).at(89_990).ema_decay == 0.9999


def test_the_command_prints_figures_table_and_picture(tmp_path: Path) -> None:
    picture = tmp_path / "plan.png"
    outcome = mobilenet("plan", f"--variant={VARIANT}", "--gpus=8", f"--plot={picture}")
    assert outcome.code == 0, outcome.err
    assert outcome.result["steps"] == 700_000
    assert "learning rate" in outcome.err
    assert len(outcome.err.splitlines()) >= 14
    with Image.open(picture) as image:
        assert image.size[0] > 800


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--gpus=0"], "--gpus"),
        (["--gpus=8", "--images-per-second=fast"], "'fast'"),
        (["--gpus=8", "--price-per-hour=3"], "--images-per-second"),
        (["--gpus=8", "--plot=/proc/plan.png"], "/proc/plan.png"),
    ],
)
def test_a_mistake_is_one_line(flags: list[str], words: str) -> None:
    outcome = mobilenet("plan", f"--variant={VARIANT}", *flags)
    assert outcome.code == 2
    assert words in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
