"""One reward from several: criteria, groups of people, members of an ensemble, flags, length.

The last axis holds what is put together; any batch shape before it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .precision import at_least_float32


def standardise(
    heads: Float[Tensor, "*B H"], mean: Float[Tensor, "H"], std: Float[Tensor, "H"]
) -> Float[Tensor, "*B H"]:
    """Every head in deviations from its mean on answers of the start policy.

    ``mean`` and ``std`` are measured once and frozen: moments of the batch at hand would move
    under the policy. Raises ``ValueError`` unless every ``std`` is above 0. Ziegler et al. 2019
    (arXiv:1909.08593), there for one head.
    """
    if not (std > 0).all():
        raise ValueError(
            f"a head has deviation {float(std.min())}; it must be above 0; a head that says the "
            "same of all answers has learned nothing and is to be left out"
        )
    return (at_least_float32(heads) - mean) / std


def weighted_sum(
    heads: Float[Tensor, "*B H"], weights: Float[Tensor, "H"] | Float[Tensor, "*B H"]
) -> Float[Tensor, "*B"]:
    """``sum_h weights_h heads_h``: named criteria, or groups of people, as one reward.

    Weights are free after training, negative ones too; a weight of 1 is worth one deviation when
    the heads come from ``standardise``. Without that the head with the largest spread decides.
    """
    return (at_least_float32(heads) * weights).sum(-1)


def group_mean(
    heads: Float[Tensor, "*B G"], shares: Float[Tensor, "G"] | None = None
) -> Float[Tensor, "*B"]:
    """Mean over groups, each alike or by its share of people: the utilitarian reward.

    Raises ``ValueError`` when shares are negative or do not sum to 1.
    """
    if shares is None:
        return at_least_float32(heads).mean(-1)
    if (shares < 0).any() or abs(float(shares.sum()) - 1) > 1e-4:
        raise ValueError(
            f"shares are from {float(shares.min()):.4g} and sum to {float(shares.sum()):.4g}; they "
            "must be at least 0 and sum to 1; divide them by their sum"
        )
    return weighted_sum(heads, shares)


def worst_group(heads: Float[Tensor, "B G"]) -> Float[Tensor, "B"]:
    """The rewards of the group with the lowest mean over the batch: a subgradient of max-min.

    ``max_policy min_group E[r_group]`` is about a policy's answers as a whole, so one group is
    chosen for the batch and a group's size plays no part. Groups need one scale: ``standardise``
    first. Chakraborty et al. 2024 (arXiv:2402.08925), MaxMin-RLHF.
    """
    heads = at_least_float32(heads)
    return heads[:, heads.mean(0).argmin()]


def worst_case(heads: Float[Tensor, "*B H"]) -> Float[Tensor, "*B"]:
    """The lowest score of each answer: of an ensemble's members, or of groups answer by answer.

    Members need one scale, or this is always the one with the lowest mean. Coste et al. 2023
    (arXiv:2310.02743), "worst-case optimisation".
    """
    return at_least_float32(heads).amin(-1)


def mean_minus_variance(
    members: Float[Tensor, "*B H"], *, penalty: float, ddof: int = 1
) -> Float[Tensor, "*B"]:
    """``mean - penalty variance`` over an ensemble's members; the variance, not the deviation.

    ``penalty`` is at least 0; 0 is the mean. The authors divide the variance by the number of
    members in best-of-n (``ddof=0``) and by one less in PPO, which is the default here. Raises
    ``ValueError`` for a negative penalty or not more than ``ddof`` members. Coste et al. 2023
    (arXiv:2310.02743), "uncertainty-weighted optimisation".
    """
    if penalty < 0:
        raise ValueError(f"penalty is {penalty}; below 0 it would reward what members dispute")
    if members.size(-1) <= ddof:
        raise ValueError(
            f"the ensemble has {members.size(-1)} members; a variance with ddof={ddof} needs at "
            f"least {ddof + 1}"
        )
    members = at_least_float32(members)
    return members.mean(-1) - penalty * members.var(-1, correction=ddof)


def penalised(
    scores: Float[Tensor, "*B"], flags: Float[Tensor, "*B F"], penalties: Float[Tensor, "F"]
) -> Float[Tensor, "*B"]:
    """``score - sum_f penalty_f flag_f``, flags as probabilities or as expected severities.

    Raises ``ValueError`` for a negative penalty.
    """
    if (penalties < 0).any():
        raise ValueError(
            f"a penalty is {float(penalties.min())}; it must be at least 0, or a flag is a reward"
        )
    return at_least_float32(scores) - weighted_sum(flags, penalties)


def vetoed(
    scores: Float[Tensor, "*B"],
    flags: Float[Tensor, "*B F"],
    limits: Float[Tensor, "F"],
    *,
    floor: float,
) -> Float[Tensor, "*B"]:
    """``min(score, floor)`` where any flag's probability is above its limit, else the score.

    However good the rest, such an answer is worth ``floor`` at most; a finite one, such as four
    deviations below the mean, so that policies can learn from it. Choose each limit for a recall on
    validation data; a limit of 1 vetoes nothing. No gradient reaches the flags.
    """
    scores = at_least_float32(scores)
    return torch.where((flags > limits).any(-1), scores.clamp(max=floor), scores)


def length_penalised(
    scores: Float[Tensor, "*B"], lengths: Float[Tensor, "*B"], *, per_unit: float
) -> Float[Tensor, "*B"]:
    """``score - per_unit length``: the plain remedy, which also takes length that was needed.

    In whatever unit lengths have, tokens or deviations. Singhal et al. 2023 (arXiv:2310.03716).
    """
    return at_least_float32(scores) - per_unit * at_least_float32(lengths)
