"""One checked config per stage: defaults < TOML file < dotted overrides.

Unknown keys are refused with the nearest name. Defaults are the vetted settings.
"""

from heedful.config.base import (
    Section,
    assign,
    check,
    listed,
    parse_literal,
    read_toml,
    resolve,
)
from heedful.config.evaluation import (
    DemoConfig,
    EvaluateConfig,
    JudgeSettings,
    RewardCardConfig,
)
from heedful.config.fitting import (
    Adapter,
    Batching,
    ExampleConfig,
    FitConfig,
    Optimiser,
    Packing,
    PreferenceConfig,
    SFTConfig,
    place,
)
from heedful.config.online import (
    GRPO,
    KL,
    PPO,
    GRPOConfig,
    OnlineConfig,
    OnlineOptimiser,
    PPOConfig,
    Rollouts,
    Stops,
    Updates,
    UpperAdapter,
)
from heedful.config.reward import (
    Ensemble,
    Remedies,
    RewardAdapter,
    RewardConfig,
    RewardLoss,
    RewardOptimiser,
)

__all__ = [
    "GRPO",
    "KL",
    "PPO",
    "Adapter",
    "Batching",
    "DemoConfig",
    "Ensemble",
    "EvaluateConfig",
    "ExampleConfig",
    "FitConfig",
    "GRPOConfig",
    "JudgeSettings",
    "OnlineConfig",
    "OnlineOptimiser",
    "Optimiser",
    "PPOConfig",
    "Packing",
    "PreferenceConfig",
    "Remedies",
    "RewardAdapter",
    "RewardCardConfig",
    "RewardConfig",
    "RewardLoss",
    "RewardOptimiser",
    "Rollouts",
    "SFTConfig",
    "Section",
    "Stops",
    "Updates",
    "UpperAdapter",
    "assign",
    "check",
    "listed",
    "parse_literal",
    "place",
    "read_toml",
    "resolve",
]
