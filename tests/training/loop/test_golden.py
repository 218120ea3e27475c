"""Figures that the original TF1 slim code produced, from weights that are a formula.

`tests/data/golden.npz`; weights are drawn from each variable's slim name.
"""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.config import EvaluationConfig, ModelConfig, RunConfig, override
from training.input.inception import eval_view
from training.loop.step import TrainSteps
from training.models.architecture import architecture
from training.models.mobilenet import mobilenet
from training.models.variants import Variant
from training.optimization.state import TrainingState, values
from training.weights.slim_checkpoint import slim_shapes, slim_variables

DATA = Path(__file__).parents[2] / "data"
GOLDEN = np.load(DATA / "golden.npz")
FIGURES_ARITHMETIC = "avx512f" in Path("/proc/cpuinfo").read_text()
RUNS = sorted({key.split("/")[0] for key in GOLDEN.files if key.startswith("train_")})


def formula(name: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.Generator(np.random.PCG64(zlib.crc32(("pub" + name).encode())))
    kind = name.split("/")[-1]
    if kind == "depthwise_weights":
        value = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:2]))
    elif kind == "weights":
        value = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
    elif kind in ("gamma", "moving_variance"):
        value = random.uniform(0.5, 1.5, shape)
    else:
        value = random.standard_normal(shape) * 0.1
    return value.astype(np.float32)


def images(seed: int, count: int, resolution: int) -> np.ndarray:
    random = np.random.Generator(np.random.PCG64(seed))
    return random.uniform(-1, 1, (count, resolution, resolution, 3)).astype(np.float32)


def assign_formula(model: keras.Model, variant: Variant, outputs: int) -> None:
    for name, variable in slim_variables(model, architecture(variant, outputs)).items():
        variable.assign(formula(name, tuple(variable.shape)))


@pytest.mark.parametrize("key", [key for key in GOLDEN.files if key.startswith("logits_")])
def test_logits_are_the_originals(key: str) -> None:
    version, width, resolution, seed = re.fullmatch(
        r"logits_(v\d)_([\d.]+)_(\d+)_seed(\d+)_pub", key
    ).groups()  # type: ignore[union-attr]
    variant = Variant(f"mobilenet_{version}", width, int(resolution))
    model = mobilenet(architecture(variant, 1001), ModelConfig(), resolution=variant.resolution)
    assign_formula(model, variant, 1001)
    logits = model(images(int(seed), 2, variant.resolution), training=False).numpy()
    assert np.abs(logits - GOLDEN[key]).max() <= 2e-4 * GOLDEN[key].std()


@pytest.mark.parametrize("key", ["v2_0.35_1001", "v2_0.5_1001", "v1_0.25_1001"])
def test_variables_have_slims_names_and_shapes_in_slims_order(key: str) -> None:
    version, width, outputs = key.split("_")
    variant = Variant(f"mobilenet_{version}", width, 96)
    layout = architecture(variant, int(outputs))
    model = mobilenet(layout, ModelConfig(), resolution=96)
    found = [(name, list(each.shape)) for name, each in slim_variables(model, layout).items()]
    assert found == list(json.loads((DATA / "variables.json").read_text())[key].items())
    assert {name: list(shape) for name, shape in slim_shapes(layout).items()} == dict(found)


def test_eval_images_are_the_originals() -> None:
    found = [
        eval_view((DATA / f"image{n}.jpg").read_bytes(), 96, EvaluationConfig()).numpy()
        for n in (0, 3, 5)
    ]
    assert np.abs(np.stack(found) - GOLDEN["eval_96"]).max() <= 2e-6


@pytest.mark.parametrize("key", RUNS)
def test_ten_training_steps_are_the_originals(
    key: str, two_replicas: tf.distribute.Strategy
) -> None:
    """Loss and L2 before each update, then every weight and its average.

    On these noise images some channels hardly vary, and batch normalisation blows float32
    rounding up: a sum in another order moves step 5 by percents (float64 is smooth). So ten
    steps agree only in the arithmetic the figures were made in, two threads and AVX-512;
    elsewhere the first update is what can be compared.
    """
    match = re.fullmatch(
        r"train_(v\d)_([\d.]+)_(\d+)_seed(\d+)_pub_steps(\d+)_batch(\d+)x(\d+)_classes(\d+)"
        r"_lr([\d.]+)_smooth0\.1",
        key,
    )
    assert match
    version, width, resolution = match[1], match[2], match[3]
    seed, steps, batch, replicas, outputs = map(int, match.groups()[3:8])
    variant = Variant(f"mobilenet_{version}", width, int(resolution))
    strategy = two_replicas if replicas == 2 else tf.distribute.OneDeviceStrategy("CPU:0")
    config = RunConfig(variant=variant, recipe="published")
    for assignment in (
        "model.dropout=0",
        f"training.batch_per_replica={batch}",
        f"optimizer.learning_rate_per_replica={float(match[9]) / replicas}",
    ):
        config = override(config, assignment)
    with strategy.scope():
        state = TrainingState(
            config, num_outputs=outputs, num_examples=10**9, num_replicas=replicas
        )
        assign_formula(state.model, variant, outputs)
        state.ema.restart(values(state.model))

    count = steps * replicas * batch
    random = np.random.Generator(np.random.PCG64(seed + 1))
    labels = random.integers(1, outputs, (count,)).reshape(-1, batch)
    pictures = images(seed, count, variant.resolution)
    batches = tf.data.Dataset.from_tensor_slices(
        (pictures.reshape(-1, batch, *pictures.shape[1:]), labels)
    ).repeat()
    iterator = iter(strategy.distribute_datasets_from_function(lambda _: batches))
    train_steps = TrainSteps(strategy, state, config)
    found = []
    for _ in range(steps):
        regularization = float(tf.add_n(state.model.losses))
        found.append([train_steps.run(iterator, 1).loss, regularization])

    expected = GOLDEN[f"{key}/loss"]
    np.testing.assert_allclose(found[:2], expected[:2], rtol=1e-5)
    if not FIGURES_ARITHMETIC:
        pytest.skip("later steps agree only in the arithmetic of the figures: AVX-512")
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    with strategy.scope():
        tf.function(lambda: strategy.run(state.average))()
    for kind, model in (("weights", state.model), ("ema", state.averaged_model)):
        there = dict(
            zip(GOLDEN[f"{key}/{kind}/names"], range(len(state.model.variables)), strict=True)
        )
        for name, variable in slim_variables(model, state.layout).items():
            flat = np.asarray(variable.numpy()).reshape(-1)
            index = there[name]
            norm = GOLDEN[f"{key}/{kind}/norm"][index]
            assert np.linalg.norm(flat) == pytest.approx(norm, rel=1e-4), (kind, name)
            head = GOLDEN[f"{key}/{kind}/head"][index]
            np.testing.assert_allclose(
                np.resize(flat, 8), head, rtol=1e-4, atol=1e-4 * norm / np.sqrt(flat.size)
            )
