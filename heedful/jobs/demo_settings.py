"""How much work each stage of the demo does, and the settings it does it with."""

from dataclasses import dataclass

from heedful.config import (
    PPO,
    Batching,
    DemoConfig,
    EvaluateConfig,
    Packing,
    PPOConfig,
    RewardConfig,
    RewardOptimiser,
    Rollouts,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much work each stage does. Made from the table below, used by the stages."""

    label_prompts: int
    answers_per_prompt: int
    num_rollouts: int
    held_out_prompts: int
    max_new_tokens: int
    best_of: int = 4


BUDGETS = {
    "full": Budget(
        label_prompts=160,
        answers_per_prompt=4,
        num_rollouts=14,
        held_out_prompts=110,
        max_new_tokens=40,
    ),
    "small": Budget(
        label_prompts=48,
        answers_per_prompt=4,
        num_rollouts=6,
        held_out_prompts=100,
        max_new_tokens=32,
        best_of=2,
    ),
}
TEMPERATURE = 0.8
HELD_OUT_SHARE = 0.2
NUM_SLOTS = 128


def reward_config(config: DemoConfig, data: str = "demo") -> RewardConfig:
    """The reward model of the demo."""
    return RewardConfig(
        data=data,
        model=config.model,
        seed=config.seed,
        epochs=1,
        held_out_share=HELD_OUT_SHARE,
        # what the runs in docs/results.md were made with
        optimiser=RewardOptimiser(learning_rate=1e-4),
        batch=Batching(examples_per_step=4, tokens_per_micro_step=900, max_tokens=600),
    )


def ppo_config(config: DemoConfig, reward: str) -> PPOConfig:
    """The policy optimisation of the demo."""
    budget = BUDGETS[config.budget]
    return PPOConfig(
        data="demo-prompts",
        model=config.model,
        reward=reward,
        seed=config.seed,
        checkpoint_every=2,
        batch=Packing(tokens_per_micro_step=900, max_tokens=600),
        rollouts=Rollouts(
            num_rollouts=budget.num_rollouts,
            prompts_per_rollout=8,
            samples_per_prompt=4,
            max_new_tokens=budget.max_new_tokens,
            temperature=TEMPERATURE,
            num_slots=NUM_SLOTS,
        ),
        ppo=PPO(epochs=1, minibatches=4),
    )


def evaluate_config(config: DemoConfig, policy: str, reward: str) -> EvaluateConfig:
    """The evaluation of the demo."""
    budget = BUDGETS[config.budget]
    return EvaluateConfig(
        data="demo-held-out",
        model=policy,
        reward=reward,
        gold=None if config.human else config.gold,
        seed=config.seed,
        num_prompts=budget.held_out_prompts,
        best_of=budget.best_of,
        max_new_tokens=budget.max_new_tokens,
        temperature=TEMPERATURE,
        num_slots=NUM_SLOTS,
        tokens_per_micro_step=900,
    )
