"""The config tree of a training run, and the recipes that fill it."""

from training.config.overrides import changes, differences, override, override_all
from training.config.sections import (
    SYNTHETIC,
    AugmentationConfig,
    ComputeConfig,
    EvaluationConfig,
    InputConfig,
    LoopConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TrainingConfig,
)

__all__ = [
    "SYNTHETIC",
    "AugmentationConfig",
    "ComputeConfig",
    "EvaluationConfig",
    "InputConfig",
    "LoopConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "TrainingConfig",
    "changes",
    "differences",
    "override",
    "override_all",
    "recipes",
    "setting",
]
