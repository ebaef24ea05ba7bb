"""Advantages without a critic, from G responses to each prompt or from the whole batch.

A NaN reward makes its whole group NaN: nothing is dropped silently.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from .masked import masked_whiten
from .precision import at_least_float32
from .returns import rewards_to_go


def group_advantages(
    rewards: Float[Tensor, "B G"], *, ddof: int = 1, eps: float = 1e-4, scale: bool = True
) -> Float[Tensor, "B G"]:
    """Rewards centred within each group and, if ``scale``, divided by ``std + eps``.

    A group of equal rewards gives zeros. Raises ``ValueError`` for a group size of 1.
    GRPO: Shao et al. 2024 (arXiv:2402.03300), section 4.1.2, with the ``ddof`` and ``eps`` of TRL.
    ``scale=False`` is Dr. GRPO: Liu et al. 2025 (arXiv:2503.20783), since the division
    over-weights prompts that are nearly always or nearly never solved.
    """
    _refuse_single_responses(rewards, "GRPO")
    rewards = at_least_float32(rewards)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    if not scale:
        return centred
    return centred / (rewards.std(dim=1, correction=ddof, keepdim=True) + eps)


def leave_one_out_advantages(rewards: Float[Tensor, "B G"]) -> Float[Tensor, "B G"]:
    """Each reward minus the mean of the other rewards of its group; every group sums to 0.

    Raises ``ValueError`` for a group size of 1. RLOO: Ahmadian et al. 2024
    (arXiv:2402.14740); equal to ``G / (G - 1)`` times the centred reward.
    """
    _refuse_single_responses(rewards, "RLOO")
    rewards = at_least_float32(rewards)
    group_size = rewards.size(1)
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (group_size - 1)
    return rewards - others


def reinforce_plus_plus_advantages(
    token_rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Rewards to go, whitened over all response tokens of the batch; 0 on padding.

    Works with one response per prompt, where group methods have no signal. Pass the global batch:
    statistics of a part of it are another objective. Raises ``ValueError`` when fewer than two
    tokens remain. REINFORCE++: Hu 2025 (arXiv:2501.03262).
    """
    return masked_whiten(rewards_to_go(token_rewards, mask), mask)


def _refuse_single_responses(rewards: Float[Tensor, "B G"], algorithm: str) -> None:
    group_size = rewards.size(1)
    if group_size < 2:
        raise ValueError(
            f"group_size is {group_size}; {algorithm} needs at least 2 to centre rewards; "
            "set --group-size 8"
        )
