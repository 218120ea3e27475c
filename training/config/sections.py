"""The config tree of one training run: all that decides its result, valid once created."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from preprocessing.errors import UsageError, did_you_mean
from preprocessing.storage import contracts
from preprocessing.storage.contracts import AsText, ContractError
from training.models.variants import Variant

T = TypeVar("T")
SWITCH = ("auto", "on", "off")
SYNTHETIC = "synthetic:"  # in place of a records folder, see `training.input.synthetic`


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """What is not in the variant's name; the defaults are the published recipe's."""

    dropout: float = 0.2  # keep 0.8
    bn_momentum: float = 0.997
    weight_decay: float = 4e-5  # times half the squared norm, on ordinary convolutions only
    quantized: bool = False  # round kernels and activations as int8 will, see `quantization`

    def __post_init__(self) -> None:
        for name in ("dropout", "bn_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"model.{name} must be in [0, 1), got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise UsageError(f"model.weight_decay must not be negative, got {self.weight_decay}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationConfig:
    """What training does to an image; the defaults are the published recipe's."""

    min_area: float = 0.05  # fraction of the image; crops below 10 % never occur all the same
    max_area: float = 1.0
    min_aspect_ratio: float = 0.75
    max_aspect_ratio: float = 1.33
    flip: bool = True
    # slim's later version always changes brightness first; the older one draws the order,
    # saturation first in three of four images. Which one trained the published checkpoints
    # cannot be told from the sources.
    color_order: str = "brightness_first"  # or "mixed"
    color: bool = True  # brightness and saturation
    randaugment_layers: int = 0  # operations per image
    randaugment_magnitude: float = 9.0  # of 10
    erasing_probability: float = 0.0
    # How a crop travels to the device after the resize. `float32` is exact; `uint8`, a quarter
    # of the bytes, rounds by at most half of one of 255 levels.
    pixels: str = "float32"  # or "uint8"

    def __post_init__(self) -> None:
        for low, high in (("min_area", "max_area"), ("min_aspect_ratio", "max_aspect_ratio")):
            if not 0 < getattr(self, low) <= getattr(self, high):
                raise UsageError(
                    f"augmentation.{low} must be positive and at most augmentation.{high}, "
                    f"got {getattr(self, low)} and {getattr(self, high)}"
                )
        if self.color_order not in ("brightness_first", "mixed"):
            raise UsageError(
                "augmentation.color_order must be 'brightness_first' or 'mixed', "
                f"got {self.color_order!r}"
            )
        if self.pixels not in ("float32", "uint8"):
            raise UsageError(
                f"augmentation.pixels must be 'float32' or 'uint8', got {self.pixels!r}"
            )
        if self.max_area > 1:
            raise UsageError(f"augmentation.max_area must be at most 1, got {self.max_area}")
        if self.randaugment_layers < 0:
            raise UsageError(
                f"augmentation.randaugment_layers must not be negative, got "
                f"{self.randaugment_layers}"
            )
        for name, most in (("randaugment_magnitude", 10), ("erasing_probability", 1)):
            if not 0 <= getattr(self, name) <= most:
                raise UsageError(
                    f"augmentation.{name} must be in [0, {most}], got {getattr(self, name)}"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """How an image is prepared for evaluation, calibration and export checks."""

    # `inception`: the central 87.5 % of each side, TF1 bilinear, aspect ratio not kept, as
    # slim does. `resize_256`: shorter side to 256/224 of the input with antialiasing, then
    # the central square, as most others do.
    crop: str = "inception"
    precise: bool = False  # decode JPEG with the accurate DCT instead of TensorFlow's fast one

    def __post_init__(self) -> None:
        if self.crop not in ("inception", "resize_256"):
            raise UsageError(
                f"evaluation.crop must be 'inception' or 'resize_256', got {self.crop!r}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """RMSProp and its schedule; the defaults are the published recipe's."""

    learning_rate_per_replica: float = 0.045
    decay_rate: float = 0.98
    decay_epochs: float = 2.5  # true epochs: passes over the data by all replicas together
    warmup_epochs: float = 0.0  # of linear rise; the decay counts from the start all the same
    rho: float = 0.9
    momentum: float = 0.9
    epsilon: float = 1.0  # inside the root

    def __post_init__(self) -> None:
        for name in ("learning_rate_per_replica", "decay_rate", "decay_epochs", "epsilon"):
            if getattr(self, name) <= 0:
                raise UsageError(f"optimizer.{name} must be positive, got {getattr(self, name)}")
        if self.warmup_epochs < 0:
            raise UsageError(
                f"optimizer.warmup_epochs must not be negative, got {self.warmup_epochs}"
            )
        for name in ("rho", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"optimizer.{name} must be in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Batches, length, loss and averages; the defaults are the published recipe's."""

    batch_per_replica: int = 96
    total_images: int = 700_000 * 8 * 96  # 700K steps on 8 GPUs
    label_smoothing: float = 0.1  # over all outputs, background included
    ema_decay: float = 0.9999
    bn_statistics: str = "replica0"  # what evaluation and checkpoints hold; or "mean"
    max_corrupt_records: int = 0  # per worker, that may be replaced by the record after them

    def __post_init__(self) -> None:
        for name in ("batch_per_replica", "total_images"):
            if getattr(self, name) < 1:
                raise UsageError(f"training.{name} must be positive, got {getattr(self, name)}")
        if self.max_corrupt_records < 0:
            raise UsageError(
                f"training.max_corrupt_records must not be negative, got {self.max_corrupt_records}"
            )
        for name in ("label_smoothing", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"training.{name} must be in [0, 1), got {getattr(self, name)}")
        if self.bn_statistics not in ("replica0", "mean"):
            raise UsageError(
                f"training.bn_statistics must be 'replica0' or 'mean', got {self.bn_statistics!r}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeConfig:
    """How a step is computed: faster or smaller, equal up to rounding.

    `auto` is on for GPUs and off on CPUs, where XLA and bfloat16 make a step slower.
    """

    xla: str = "auto"  # compile each replica's forward, backward and update; or "on", "off"
    bfloat16: str = "auto"  # activations; weights, statistics and loss stay float32
    # Keep only the blocks' boundaries and compute the rest again going backward: a third more
    # work, several times less memory.
    recompute: bool = False
    collectives: str = "auto"  # NCCL between GPUs and ring between CPUs; or "nccl", "ring"
    bytes_per_pack: int = 0  # of one gradient all-reduce; 0 sends all gradients as one

    def __post_init__(self) -> None:
        for name, allowed in (
            ("xla", SWITCH),
            ("bfloat16", SWITCH),
            ("collectives", ("auto", "nccl", "ring")),
        ):
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f"compute.{name} must be one of {', '.join(allowed)}, "
                    f"got {getattr(self, name)!r}"
                )
        if self.bytes_per_pack < 0:
            raise UsageError(
                f"compute.bytes_per_pack must not be negative, got {self.bytes_per_pack}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class InputConfig:
    """Where images wait; does not change which come nor in what order."""

    cache: bool = False  # keep every encoded image in memory: for datasets smaller than that


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How often the host looks in; does not change what is learned."""

    steps_per_loop: int = 1000
    checkpoint_every_steps: int = 5000
    evaluate_every_steps: int = 10_000
    checkpoints_to_keep: int = 5  # the newest; the best by top-1 stays as well
    # Device calls are kept about this short, so that a request to stop is heard in time.
    max_call_seconds: int = 2
    grace_seconds: int = 15  # from SIGTERM until the process is gone; spot machines give 15
    startup_timeout_seconds: int = 600  # for all workers to be there, and for the first step
    step_timeout_seconds: int = 600  # for any later device call
    max_attempts: int = 10  # in a row that may end without a new checkpoint
    histograms_every_steps: int = 10_000
    # After a loss that is not finite: back to the last checkpoint, other data from there.
    max_blow_up_recoveries: int = 0

    def __post_init__(self) -> None:
        if self.max_blow_up_recoveries < 0:
            raise UsageError(
                "loop.max_blow_up_recoveries must not be negative, "
                f"got {self.max_blow_up_recoveries}"
            )
        for field in dataclasses.fields(self):
            if field.name != "max_blow_up_recoveries" and getattr(self, field.name) < 1:
                raise UsageError(
                    f"loop.{field.name} must be positive, got {getattr(self, field.name)}"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One training run. Paths are flags and the cluster is the environment; neither is here."""

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
        """Steps of the whole run, at least one."""
        return max(
            1, self.training.total_images // (self.training.batch_per_replica * num_replicas)
        )

    def to_json(self) -> dict[str, Any]:
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


def _paths(tree: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted paths of all leaves."""
    paths: list[str] = []
    for name, value in tree.items():
        paths += _paths(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
    return paths


def override(config: T, assignment: str) -> T:
    """Return `config` with one field replaced, e.g. `"optimizer.momentum=0.8"`.

    Raises:
        UsageError: No such field (names the nearest), or not a value of its type.
    """
    path, equals, text = assignment.partition("=")
    if not equals:
        raise UsageError(f"--set expects section.field=value, got {assignment!r}")
    return _replace(config, path.strip().split("."), text.strip(), path.strip())


def _replace(config: Any, keys: list[str], text: str, path: str) -> Any:
    key, *rest = keys
    names = [field.name for field in dataclasses.fields(config)]
    if key not in names:
        raise UsageError(f"--set {path}: no such field; {did_you_mean(key, names)}")
    old = getattr(config, key)
    if rest and not _is_section(old):
        raise UsageError(f"--set {path}: {key} has no fields of its own")
    if not rest and _is_section(old):
        inside = ", ".join(f"{path}.{field.name}" for field in dataclasses.fields(old))
        raise UsageError(f"--set {path} is a section; set one of {inside}")
    new = _replace(old, rest, text, path) if rest else _parse(text, type(old), path)
    return dataclasses.replace(config, **{key: new})


def _is_section(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, Variant)


def _parse(text: str, kind: type, path: str) -> Any:
    if kind is Variant:
        return Variant.parse(text)
    if kind is bool:
        if text not in ("true", "false"):
            raise UsageError(f"--set {path} expects true or false, got {text!r}")
        return text == "true"
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"--set {path} expects {kind.__name__}, got {text!r}") from None


def override_all(config: T, assignments: Iterable[str]) -> T:
    """Return `config` with each `section.field=value` of `assignments`, in order.

    Raises:
        UsageError: As `override`.
    """
    for assignment in assignments:
        config = override(config, assignment)
    return config


def differences(stored: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> list[str]:
    """Return `field stored (now wanted)` for every leaf that differs between two trees."""
    lines: list[str] = []
    for name in sorted({*stored, *wanted}):
        old, new = stored.get(name), wanted.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            lines.append(f"{prefix}{name} {old} (now {new})")
    return lines
