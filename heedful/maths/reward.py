"""Likelihoods of comparisons, as losses of reward scores. Any batch shape, in nats per item.

Scores live on the log-odds scale: a difference of 1 means odds of e to 1. Only differences are
identified, so every function is blind to a constant added to all scores, except
``centring_penalty``, which is there to fix that constant.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, softplus

from .masked import masked_sum, zero_padding
from .precision import at_least_float32


def bradley_terry(
    chosen_scores: Float[Tensor, "*B"],
    rejected_scores: Float[Tensor, "*B"],
    *,
    margin: float | Float[Tensor, "*B"] = 0.0,
    label_smoothing: float = 0.0,
) -> Float[Tensor, "*B"]:
    """``-log sigmoid(chosen - rejected - margin)``, mixed with the loss of the swapped pair.

    ``margin`` (at least 0, one for all or one per pair) is the lead that costs log 2, for
    comparisons with a stated strength: Touvron et al. 2023 (arXiv:2307.09288), equation 2.
    ``label_smoothing`` weighs the swapped pair, margin included; its optimum is a difference of
    ``log((1 - eps) / eps)`` at margin 0. Raises ``ValueError`` unless it is in [0, 0.5).
    Bradley and Terry 1952; as a loss Stiennon et al. 2020 (arXiv:2009.01325), section 3.4.
    """
    _refuse_rate("label_smoothing", label_smoothing)
    stated = _pair_loss(chosen_scores, rejected_scores, margin)
    if label_smoothing == 0:
        return stated
    swapped = _pair_loss(rejected_scores, chosen_scores, margin)
    return (1 - label_smoothing) * stated + label_smoothing * swapped


def unbiased_bradley_terry(
    chosen_scores: Float[Tensor, "*B"],
    rejected_scores: Float[Tensor, "*B"],
    *,
    flip_rate: float = 0.1,
) -> Float[Tensor, "*B"]:
    """A loss whose mean over labels flipped at ``flip_rate`` is the loss of the clean labels.

    Unbounded below, so it needs early stopping. Raises ``ValueError`` unless ``flip_rate`` is in
    [0, 0.5). Natarajan et al. 2013, lemma 1; for preferences Chowdhury et al. 2024
    (arXiv:2403.00409).
    """
    _refuse_rate("flip_rate", flip_rate)
    stated = _pair_loss(chosen_scores, rejected_scores, 0.0)
    swapped = _pair_loss(rejected_scores, chosen_scores, 0.0)
    return ((1 - flip_rate) * stated - flip_rate * swapped) / (1 - 2 * flip_rate)


def constant_error_bradley_terry(
    chosen_scores: Float[Tensor, "*B"],
    rejected_scores: Float[Tensor, "*B"],
    *,
    constant_error: float = 0.1,
) -> Float[Tensor, "*B"]:
    """``-log((1 - d) sigmoid(chosen - rejected) + d / 2)``: a share d of answers are coin tosses.

    At most ``log(2 / d)`` a pair, so no single label can dominate. Labels flipped at rate e are
    the case d = 2e. Raises ``ValueError`` unless ``constant_error`` is in (0, 1).
    Christiano et al. 2017 (arXiv:1706.03741), section 2.2.3.
    """
    if not 0 < constant_error < 1:
        raise ValueError(
            f"constant_error is {constant_error}; it must be above 0 and below 1; "
            "use bradley_terry for annotators without error"
        )
    delta = at_least_float32(chosen_scores) - at_least_float32(rejected_scores)
    judged = math.log1p(-constant_error) + logsigmoid(delta)
    return -torch.logaddexp(judged, torch.full_like(judged, math.log(constant_error / 2)))


def annotator_accuracy(skill: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """``(1 + sigmoid(skill)) / 2``: the chance, from 1/2 to 1, that an annotator reports the truth.

    ``skill`` is a free number, so that an optimiser cannot leave the range; one per annotator.
    """
    return (1 + torch.sigmoid(at_least_float32(skill))) / 2


def crowd_bradley_terry(
    chosen_scores: Float[Tensor, "*B"],
    rejected_scores: Float[Tensor, "*B"],
    *,
    skill: Float[Tensor, "*B"],
    margin: float | Float[Tensor, "*B"] = 0.0,
) -> Float[Tensor, "*B"]:
    """``-log(a sigmoid(x - margin) + (1 - a) sigmoid(-x - margin))``, x = chosen - rejected.

    ``a = annotator_accuracy(skill)`` of who gave the label, to be learned with the scores: pass
    ``skills[annotator]``. Skill moves only where the scores are sure, so many pairs with a small
    lead do not teach it. Chen et al. 2013, Crowd-BT, but with a of at least 1/2: without a bound
    scores and accuracies are known up to a common sign only. An a of ``1 - d / 2`` is
    ``constant_error_bradley_terry``. ``margin`` is that of ``bradley_terry`` and is asked for on
    the side that is true, so that a lead short of it does not speak against the annotator.
    """
    stated = -_pair_loss(chosen_scores, rejected_scores, margin)
    swapped = -_pair_loss(rejected_scores, chosen_scores, margin)
    skill = at_least_float32(skill)
    # The mixture is s p + (1 - s) (p + q) / 2 with s = sigmoid(skill), which is safe at a = 1.
    guessed = logsigmoid(-skill) - math.log(2) + torch.logaddexp(stated, swapped)
    return -torch.logaddexp(logsigmoid(skill) + stated, guessed)


def label_evidence(
    lead: Float[Tensor, "*B"], margin: float | Float[Tensor, "*B"] = 0.0
) -> Float[Tensor, "*B"]:
    """``log(sigmoid(lead - margin) / sigmoid(-lead - margin))``: log-odds of a label being true.

    All that ``crowd_bradley_terry`` knows of a skill: with it in place of the lead and no margin,
    the loss differs by what no skill changes. Without a margin it is the lead.
    """
    lead = at_least_float32(lead)
    return softplus(lead + margin) - softplus(margin - lead)


def skill_prior(
    skill: Float[Tensor, "A"],
    mean: float | Float[Tensor, ""],
    *,
    spread: float,
    typical: float,
    typical_spread: float,
) -> Float[Tensor, "A"]:
    """Minus the log prior of the skills of A annotators around a ``mean`` that is learned too.

    Up to a constant, ``(skill - mean)^2 / (2 spread^2)``, and to each its A-th part of
    ``(mean - typical)^2 / (2 typical_spread^2)``. Who gave few labels stays near the mean, and the
    mean near ``typical``, since the scale of scores and a lack of accuracy look alike where leads
    are small.
    """
    skill = at_least_float32(skill)
    apart = (skill - mean).square() / (2 * spread**2)
    away = torch.as_tensor(mean - typical, dtype=skill.dtype).square() / (2 * typical_spread**2)
    return apart + away / len(skill)


def centring_penalty(
    chosen_scores: Float[Tensor, "*B"], rejected_scores: Float[Tensor, "*B"]
) -> Float[Tensor, "*B"]:
    """``(chosen + rejected)^2``, to be added to the loss with a small weight such as 0.01.

    It fixes the constant that comparisons leave open, so that scores of different prompts and of
    ensemble members can be compared. Eisenstein et al. 2023 (arXiv:2312.09244).
    """
    return (at_least_float32(chosen_scores) + at_least_float32(rejected_scores)).square()


def rao_kupper(
    first_scores: Float[Tensor, "*B"],
    second_scores: Float[Tensor, "*B"],
    *,
    threshold: float | Float[Tensor, ""],
) -> Float[Tensor, "*B 3"]:
    """Log-probabilities of (first wins, second wins, tie) when leads below ``threshold`` blur.

    ``threshold`` (eta = log theta, at least 0, may be learned) is on the scale of the scores; 0 is
    Bradley-Terry. Raises ``ValueError`` when it is negative. Rao and Kupper 1967; the tie is
    written as ``P(first) P(second) (theta^2 - 1)``, which loses no digits.
    """
    if threshold < 0:
        raise ValueError(
            f"threshold is {float(threshold)}; it must be at least 0, or ties get a negative "
            "probability; learn it as softplus of a free parameter"
        )
    delta = at_least_float32(first_scores) - at_least_float32(second_scores)
    threshold = torch.as_tensor(threshold, dtype=delta.dtype, device=delta.device)
    first, second = logsigmoid(delta - threshold), logsigmoid(-delta - threshold)
    tie = first + second + torch.log(torch.expm1(2 * threshold))
    return torch.stack([first, second, tie], dim=-1)


def davidson(
    first_scores: Float[Tensor, "*B"],
    second_scores: Float[Tensor, "*B"],
    *,
    log_tie_strength: float | Float[Tensor, ""],
) -> Float[Tensor, "*B 3"]:
    """Log-probabilities of (first wins, second wins, tie); ties have the geometric mean strength.

    The tie's strength is ``nu sqrt(p_first p_second)``; ``log_tie_strength`` is log nu and may be
    learned; minus infinity is Bradley-Terry. Davidson 1970.
    """
    first, second = at_least_float32(first_scores), at_least_float32(second_scores)
    tie = (first + second) / 2 + log_tie_strength
    return torch.log_softmax(torch.stack([first, second, tie], dim=-1), dim=-1)


def plackett_luce(
    scores: Float[Tensor, "B K"],
    mask: Bool[Tensor, "B K"],
    *,
    num_ranked: int | Int[Tensor, "B"] | None = None,
) -> Float[Tensor, "B"]:
    """Negative log-likelihood of a ranking whose candidates stand in order, best first.

    ``mask`` marks the candidates of each row. With ``num_ranked``, one for all or one per row, only
    the first places are known and the rest is unordered; 1 is the choice of the best. Two
    candidates give Bradley-Terry. Luce 1959, Plackett 1975.
    """
    scores = zero_padding(at_least_float32(scores), mask)
    not_before = torch.ones(scores.shape[1:] * 2, dtype=torch.bool, device=scores.device).triu()
    unplaced = not_before & mask[:, None, :]
    normaliser = scores[:, None, :].masked_fill(~unplaced, -torch.inf).logsumexp(dim=-1)
    terms = normaliser - scores
    if num_ranked is None:
        return masked_sum(terms, mask, dim=1)
    known = torch.as_tensor(num_ranked, device=scores.device).reshape(-1, 1)
    places = torch.arange(scores.size(1), device=scores.device)
    return masked_sum(terms, mask & (places < known), dim=1)


def ranked_pairs(scores: Float[Tensor, "B K"]) -> Float[Tensor, "B"]:
    """Mean Bradley-Terry loss over the K(K-1)/2 pairs of a ranking, best first.

    One number per prompt, so that a long ranking does not outweigh a short one. Raises
    ``ValueError`` for fewer than 2 candidates. Ouyang et al. 2022 (arXiv:2203.02155), equation 1.
    """
    num_candidates = scores.size(1)
    if num_candidates < 2:
        raise ValueError(
            f"a ranking has {num_candidates} candidates; it needs at least 2; drop it first"
        )
    better, worse = torch.triu_indices(num_candidates, num_candidates, 1, device=scores.device)
    return bradley_terry(scores[:, better], scores[:, worse]).mean(dim=1)


def best_of_k(scores: Float[Tensor, "B K"], best: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """Negative log-probability that candidate ``best`` is picked among K.

    Ziegler et al. 2019 (arXiv:1909.08593), equation 1; the first term of Plackett-Luce.
    """
    return cross_entropy(at_least_float32(scores), best, reduction="none")


def _pair_loss(
    chosen_scores: Float[Tensor, "*B"],
    rejected_scores: Float[Tensor, "*B"],
    margin: float | Float[Tensor, "*B"],
) -> Float[Tensor, "*B"]:
    return softplus(at_least_float32(rejected_scores) - at_least_float32(chosen_scores) + margin)


def _refuse_rate(name: str, rate: float) -> None:
    if not 0 <= rate < 0.5:
        raise ValueError(
            f"{name} is {rate}; it must be at least 0 and below 0.5, where labels carry no "
            "information; measure it on comparisons that were shown twice"
        )
