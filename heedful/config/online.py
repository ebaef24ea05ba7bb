"""Policies that learn from their own answers: PPO and GRPO."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from heedful.config.base import Section
from heedful.config.fitting import Adapter, FitConfig, Optimiser


class UpperAdapter(Adapter):
    """The adapter of a policy that is sampled: what lies below it is computed once a rollout."""

    first_layer: NonNegativeInt | Literal["middle"] = "middle"


class OnlineOptimiser(Optimiser):
    """Few steps, each on fresh answers."""

    learning_rate: float = Field(4e-4, gt=0)


class Rollouts(Section):
    """How the policy is sampled; a group is the answers to one prompt."""

    num_rollouts: PositiveInt = 20
    prompts_per_rollout: PositiveInt = 8
    samples_per_prompt: PositiveInt = 4
    max_new_tokens: PositiveInt = 48
    temperature: float = Field(0.8, gt=0)
    num_slots: PositiveInt = 32


class Updates(Section):
    """How often a rollout is used, and how far one use may move the policy (Schulman 2017)."""

    epochs: PositiveInt = 1
    minibatches: PositiveInt = 2
    clip_range: float = Field(0.2, gt=0)
    missing_eos_penalty: float = Field(0.0, ge=0)


class PPO(Updates):
    """Clipped policy and value losses on token rewards (Ziegler 2019).

    ``critic`` says what the critic's head reads besides the score so far: the frozen states of the
    ``reward`` model, those of the ``policy`` that sampled, or an ``adapter`` of its own.
    """

    critic: Literal["reward", "policy", "adapter"] = "reward"
    value_clip_range: float = Field(0.2, gt=0)
    value_coef: float = Field(0.1, ge=0)
    gamma: float = Field(1.0, ge=0, le=1)
    gae_lambda: float = Field(0.95, ge=0, le=1)


class GRPO(Updates):
    """Clipped policy loss on advantages within a group (Shao 2024), and the KL as a loss term.

    ``advantages`` is ``group`` (centred and scaled), ``unscaled`` (Dr. GRPO) or ``leave_one_out``
    (RLOO); ``clip_range_high`` is ``clip_range`` unless it is given (DAPO).
    """

    advantages: str = "group"
    clip_range_high: float | None = Field(None, gt=0)
    kl_coef: float = Field(0.05, ge=0)


class Stops(Section):
    """When the policy has moved far enough.

    ``limit`` is nats per answer between the policy and its reference and ends the run;
    ``step_limit`` is nats per token between the policy that sampled and the policy being updated
    and ends the use of a rollout.
    """

    limit: float = Field(40.0, gt=0)
    step_limit: float = Field(0.2, gt=0)


class KL(Stops):
    """KL to the reference: a penalty in the reward whose coefficient adapts, and two stops.

    ``target`` is nats per answer.
    """

    coef: float = Field(0.2, ge=0)
    target: float = Field(6.0, gt=0)
    horizon: float = Field(100.0, gt=0)


class OnlineConfig(FitConfig):
    """What every fit has that samples from the policy."""

    reward: str = Field(
        description="run or registered reward model, classifier directory, or gold:NAME"
    )
    mix: str | None = Field(None, description="of the reward's parts: NAME=WEIGHT,FLAG>LIMIT")
    adapter: UpperAdapter = UpperAdapter()
    optimiser: OnlineOptimiser = OnlineOptimiser()
    rollouts: Rollouts = Rollouts()


class PPOConfig(OnlineConfig):
    """PPO against a reward."""

    ppo: PPO = PPO()
    kl: KL = KL()


class GRPOConfig(OnlineConfig):
    """GRPO, Dr. GRPO or RLOO against a reward: no critic, at least two answers a prompt."""

    grpo: GRPO = GRPO()
    kl: Stops = Stops()
