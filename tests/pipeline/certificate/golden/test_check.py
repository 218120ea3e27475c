"""The golden check passes on this machine, and notices a disturbance of anything it compares."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipeline.certificate.golden import check, figures, inputs
from pipeline.certificate.golden.check import LOSSES, Computed, compare, compute

DEVICE = "CPU:0"
LOSS = f"{figures.TRAINING}/loss"


@pytest.fixture(scope="module")
def computed() -> Computed:
    return compute([DEVICE])


def disagreeing(computed: Computed, **disturbed: np.ndarray) -> list[str]:
    """Return the names of the figures that do not agree when the original's are disturbed."""
    keys = {"logits": figures.LOGITS, "loss": LOSS}
    originals = {**figures.read(), **{keys[name]: value for name, value in disturbed.items()}}
    return [figure.name for figure in compare(computed, originals) if not figure.agrees]


def test_this_processor_computes_the_originals_figures(computed: Computed) -> None:
    compared = compare(computed, figures.read())
    assert [figure.name for figure in compared] == [f"logits on {DEVICE}", *LOSSES]
    assert all(figure.agrees for figure in compared), compared


@pytest.mark.parametrize("place", [(0, 0), (1, 1000)])
def test_a_logit_that_differs_by_a_thousandth_is_noticed(
    computed: Computed, place: tuple[int, int]
) -> None:
    logits = figures.read()[figures.LOGITS].copy()
    logits[place] += 1e-3 * logits.std()
    assert disagreeing(computed, logits=logits) == [f"logits on {DEVICE}"]


@pytest.mark.parametrize(("index", "factor"), [(0, 1.001), (1, 1.001), (2, 1.02), (3, 1.001)])
def test_every_loss_that_differs_is_noticed(computed: Computed, index: int, factor: float) -> None:
    loss = figures.read()[LOSS].copy()
    loss.flat[index] *= factor
    assert disagreeing(computed, loss=loss) == [LOSSES[index]]


def test_results_that_are_not_finite_are_noticed(computed: Computed) -> None:
    broken = Computed(
        logits={DEVICE: np.full_like(computed.logits[DEVICE], np.nan)},
        losses=np.full_like(computed.losses, np.nan),
        rounded=computed.rounded,
    )
    compared = compare(broken, figures.read())
    assert not any(figure.agrees for figure in compared)
    assert {figure.measured for figure in compared} == {None}


def test_a_device_that_multiplies_in_half_precision_is_noticed(
    computed: Computed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights lose their last 13 bits, as in TensorFloat-32."""
    exact = inputs.weights

    def shortened(name: str, shape: tuple[int, ...]) -> np.ndarray:
        bits = exact(name, shape).view(np.uint32) & np.uint32(0xFFFFE000)
        return bits.view(np.float32)

    monkeypatch.setattr(inputs, "weights", shortened)
    disturbed = dataclasses.replace(computed, logits={DEVICE: check._logits(DEVICE)})
    assert disagreeing(disturbed) == [f"logits on {DEVICE}"]
