"""Recipes: named training setups, each a function of the variant whose docstring is its source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

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
)
from training.models.variants import Variant


def published(variant: Variant) -> RunConfig:
    """Return the recipe of slim's `nets/mobilenet/README.md`: all defaults of the config tree.

    RMSProp 0.045 x replicas, x0.98 every 2.5 epochs, batch 96 per replica, 700K steps on 8 GPUs.
    Published: 72.0 % top-1 for mobilenet_v2_1.0_224. Not measured by this project. V1 differs in
    two constants of its arg scope (slim's `nets/mobilenet_v1.py`).
    """
    model = dataclasses.replace(ModelConfig(), **variant.model_family.model_settings)
    return RunConfig(variant=variant, recipe="published", model=model)


def improved(variant: Variant) -> RunConfig:
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


def demo(variant: Variant) -> RunConfig:
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
        training=TrainingConfig(batch_per_replica=48, total_images=1437 * 30, bn_statistics="mean"),
        loop=LoopConfig(
            steps_per_loop=15,
            checkpoint_every_steps=60,
            evaluate_every_steps=60,
            checkpoints_to_keep=2,
        ),
    )


def quantized(variant: Variant) -> RunConfig:
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


def demo_quantized(variant: Variant) -> RunConfig:
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
        training=dataclasses.replace(start.training, total_images=1437 * 10, ema_decay=0.99),
    )


DEFAULT_RECIPE = "published"
RECIPES: dict[str, Callable[[Variant], RunConfig]] = {
    build.__name__: build for build in (published, improved, demo, quantized, demo_quantized)
}


def recipe(name: str, variant: Variant) -> RunConfig:
    """Return the config of recipe `name` for `variant`.

    Raises:
        UsageError: No recipe has this name; the message gives the nearest.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; {did_you_mean(name, RECIPES)}")
    return RECIPES[name](variant)
