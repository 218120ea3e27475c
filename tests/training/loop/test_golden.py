"""Figures of the original TF1 slim code, from inputs that are formulas (`tests/data/README.md`)."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf

from pipeline.certificate.golden import inputs
from pipeline.certificate.golden.check import LOGITS_TOLERANCE
from pipeline.certificate.golden.training import EXACT, ROUNDED_RUNS, GoldenTraining, tolerances
from tests.data import golden_inputs
from training.config import EvaluationConfig, ModelConfig
from training.input.inception import eval_view
from training.models.architecture import architecture
from training.models.mobilenet import mobilenet
from training.models.variants import Variant
from training.weights.slim_checkpoint import slim_shapes, slim_variables

pytestmark = pytest.mark.slow

DATA = golden_inputs.FOLDER
GOLDEN = golden_inputs.golden()
RUNS = sorted({key.split("/")[0] for key in GOLDEN if key.startswith("train_")})


@pytest.mark.parametrize("key", [key for key in GOLDEN if key.startswith("logits_")])
def test_logits_are_the_originals(key: str) -> None:
    match = inputs.LOGITS.fullmatch(key)
    assert match
    version, width, resolution, seed = match.groups()
    variant = Variant(f"mobilenet_{version}", width, int(resolution))
    layout = architecture(variant, inputs.CLASSES_OF_LOGITS)
    model = mobilenet(layout, ModelConfig(), resolution=variant.resolution)
    inputs.assign_weights(model, layout)
    logits = model(inputs.images(int(seed), 2, variant.resolution), training=False).numpy()
    assert np.abs(logits - GOLDEN[key]).max() <= LOGITS_TOLERANCE * GOLDEN[key].std()


@pytest.mark.parametrize("key", ["v2_0.35_1001", "v2_0.5_1001", "v1_0.25_1001"])
def test_variables_have_slims_names_and_shapes_in_slims_order(key: str) -> None:
    version, width, outputs = key.split("_")
    variant = Variant(f"mobilenet_{version}", width, 96)
    layout = architecture(variant, int(outputs))
    model = mobilenet(layout, ModelConfig(), resolution=96)
    found = [
        (name, list(variable.shape)) for name, variable in slim_variables(model, layout).items()
    ]
    assert found == list(json.loads((DATA / "variables.json").read_text())[key].items())
    assert {name: list(shape) for name, shape in slim_shapes(layout).items()} == dict(found)


def test_eval_images_are_the_originals() -> None:
    found = [
        eval_view((DATA / f"image{n}.jpg").read_bytes(), 96, EvaluationConfig()).numpy()
        for n in (0, 3, 5)
    ]
    assert np.abs(np.stack(found) - GOLDEN["eval_96"]).max() <= 2e-6


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of ten steps: losses before each update, and every variable after the last.

    Attributes:
        losses: `[steps, 2]`, the mean cross-entropy and the L2 term.
        variables: By kind (`weights` or `ema`) and slim name.
    """

    losses: np.ndarray
    variables: dict[tuple[str, str], np.ndarray]


class TenSteps(GoldenTraining):
    """A training run to its end, with every variable."""

    def run(self, rounding_seed: int | None = None) -> Outcome:
        """Train from the formula's weights, rounded if there is a seed for it."""
        losses = self.losses(self.num_steps, rounding_seed)
        with self.strategy.scope():
            tf.function(lambda: self.strategy.run(self.state.average))()
        return Outcome(
            losses=losses,
            variables={
                (kind, name): np.asarray(variable.numpy()).reshape(-1)
                for kind, model in (
                    ("weights", self.state.model),
                    ("ema", self.state.averaged_model),
                )
                for name, variable in slim_variables(model, self.state.layout).items()
            },
        )


@pytest.mark.parametrize("key", RUNS)
def test_ten_training_steps_are_the_originals(
    key: str, two_replicas: tf.distribute.Strategy
) -> None:
    """The losses before each update agree, and every weight and average after the last one.

    `tolerances` says how closely. A processor that computes the first loss to the last place sums
    in the original's order, and there the first update must be the original's to 1e-5 too.
    Others, whose TensorFlow has no oneDNN for example, move the second loss by 1e-3.
    """
    strategy = two_replicas if "x2_" in key else tf.distribute.OneDeviceStrategy("CPU:0")
    training = TenSteps(key, strategy)
    ours = training.run()
    rounded = [training.run(seed) for seed in ROUNDED_RUNS]

    figures = GOLDEN[f"{key}/loss"]
    exact = 2 if np.float32(ours.losses[0, 0]) == figures[0, 0] else 1
    np.testing.assert_allclose(ours.losses[:exact], figures[:exact], rtol=EXACT)
    allowed = tolerances(figures, ours.losses, [run.losses for run in rounded])
    assert (np.abs(figures - ours.losses) <= allowed).all()

    for (kind, name), value in ours.variables.items():
        index = GOLDEN[f"{key}/{kind}/names"].tolist().index(name)
        norm, head = GOLDEN[f"{key}/{kind}/norm"][index], GOLDEN[f"{key}/{kind}/head"][index]
        others = [run.variables[kind, name] for run in rounded]
        norm_reach = max(np.linalg.norm(other - value) for other in others)
        reach = max(np.abs(other - value).max() for other in others)
        assert abs(np.linalg.norm(value) - norm) <= 1e-4 * norm + 3 * norm_reach, (kind, name)
        np.testing.assert_allclose(
            np.resize(value, 8), head, rtol=1e-4, atol=1e-4 * norm / np.sqrt(value.size) + 3 * reach
        )
