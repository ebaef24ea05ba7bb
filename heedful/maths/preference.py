"""Losses of preference pairs on the policy itself: DPO and its relatives, in nats per pair.

Log-probabilities are sums over the response tokens, end-of-turn token included and prompt
excluded; ``*_tokens`` are the numbers of those tokens, at least 1. DPO is Bradley-Terry on the
implicit reward ``beta * (logprob - ref_logprob)``, so most losses here are one line on top of
``reward``. Reference log-probabilities are constants.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .precision import at_least_float32
from .reward import bradley_terry, unbiased_bradley_terry


def implicit_reward(
    logprobs: Float[Tensor, "*B"], ref_logprobs: Float[Tensor, "*B"], *, beta: float
) -> Float[Tensor, "*B"]:
    """``beta * (logprobs - ref_logprobs)``: the reward whose optimal policy is this one.

    Up to a constant per prompt. Rafailov et al. 2023 (arXiv:2305.18290), equation 5.
    """
    return beta * (at_least_float32(logprobs) - at_least_float32(ref_logprobs).detach())


def dpo(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    ref_chosen_logprobs: Float[Tensor, "*B"],
    ref_rejected_logprobs: Float[Tensor, "*B"],
    *,
    beta: float = 0.1,
) -> Float[Tensor, "*B"]:
    """``-log sigmoid`` of the implicit reward margin; log 2 where policy and reference agree.

    Rafailov et al. 2023 (arXiv:2305.18290), equation 7.
    """
    chosen, rejected = _implicit_rewards(
        chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
    )
    return bradley_terry(chosen, rejected)


def cdpo(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    ref_chosen_logprobs: Float[Tensor, "*B"],
    ref_rejected_logprobs: Float[Tensor, "*B"],
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.1,
) -> Float[Tensor, "*B"]:
    """Conservative DPO: a share ``label_smoothing`` of each pair counts as swapped.

    The optimal margin is ``log((1 - eps) / eps)`` instead of infinity. Raises ``ValueError``
    unless ``label_smoothing`` is in [0, 0.5). Mitchell 2023, "A note on DPO with noisy
    preferences".
    """
    chosen, rejected = _implicit_rewards(
        chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
    )
    return bradley_terry(chosen, rejected, label_smoothing=label_smoothing)


def robust_dpo(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    ref_chosen_logprobs: Float[Tensor, "*B"],
    ref_rejected_logprobs: Float[Tensor, "*B"],
    *,
    beta: float = 0.1,
    flip_rate: float = 0.1,
) -> Float[Tensor, "*B"]:
    """DPO whose mean over labels flipped at ``flip_rate`` is the DPO loss of the clean labels.

    Unbounded below. Raises ``ValueError`` unless ``flip_rate`` is in [0, 0.5).
    Chowdhury et al. 2024 (arXiv:2403.00409); ``robust`` in TRL.
    """
    chosen, rejected = _implicit_rewards(
        chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
    )
    return unbiased_bradley_terry(chosen, rejected, flip_rate=flip_rate)


def hinge(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    ref_chosen_logprobs: Float[Tensor, "*B"],
    ref_rejected_logprobs: Float[Tensor, "*B"],
    *,
    beta: float = 0.1,
) -> Float[Tensor, "*B"]:
    """``max(0, 1 - margin)`` of the implicit rewards: no pull once the margin reaches 1.

    The loss of SLiC (Zhao et al. 2023, arXiv:2305.10425) on DPO's margin.
    """
    chosen, rejected = _implicit_rewards(
        chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
    )
    return torch.relu(1 - (chosen - rejected))


def ipo(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    ref_chosen_logprobs: Float[Tensor, "*B"],
    ref_rejected_logprobs: Float[Tensor, "*B"],
    *,
    tau: float = 0.1,
) -> Float[Tensor, "*B"]:
    """``(h - 1 / (2 tau))^2`` of the log-ratio margin ``h``: a finite goal even for sure labels.

    Azar et al. 2023 (arXiv:2310.12036), equation 17, on summed log-probabilities as in the
    authors' derivation; ``length_normalised_ipo`` is TRL's form.
    """
    chosen, rejected = _implicit_rewards(
        chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, 1.0
    )
    return (chosen - rejected - 1 / (2 * tau)).square()


def length_normalised_ipo(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    ref_chosen_logprobs: Float[Tensor, "*B"],
    ref_rejected_logprobs: Float[Tensor, "*B"],
    chosen_tokens: Int[Tensor, "*B"],
    rejected_tokens: Int[Tensor, "*B"],
    *,
    tau: float = 0.1,
) -> Float[Tensor, "*B"]:
    """IPO on log-ratios per token, so that the goal does not depend on the length.

    The form of TRL, which quotes the authors; its optimum is that of ``ipo`` times the length.
    """
    return ipo(
        _per_token(chosen_logprobs, chosen_tokens),
        _per_token(rejected_logprobs, rejected_tokens),
        _per_token(ref_chosen_logprobs, chosen_tokens),
        _per_token(ref_rejected_logprobs, rejected_tokens),
        tau=tau,
    )


def length_normalised_dpo(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    ref_chosen_logprobs: Float[Tensor, "*B"],
    ref_rejected_logprobs: Float[Tensor, "*B"],
    chosen_tokens: Int[Tensor, "*B"],
    rejected_tokens: Int[Tensor, "*B"],
    *,
    beta: float = 5.0,
) -> Float[Tensor, "*B"]:
    """DPO on log-ratios per token; wants a ``beta`` larger by about the response length.

    Lambert et al. 2024 (arXiv:2411.15124), Tulu 3.
    """
    return dpo(
        _per_token(chosen_logprobs, chosen_tokens),
        _per_token(rejected_logprobs, rejected_tokens),
        _per_token(ref_chosen_logprobs, chosen_tokens),
        _per_token(ref_rejected_logprobs, rejected_tokens),
        beta=beta,
    )


def length_regularised_dpo(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    ref_chosen_logprobs: Float[Tensor, "*B"],
    ref_rejected_logprobs: Float[Tensor, "*B"],
    chosen_tokens: Int[Tensor, "*B"],
    rejected_tokens: Int[Tensor, "*B"],
    *,
    beta: float = 0.1,
    length_coef: float = 0.01,
) -> Float[Tensor, "*B"]:
    """DPO whose margin loses ``length_coef`` for every token the chosen response is longer.

    Park et al. 2024 (arXiv:2403.19159), R-DPO.
    """
    chosen, rejected = _implicit_rewards(
        chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs, beta
    )
    return bradley_terry(
        chosen - length_coef * chosen_tokens, rejected - length_coef * rejected_tokens
    )


def kto(
    logprobs: Float[Tensor, "*B"],
    ref_logprobs: Float[Tensor, "*B"],
    is_desirable: Bool[Tensor, "*B"],
    kl_baseline: Float[Tensor, ""],
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, "*B"]:
    """Loss of single responses marked good or bad; between 0 and the weight of the mark.

    ``1 - sigmoid(beta (log-ratio - z0))`` for desirable ones and the mirror image for others,
    where z0 is ``kl_baseline``, shared by the batch and constant. Choose the weights so that
    (desirable count x weight) / (undesirable count x weight) is in [1, 4/3].
    Ethayarajh et al. 2024 (arXiv:2402.01306), equation 7.
    """
    log_ratio = implicit_reward(logprobs, ref_logprobs, beta=1.0)
    gain = beta * (log_ratio - at_least_float32(kl_baseline).detach())
    desirable = desirable_weight * torch.sigmoid(-gain)
    undesirable = undesirable_weight * torch.sigmoid(gain)
    return torch.where(is_desirable, desirable, undesirable)


def kto_baseline(
    mismatched_logprobs: Float[Tensor, "*B"], ref_mismatched_logprobs: Float[Tensor, "*B"]
) -> Float[Tensor, ""]:
    """KTO's z0 in nats: the mean log-ratio of responses paired with other prompts, at least 0.

    Pair them by a cyclic shift within a batch of at least 2; with the matching prompt the
    baseline would cancel the signal. Carries no gradient.
    """
    log_ratios = implicit_reward(mismatched_logprobs, ref_mismatched_logprobs, beta=1.0)
    return log_ratios.mean().relu().detach()


def orpo(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    chosen_tokens: Int[Tensor, "*B"],
    rejected_tokens: Int[Tensor, "*B"],
    *,
    odds_weight: float = 0.1,
) -> Float[Tensor, "*B"]:
    """SFT on the chosen response plus weighted Bradley-Terry on log-odds; no reference.

    Hong et al. 2024 (arXiv:2403.07691), equation 6. The likelihood term is a mean per token of
    each response; the paper's code averages over the tokens of the batch.
    """
    chosen = _per_token(chosen_logprobs, chosen_tokens)
    rejected = _per_token(rejected_logprobs, rejected_tokens)
    return -chosen + odds_weight * bradley_terry(log_odds(chosen), log_odds(rejected))


def log_odds(mean_logprobs: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """``log(p / (1 - p))`` of the geometric mean token probability; infinite at p = 1."""
    mean_logprobs = at_least_float32(mean_logprobs)
    return mean_logprobs - torch.log(-torch.expm1(mean_logprobs))


def simpo(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    chosen_tokens: Int[Tensor, "*B"],
    rejected_tokens: Int[Tensor, "*B"],
    *,
    beta: float = 2.0,
    target_margin: float = 1.0,
) -> Float[Tensor, "*B"]:
    """``-log sigmoid(beta (mean chosen - mean rejected) - target_margin)``; no reference.

    Meng et al. 2024 (arXiv:2405.14734). ``target_margin`` is gamma of the paper, not multiplied
    by ``beta``; the authors' code takes the quotient gamma / beta. Watch the KL yourself.
    """
    chosen = beta * _per_token(chosen_logprobs, chosen_tokens)
    rejected = beta * _per_token(rejected_logprobs, rejected_tokens)
    return bradley_terry(chosen, rejected, margin=target_margin)


def _implicit_rewards(
    chosen_logprobs: Float[Tensor, "*B"],
    rejected_logprobs: Float[Tensor, "*B"],
    ref_chosen_logprobs: Float[Tensor, "*B"],
    ref_rejected_logprobs: Float[Tensor, "*B"],
    beta: float,
) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    return (
        implicit_reward(chosen_logprobs, ref_chosen_logprobs, beta=beta),
        implicit_reward(rejected_logprobs, ref_rejected_logprobs, beta=beta),
    )


def _per_token(logprobs: Float[Tensor, "*B"], num_tokens: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    return at_least_float32(logprobs) / num_tokens
