"""From the scores of a rollout to advantages per token: with a critic, or within groups."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heedful.config import GRPO, KL, PPO
from heedful.errors import ConfigError
from heedful.maths.advantages import group_advantages, leave_one_out_advantages
from heedful.maths.kl import adaptive_kl_coef
from heedful.maths.masked import masked_mean, masked_whiten
from heedful.maths.policy import explained_variance
from heedful.maths.returns import gae, token_rewards
from heedful.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A whole rollout, one row per response, ``group`` consecutive rows per prompt.

    Made by the rollout source, used by a credit. ``cut`` are answers that ended at the limit.
    """

    scores: Float[Tensor, "B"]
    mask: Bool[Tensor, "B T"]
    logprobs: Float[Tensor, "B T"]
    ref_logprobs: Float[Tensor, "B T"]
    values: Float[Tensor, "B T"] | None
    cut: Bool[Tensor, "B"]
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """What a credit assigns: ``returns`` are the critic's targets where there is a critic."""

    advantages: Float[Tensor, "B T"]
    returns: Float[Tensor, "B T"] | None
    metrics: dict[str, float]


class Credit(Protocol):
    """Who earned the score. ``has_critic`` says whether values are computed for it.

    ``reads_logprobs``: whether the log-probabilities of a rollout decide what is earned.
    """

    has_critic: bool
    reads_logprobs: bool
    kl_coef: float

    def assign(self, rollout: Scored) -> Credited:
        """Advantages of one rollout."""
        ...

    def adapt(self, kl: float, num_episodes: int) -> None:
        """Called once after every rollout with its mean KL in nats per answer."""
        ...


class CriticCredit:
    """PPO: the KL is in the token rewards, its coefficient adapts, GAE spreads the score."""

    has_critic = True
    reads_logprobs = True

    def __init__(self, ppo: PPO, kl: KL) -> None:
        self.ppo = ppo
        self.kl = kl
        self.kl_coef = kl.coef

    def assign(self, rollout: Scored) -> Credited:
        """GAE on token rewards; advantages are whitened over the whole rollout."""
        assert rollout.values is not None
        mask, values = rollout.mask, rollout.values
        penalised = rollout.scores - self.ppo.missing_eos_penalty * rollout.cut
        rewards = token_rewards(
            penalised, rollout.logprobs, rollout.ref_logprobs, mask, kl_coef=self.kl_coef
        )
        advantages, returns = gae(
            rewards, values, mask, gamma=self.ppo.gamma, gae_lambda=self.ppo.gae_lambda
        )
        return Credited(
            advantages=masked_whiten(advantages, mask),
            returns=returns,
            metrics={
                "rollout/explained_variance": explained_variance(values, returns, mask).item(),
                "rollout/advantage_std": deviation(advantages[mask]),
                "rollout/value_mean": masked_mean(values, mask).item(),
            },
        )

    def adapt(self, kl: float, num_episodes: int) -> None:
        """Towards the target, as in Ziegler et al. 2019."""
        self.kl_coef = adaptive_kl_coef(
            self.kl_coef,
            kl,
            target=self.kl.target,
            horizon=self.kl.horizon,
            num_episodes=num_episodes,
        )


def deviation(values: Tensor) -> float:
    """Sample deviation; 0 of a single value, of which there is none."""
    return values.std(correction=min(1, values.numel() - 1)).item()


def unscaled_advantages(rewards: Float[Tensor, "B G"]) -> Float[Tensor, "B G"]:
    """Rewards centred within their group (Dr. GRPO)."""
    return group_advantages(rewards, scale=False)


GROUP_ADVANTAGES: Registry[Callable[[Tensor], Tensor]] = Registry(
    "group advantage",
    {
        "group": group_advantages,
        "unscaled": unscaled_advantages,
        "leave_one_out": leave_one_out_advantages,
    },
)


class GroupCredit:
    """GRPO and its relatives: a score counts against the other answers to the same prompt.

    The KL is a term of the loss, with a fixed coefficient.
    """

    has_critic = False
    reads_logprobs = False

    def __init__(self, grpo: GRPO) -> None:
        self.formula = GROUP_ADVANTAGES[grpo.advantages]
        self.kl_coef = grpo.kl_coef
        self.missing_eos_penalty = grpo.missing_eos_penalty

    def assign(self, rollout: Scored) -> Credited:
        """One advantage per response, the same for all its tokens."""
        penalised = rollout.scores - self.missing_eos_penalty * rollout.cut
        groups = penalised.view(-1, rollout.group)
        advantages = self.formula(groups)
        equal = (groups.std(dim=1, correction=0) == 0).float().mean().item()
        return Credited(
            advantages=torch.where(rollout.mask, advantages.reshape(-1, 1), 0.0),
            returns=None,
            metrics={
                "rollout/advantage_std": deviation(advantages),
                "rollout/equal_groups_share": equal,
            },
        )

    def adapt(self, kl: float, num_episodes: int) -> None:
        """The coefficient is fixed."""


def check_group(samples_per_prompt: int) -> None:
    """Refuse groups in which nothing can be compared."""
    if samples_per_prompt < 2:
        raise ConfigError(
            f"rollouts.samples_per_prompt is {samples_per_prompt}; a group method compares answers "
            "to one prompt and needs at least 2: set rollouts.samples_per_prompt=8"
        )
