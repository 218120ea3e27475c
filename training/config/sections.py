"""The config tree of one training run: all settings that decide its result, valid once created.

The defaults are those of the published recipe.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from preprocessing.errors import UsageError
from preprocessing.storage import contracts
from preprocessing.storage.contracts import AsText, ContractError, Json
from training.config.overrides import is_section
from training.config.setting import (
    AT_LEAST_1,
    FRACTION,
    FRACTION_BELOW_1,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_FRACTION,
    Range,
    Setting,
    setting,
    settings_of,
    validate,
)
from training.models.variants import Variant

SYNTHETIC = "synthetic:"  # instead of a records folder, see `training.input.synthetic`
Switch = Literal["auto", "on", "off"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The network, beyond what the variant's name determines."""

    dropout: float = setting(
        0.2, "Fraction of the pooled features that training drops.", FRACTION_BELOW_1
    )
    bn_momentum: float = setting(
        0.997, "Decay of the moving statistics of batch normalisation.", FRACTION_BELOW_1
    )
    weight_decay: float = setting(
        4e-5,
        "Weight of half the squared norm of the kernels, depthwise kernels left out.",
        NOT_NEGATIVE,
    )
    quantized: bool = setting(
        False, "Whether training rounds kernels and activations as int8 inference does."
    )

    def __post_init__(self) -> None:
        validate(self, "model")


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """The augmentation of training images."""

    min_area: float = setting(
        0.05,
        "Smallest area of a crop as a fraction of the image; slim's code still draws no crop "
        "below 10 %.",
        POSITIVE,
    )
    max_area: float = setting(
        1.0, "Largest area of a crop as a fraction of the image.", POSITIVE_FRACTION
    )
    min_aspect_ratio: float = setting(0.75, "Smallest width / height of a crop.", POSITIVE)
    max_aspect_ratio: float = setting(1.33, "Largest width / height of a crop.", POSITIVE)
    flip: bool = setting(True, "Whether half of the crops are mirrored.")
    # slim's later version always changes brightness first; the older one draws the order,
    # saturation first in three of four images. Which one trained the published checkpoints
    # cannot be told from the sources.
    color_order: Literal["brightness_first", "mixed"] = setting(
        "brightness_first", "Order in which brightness and saturation change."
    )
    color: bool = setting(True, "Whether brightness and saturation change.")
    randaugment_layers: int = setting(
        0, "Number of RandAugment operations per image.", NOT_NEGATIVE
    )
    randaugment_magnitude: float = setting(
        9.0, "Strength of the RandAugment operations, of 10.", Range(0, 10)
    )
    erasing_probability: float = setting(
        0.0, "Probability that a rectangle of an image is erased.", FRACTION
    )
    pixels: Literal["float32", "uint8"] = setting(
        "float32",
        "Type of a crop on its way to the device; float32 is exact, uint8 needs a quarter of the "
        "bytes and rounds by at most half of one of 255 levels.",
    )

    def __post_init__(self) -> None:
        validate(self, "augmentation")
        for low, high in (("min_area", "max_area"), ("min_aspect_ratio", "max_aspect_ratio")):
            if getattr(self, low) > getattr(self, high):
                raise UsageError(
                    f"augmentation.{low} must be positive and at most augmentation.{high}, "
                    f"got {getattr(self, low)} and {getattr(self, high)}"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """The preparation of an image for evaluation, calibration and export checks."""

    crop: Literal["inception", "resize_256"] = setting(
        "inception",
        "inception: the central 87.5 % of each side, TF1 bilinear, aspect ratio not kept, as in "
        "slim; resize_256: the shorter side to 256/224 of the input with antialiasing, then the "
        "central square, as most others do.",
    )
    precise: bool = setting(
        False, "Whether JPEGs are decoded with the accurate DCT instead of TensorFlow's fast one."
    )
    checkpoint: Literal["newest", "best"] = setting(
        "newest",
        "Checkpoint of a finished run that is evaluated and exported; best is the one whose top-1 "
        "on the validation images was highest, which flatters that figure a little.",
    )

    def __post_init__(self) -> None:
        validate(self, "evaluation")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """RMSProp and its schedule."""

    learning_rate_per_replica: float = setting(
        0.045, "Initial learning rate, times the number of replicas.", POSITIVE
    )
    decay_rate: float = setting(0.98, "Factor of each decay of the learning rate.", POSITIVE)
    decay_epochs: float = setting(
        2.5, "Passes of all replicas together over the data between two decays.", POSITIVE
    )
    warmup_epochs: float = setting(
        0.0,
        "Passes over the data in which the learning rate rises linearly; the decay counts from "
        "the start nevertheless.",
        NOT_NEGATIVE,
    )
    rho: float = setting(0.9, "Decay of the mean square of the gradients.", FRACTION_BELOW_1)
    momentum: float = setting(0.9, "Momentum of the updates.", FRACTION_BELOW_1)
    epsilon: float = setting(1.0, "Number added to the mean square, inside the root.", POSITIVE)

    def __post_init__(self) -> None:
        validate(self, "optimizer")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Batches, length, loss and averages."""

    batch_per_replica: int = setting(96, "Images per replica and step.", AT_LEAST_1)
    total_images: int = setting(
        700_000 * 8 * 96, "Images of the whole run: 700,000 steps on 8 GPUs.", AT_LEAST_1
    )
    label_smoothing: float = setting(
        0.1,
        "Part of the label that is spread over all outputs, the background included.",
        FRACTION_BELOW_1,
    )
    ema_decay: float = setting(
        0.9999, "Decay of the moving averages of the weights.", FRACTION_BELOW_1
    )
    bn_statistics: Literal["replica0", "mean"] = setting(
        "replica0", "Whose statistics of batch normalisation evaluation and checkpoints hold."
    )
    head_epochs: float = setting(
        0.0,
        "Passes over the data in which only the classifier learns, for weights from elsewhere; "
        "statistics of batch normalisation follow the images from the start.",
        NOT_NEGATIVE,
    )
    class_weights: Literal["equal", "balanced"] = setting(
        "equal",
        "Weight of each image in the loss; balanced gives all classes the same total weight.",
    )
    max_corrupt_records: int = setting(
        0, "Corrupt records per worker that the record after them may replace.", NOT_NEGATIVE
    )

    def __post_init__(self) -> None:
        validate(self, "training")


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeConfig:
    """The computation of a step: faster or smaller, equal up to rounding.

    `auto` means on for GPUs and off on CPUs, where XLA and bfloat16 make a step slower.
    """

    xla: Switch = setting(
        "auto", "Whether each replica's forward, backward and update are compiled."
    )
    bfloat16: Switch = setting(
        "auto",
        "Whether activations are bfloat16; weights, statistics and loss stay float32.",
    )
    recompute: bool = setting(
        False,
        "Whether only the blocks' boundaries are kept and the rest is computed again going "
        "backward: a third more work, several times less memory.",
    )
    collectives: Literal["auto", "nccl", "ring"] = setting(
        "auto", "How gradients are summed; auto takes NCCL between GPUs and ring between CPUs."
    )
    bytes_per_pack: int = setting(
        0,
        "Size of one all-reduce of gradients; 0 sends all gradients as one.",
        NOT_NEGATIVE,
        unit="bytes",
    )

    def __post_init__(self) -> None:
        validate(self, "compute")


@dataclass(frozen=True, kw_only=True, slots=True)
class InputConfig:
    """Buffers of images; they change neither the images nor their order."""

    cache: bool = setting(
        False, "Whether every encoded image is kept in memory, for datasets that fit."
    )

    def __post_init__(self) -> None:
        validate(self, "input")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """The rhythm of the host's work; it does not change the training."""

    steps_per_loop: int = setting(1000, "Steps between two looks at the run.", AT_LEAST_1)
    checkpoint_every_steps: int = setting(5000, "Steps between two checkpoints.", AT_LEAST_1)
    evaluate_every_steps: int = setting(10_000, "Steps between two evaluations.", AT_LEAST_1)
    checkpoints_to_keep: int = setting(
        5, "Number of newest checkpoints that stay; the best by top-1 stays as well.", AT_LEAST_1
    )
    max_call_seconds: int = setting(
        2, "Length of a device call, so that a request to stop is heard in time.", AT_LEAST_1
    )
    grace_seconds: int = setting(
        15, "Time from SIGTERM to the end of the process; spot machines give 15.", AT_LEAST_1
    )
    startup_timeout_seconds: int = setting(
        600, "Time until all workers are there, and for the first step.", AT_LEAST_1
    )
    step_timeout_seconds: int = setting(600, "Time for any later device call.", AT_LEAST_1)
    max_attempts: int = setting(
        10, "Attempts in a row that may end without a new checkpoint.", AT_LEAST_1
    )
    histograms_every_steps: int = setting(
        10_000, "Steps between two sets of histograms.", AT_LEAST_1
    )
    max_blow_up_recoveries: int = setting(
        0,
        "Returns to the last checkpoint, with other data from there, after a loss that is not "
        "finite.",
        NOT_NEGATIVE,
    )

    def __post_init__(self) -> None:
        validate(self, "loop")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One training run, without paths (which are flags) and cluster (which is the environment)."""

    variant: Annotated[Variant, AsText]
    recipe: str
    seed: int = 0
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = dataclasses.field(default_factory=AugmentationConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    compute: ComputeConfig = dataclasses.field(default_factory=ComputeConfig)
    input: InputConfig = dataclasses.field(default_factory=InputConfig)
    loop: LoopConfig = dataclasses.field(default_factory=LoopConfig)

    def num_steps(self, num_replicas: int) -> int:
        """Return the number of steps of the whole run, at least one."""
        return max(
            1, self.training.total_images // (self.training.batch_per_replica * num_replicas)
        )

    def settings(self) -> list[Setting]:
        """Return every setting with its value, default, range and meaning."""
        sections = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return [
            item
            for name, section in sections
            if is_section(section)
            for item in settings_of(section, name)
        ]

    def to_json(self) -> Json:
        """Return the tree as JSON-able values."""
        return contracts.to_json(self)

    @classmethod
    def from_json(cls, value: Any, name: str = "config") -> RunConfig:
        """Read what `to_json` returned; settings that a newer version added get their defaults.

        Raises:
            ContractError: A setting is unknown or has a value of another type; names it.
            UsageError: A value is out of its range.
        """
        config = contracts.from_json(cls, value, name)
        known = config.to_json()
        for path in _paths(value):
            if path not in set(_paths(known)):
                raise ContractError(f"{name}.{path}: this version has no such setting")
        return config


def _paths(tree: Json, prefix: str = "") -> list[str]:
    """Return the dotted paths of all leaves."""
    paths: list[str] = []
    for name, value in tree.items():
        paths += _paths(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return paths
