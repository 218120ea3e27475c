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
    from_dict,
    override,
    to_dict,
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
    "from_dict",
    "override",
    "to_dict",
]
