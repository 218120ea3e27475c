"""The config tree of a training run, and the recipes that fill it."""

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
    differences,
    override,
    override_all,
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
    "differences",
    "override",
    "override_all",
    "recipes",
]
