"""Recipes: named training setups, each a function of variant and data; docstrings are sources."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from preprocessing.errors import UsageError, did_you_mean
from preprocessing.records.imagenet import NUM_TRAIN_IMAGES
from training.config import (
    AugmentationConfig,
    EvaluationConfig,
    LoopConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TrainingConfig,
    override_all,
)
from training.models.variants import Variant

NUM_DIGITS = 1437  # training images of the demo
MAX_EPOCHS = 1_000_000


def published(variant: Variant, num_examples: int = NUM_TRAIN_IMAGES) -> RunConfig:
    """Return the recipe of slim's `nets/mobilenet/README.md`: all defaults of the config tree.

    RMSProp 0.045 x replicas, x0.98 every 2.5 epochs, batch 96 per replica, 700K steps on 8 GPUs.
    Published: 72.0 % top-1 for mobilenet_v2_1.0_224. Not measured by this project. V1 differs in
    two constants of its arg scope (slim's `nets/mobilenet_v1.py`).
    """
    model = dataclasses.replace(ModelConfig(), **variant.model_family.model_settings)
    return RunConfig(variant=variant, recipe="published", model=model)


def improved(variant: Variant, num_examples: int = NUM_TRAIN_IMAGES) -> RunConfig:
    """Return the recipe of today's best published figures of this network, timm's `ra_in1k`.

    Target: 72.9 % top-1 for mobilenet_v2_1.0_224 (timm's results, model card: RMSProp, batch
    1536, learning rate 0.045, weight decay 4e-5); 72.7 % by Model Garden's TPU recipe. Not
    measured here. What the card leaves open follows timm's EfficientNet-B0 command
    (timm's training script docs, timm#355): epsilon 0.001, x0.97 every 2.4 epochs, 450 epochs,
    average 0.9999, `rand-m9-mstd0.5` (Cubuk et al. 2019), erasing 0.2 (Zhong et al. 2017) and
    no other colours. The five epochs of warm-up and averaged BN statistics are Model Garden's
    (imagenet_mobilenetv2_gpu.yaml) and timm's `--dist-bn reduce`; evaluation is the usual
    resize and crop with the accurate decoder. Crops start at 8 % of the area, as in Inception.
    """
    return dataclasses.replace(
        published(variant),
        recipe="improved",
        augmentation=AugmentationConfig(
            min_area=0.08,
            max_aspect_ratio=4 / 3,
            color=False,
            randaugment_layers=2,
            randaugment_magnitude=9.0,
            erasing_probability=0.2,
        ),
        evaluation=EvaluationConfig(crop="resize_256", precise=True),
        optimizer=OptimizerConfig(
            learning_rate_per_replica=0.045 / 8,
            decay_rate=0.97,
            decay_epochs=2.4,
            warmup_epochs=5.0,
            epsilon=0.001,
        ),
        training=TrainingConfig(
            batch_per_replica=192,
            total_images=450 * NUM_TRAIN_IMAGES,
            bn_statistics="mean",
        ),
    )


def demo(variant: Variant, num_examples: int = NUM_DIGITS) -> RunConfig:
    """Return a recipe for 1,437 scans of digits: two minutes on two CPU cores; 360 are held out.

    Differences from `published`: the learning rate and its decay fit a run of 30 epochs; BN
    statistics follow within tens of steps instead of hundreds; there are no flips, since a
    mirrored digit is another digit or none; crops are milder, since a tenth of a digit cannot be
    recognised; and statistics are averaged over replicas, which is steadier with two small
    batches.
    """
    return RunConfig(
        variant=variant,
        recipe="demo",
        seed=1,
        model=ModelConfig(bn_momentum=0.9),
        augmentation=AugmentationConfig(flip=False, min_area=0.75),
        optimizer=OptimizerConfig(learning_rate_per_replica=0.03, decay_rate=0.9, decay_epochs=1.0),
        training=TrainingConfig(
            batch_per_replica=48, total_images=30 * NUM_DIGITS, bn_statistics="mean"
        ),
        loop=LoopConfig(
            steps_per_loop=15,
            checkpoint_every_steps=60,
            evaluate_every_steps=60,
            checkpoints_to_keep=2,
        ),
    )


def quantized(variant: Variant, num_examples: int = NUM_TRAIN_IMAGES) -> RunConfig:
    """Return a recipe of fine-tuning for int8, from the averages of a finished `published` run.

    For `mobilenet train --initial-checkpoint`. Kernels and activations are rounded in training as
    the int8 file will round them. It uses half a hundredth of the published learning rate over
    about five epochs of ImageNet, and a shorter average for the shorter run. Not measured on
    ImageNet.
    """
    start = published(variant)
    return dataclasses.replace(
        start,
        recipe="quantized",
        model=dataclasses.replace(start.model, quantized=True),
        optimizer=OptimizerConfig(
            learning_rate_per_replica=0.045 / 200, decay_rate=0.5, decay_epochs=1.0
        ),
        training=dataclasses.replace(
            start.training, total_images=5 * NUM_TRAIN_IMAGES, ema_decay=0.999
        ),
    )


def demo_quantized(variant: Variant, num_examples: int = NUM_DIGITS) -> RunConfig:
    """Return a recipe of fine-tuning a `demo` run for int8: ten epochs at a tenth of its rate.

    Measured once, mobilenet_v2_0.35_64: float32 98.61 % before and after, int8 98.33 % before
    and after (one of 360 digits). int8 loses too little there to gain anything.
    """
    start = demo(variant)
    return dataclasses.replace(
        start,
        recipe="demo_quantized",
        model=dataclasses.replace(start.model, quantized=True),
        optimizer=dataclasses.replace(start.optimizer, learning_rate_per_replica=0.003),
        training=dataclasses.replace(start.training, total_images=10 * NUM_DIGITS, ema_decay=0.99),
    )


def finetune(variant: Variant, num_examples: int = NUM_TRAIN_IMAGES) -> RunConfig:
    """Return a recipe for photographs of one's own, 50 to 50,000, from published weights.

    For `mobilenet train --initial-checkpoint`, on one small machine or one GPU. The classifier
    learns alone for the first fifth of the run, so that its random start does not disturb the
    other layers. The rate then falls to a hundredth in ten stairs, and evaluation and export take
    the best checkpoint. Crops are milder than `published`, since each image is seen often.
    """
    epochs = finetuning_epochs(num_examples)
    return dataclasses.replace(
        published(variant),
        recipe="finetune",
        model=dataclasses.replace(published(variant).model, bn_momentum=0.99),
        augmentation=AugmentationConfig(min_area=0.35),
        evaluation=EvaluationConfig(checkpoint="best"),
        optimizer=OptimizerConfig(
            learning_rate_per_replica=0.01,
            decay_rate=0.01 ** (1 / 10),
            decay_epochs=epochs / 10,
        ),
        training=TrainingConfig(
            batch_per_replica=32,
            total_images=max(1, epochs * num_examples),
            ema_decay=0.99,
            bn_statistics="mean",
            head_epochs=epochs / 5,
        ),
        loop=_small_loop(epochs * num_examples // 32),
    )


def finetuning_epochs(num_examples: int) -> int:
    """Return how often `finetune` sees each image: 100 times at most, 10 times at least."""
    return max(10, min(100, 30_000 // max(1, num_examples)))


def _small_loop(num_steps: int) -> LoopConfig:
    """Return a rhythm with about ten checkpoints and evaluations in a run of one replica."""
    steps_per_loop = max(1, min(100, num_steps // 20))
    every = max(1, num_steps // 10 // steps_per_loop) * steps_per_loop
    return LoopConfig(
        steps_per_loop=steps_per_loop,
        checkpoint_every_steps=every,
        evaluate_every_steps=every,
        histograms_every_steps=every,
        checkpoints_to_keep=2,
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """One recipe of the registry.

    Attributes:
        build: The config for a variant and a number of training images.
        summary: One line for people.
        num_examples: Training images for which its length is meant; None if it follows the data.
    """

    build: Callable[[Variant, int], RunConfig]
    summary: str
    num_examples: int | None = NUM_TRAIN_IMAGES


DEFAULT_RECIPE = "published"
RECIPES = {
    recipe.build.__name__: recipe
    for recipe in (
        Recipe(published, "as the paper's authors train on ImageNet: 700,000 steps on 8 GPUs"),
        Recipe(improved, "ImageNet with RandAugment, erasing and warm-up, 450 epochs"),
        Recipe(finetune, "your own 50 to 50,000 photographs, from published weights", None),
        Recipe(quantized, "fine-tune a finished `published` run for int8"),
        Recipe(demo, "the demo's 1,437 scans of digits, 30 epochs", NUM_DIGITS),
        Recipe(demo_quantized, "fine-tune a finished `demo` run for int8", NUM_DIGITS),
    )
}


def recipe(name: str, variant: Variant, num_examples: int = NUM_TRAIN_IMAGES) -> RunConfig:
    """Return the config of recipe `name` for `variant` and so many training images.

    Raises:
        UsageError: No recipe has this name; the message gives the nearest.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; {did_you_mean(name, RECIPES)}")
    return RECIPES[name].build(variant, num_examples)


def configured(
    name: str,
    variant: Variant,
    assignments: Iterable[str] = (),
    num_examples: int = NUM_TRAIN_IMAGES,
) -> RunConfig:
    """Return the config of recipe `name` with changes.

    Args:
        name: The recipe.
        variant: The network.
        assignments: `section.field=value`, in order, and `epochs=N`, which comes first wherever
            it stands: the length of the run in passes over the training images.
        num_examples: Number of training images.

    Raises:
        UsageError: There is no such recipe or setting, a value is out of its range, or the
            length is given twice.
    """
    config = recipe(name, variant, num_examples)
    texts = list(assignments)
    lengths = [text for text in texts if _key(text) == "epochs"]
    if lengths:
        if any(_key(text) == "training.total_images" for text in texts):
            raise UsageError(
                f"{lengths[-1]} and training.total_images both give the length; keep one of them"
            )
        epochs = _epochs(lengths[-1])
        usual = config.training.total_images / (RECIPES[name].num_examples or num_examples or 1)
        config = _stretched(config, max(1, round(epochs * num_examples)), epochs / usual)
    return override_all(config, (text for text in texts if text not in lengths))


def _key(assignment: str) -> str:
    return assignment.partition("=")[0].strip()


def _epochs(assignment: str) -> float:
    text = assignment.partition("=")[2].strip()
    try:
        epochs = float(text)
    except ValueError:
        epochs = 0.0
    if not 0 < epochs <= MAX_EPOCHS:
        raise UsageError(
            f"epochs expects a number above 0, at most {MAX_EPOCHS}, got {text!r:.100}"
        )
    return epochs


def _stretched(config: RunConfig, total_images: int, factor: float) -> RunConfig:
    """Return `config` with another length; everything that is given in epochs grows by `factor`.

    So the schedule keeps its shape. Short runs are looked at more often.
    """
    optimizer, training, loop = config.optimizer, config.training, config.loop
    often = _small_loop(total_images // training.batch_per_replica)
    return dataclasses.replace(
        config,
        optimizer=dataclasses.replace(
            optimizer,
            decay_epochs=optimizer.decay_epochs * factor,
            warmup_epochs=optimizer.warmup_epochs * factor,
        ),
        training=dataclasses.replace(
            training, total_images=total_images, head_epochs=training.head_epochs * factor
        ),
        loop=dataclasses.replace(
            loop,
            **{
                name: min(getattr(loop, name), getattr(often, name))
                for name in (
                    "steps_per_loop",
                    "checkpoint_every_steps",
                    "evaluate_every_steps",
                    "histograms_every_steps",
                )
            },
        ),
    )
