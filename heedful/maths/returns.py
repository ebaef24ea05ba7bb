"""From a score per response to a return per token. Rows are right-padded, results are constants.

Nothing here carries a gradient: rewards and advantages are targets, not predictions.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from .kl import kl_k1
from .masked import last_index, zero_padding
from .precision import at_least_float32


def token_rewards(
    scores: Float[Tensor, "B"],
    logprobs: Float[Tensor, "B T"],
    ref_logprobs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    kl_coef: float,
) -> Float[Tensor, "B T"]:
    """Per token ``-kl_coef * k1``, plus the row's score on its last response token; 0 on padding.

    Raises ``ValueError`` when a row has no response token. Ziegler et al. 2019
    (arXiv:1909.08593), equation 2. The score sits on the end-of-turn token (or on the last token
    of a truncated response); TRL's PPO puts it one position later, on a token that its policy
    loss masks.
    """
    last = last_index(mask)
    penalty = zero_padding(-kl_coef * kl_k1(logprobs, ref_logprobs), mask).detach()
    return penalty.scatter_add(1, last[:, None], scores.detach()[:, None].to(penalty))


def gae(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    gamma: float = 1.0,
    gae_lambda: float = 0.95,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Generalised advantages and the returns ``advantages + values``; both 0 on padding.

    ``delta_t = r_t + gamma V_{t+1} - V_t`` and ``A_t = delta_t + gamma lambda A_{t+1}``, where the
    value after the last response token is 0, also when the response was cut at the length limit.
    Raises ``ValueError`` when a token follows padding. Schulman et al. 2016 (arXiv:1506.02438),
    equation 16.
    """
    _refuse_gaps(mask)
    rewards = zero_padding(at_least_float32(rewards.detach()), mask)
    values = zero_padding(at_least_float32(values.detach()), mask)
    deltas = rewards + gamma * pad(values[:, 1:], (0, 1)) - values
    advantages = torch.empty_like(deltas)
    running = torch.zeros_like(deltas[:, 0])
    for t in reversed(range(deltas.size(1))):
        running = deltas[:, t] + gamma * gae_lambda * running
        advantages[:, t] = running
    return advantages, advantages + values


def rewards_to_go(
    rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], *, gamma: float = 1.0
) -> Float[Tensor, "B T"]:
    """``G_t = r_t + gamma G_{t+1}``, the discounted sum of the rewards from ``t`` on; 0 on padding.

    Raises ``ValueError`` when a token follows padding.
    """
    advantages, _ = gae(rewards, torch.zeros_like(rewards), mask, gamma=gamma, gae_lambda=1.0)
    return advantages


def _refuse_gaps(mask: Bool[Tensor, "B T"]) -> None:
    gaps = (mask[:, 1:] & ~mask[:, :-1]).any(dim=1)
    if gaps.any():
        row = int(gaps.nonzero()[0])
        raise ValueError(
            f"row {row} of the mask has a token after padding; rows must be right-padded; "
            "gather the response tokens to the left"
        )
