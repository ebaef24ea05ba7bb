"""The table of algorithms: objective, unit of its normaliser, and what the forward must give."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from heedful.config import RewardLoss
from heedful.train.objectives import Objective, direct_preference, feedback_reward, grpo, nll, ppo

Unit = Literal["tokens", "pairs", "judgements"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """One row of the table. ``role`` is trained; ``trains`` are all roles whose weights move.

    ``apart``: each of them for itself, so that their gradients are clipped one by one.
    """

    name: str
    objective: Objective
    unit: Unit
    needs: frozenset[str]
    role: str
    trains: tuple[str, ...]
    temperature: float = 1.0
    apart: bool = False


def sft() -> Algorithm:
    """Supervised fine-tuning on responses."""
    return Algorithm(
        name="sft",
        objective=nll,
        unit="tokens",
        needs=frozenset({"logprobs"}),
        role="policy",
        trains=("policy",),
    )


def reward(
    loss: RewardLoss,
    flag_weights: Mapping[str, float] = MappingProxyType({}),
    *,
    roles: tuple[str, ...] = ("reward",),
    length_head: bool = False,
) -> Algorithm:
    """A reward model on feedback, or the members of an ensemble side by side.

    ``flag_weights`` come with the data. With ``length_head`` a head for length learns beside it.
    """
    return Algorithm(
        name="reward",
        objective=feedback_reward(loss, flag_weights),
        unit="judgements",
        needs=frozenset({"scores", "length_scores"} if length_head else {"scores"}),
        role=roles[0],
        trains=(*roles, "length") if length_head else roles,
        apart=len(roles) > 1,
    )


def direct(*, loss: str, params: Mapping[str, float]) -> Algorithm:
    """Direct preference optimisation on pairs."""
    return Algorithm(
        name=loss,
        objective=direct_preference(loss, params),
        unit="pairs",
        needs=frozenset({"logprobs"}),
        role="policy",
        trains=("policy",),
    )


def proximal(
    *, clip_range: float, value_clip_range: float, value_coef: float, temperature: float
) -> Algorithm:
    """PPO with a critic."""
    return Algorithm(
        name="ppo",
        objective=ppo(
            clip_range=clip_range, value_clip_range=value_clip_range, value_coef=value_coef
        ),
        unit="tokens",
        needs=frozenset({"logprobs", "values"}),
        role="policy",
        trains=("policy", "critic"),
        temperature=temperature,
    )


def group_relative(
    *, clip_range: float, clip_range_high: float | None, kl_coef: float, temperature: float
) -> Algorithm:
    """GRPO and its relatives, without a critic."""
    return Algorithm(
        name="grpo",
        objective=grpo(clip_range=clip_range, clip_range_high=clip_range_high, kl_coef=kl_coef),
        unit="tokens",
        needs=frozenset({"logprobs"}),
        role="policy",
        trains=("policy",),
        temperature=temperature,
    )
