"""Likelihoods of what is said about one answer alone: ratings, thumbs, flags, steps.

As in ``reward``, scores are log-odds and losses come back per element. Here a constant added to
all scores does change the loss: thresholds are what it is measured against.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, pad, softplus

from .masked import masked_sum, zero_padding
from .precision import at_least_float32

Aggregation = Literal["product", "min", "mean"]


def rating_regression(
    scores: Float[Tensor, "*B"],
    ratings: Float[Tensor, "*B"],
    *,
    offsets: float | Float[Tensor, ""] | Float[Tensor, "*B"] = 0.0,
) -> Float[Tensor, "*B"]:
    """``(score + offset - rating)^2``: the score in units of the rating, all steps alike.

    ``offsets`` say how far above others the annotator rates, as ``heedful.stats.raters`` estimates
    them. Wang et al. 2024 (arXiv:2406.08673), without the offsets.
    """
    return (at_least_float32(scores) + offsets - at_least_float32(ratings)).square()


def ordered_thresholds(gaps: Float[Tensor, "*F G"]) -> Float[Tensor, "*F L"]:
    """Ascending thresholds with mean 0, one more than ``gaps``, which are free numbers.

    The distance between neighbours is ``softplus(gap)``, so an optimiser cannot disorder them. The
    mean is fixed because a constant could pass between scores and thresholds; the scores keep it.
    No gaps give the one threshold 0.
    """
    thresholds = pad(softplus(at_least_float32(gaps)).cumsum(-1), (1, 0))
    return thresholds - thresholds.mean(-1, keepdim=True)


def cumulative_link(
    scores: Float[Tensor, "*B"], thresholds: Float[Tensor, "*#B L"]
) -> Float[Tensor, "*B K"]:
    """Log-probabilities of the K = L + 1 ordered classes: ``P(class <= k) = sigmoid(t_k - score)``.

    Proportional odds: one score, and distances between classes that are learned instead of equal.
    ``thresholds`` ascend, shared or one row per score, as ``ordered_thresholds`` gives them. For an
    annotator who rates higher than others subtract nothing here; add the offset to the score. Two
    classes are logistic regression. Raises ``ValueError`` when thresholds do not ascend. McCullagh
    1980; the class is ``sigmoid(b) sigmoid(-a) (1 - exp(a - b))``, which loses no digits.
    """
    thresholds = at_least_float32(thresholds)
    widths = thresholds.diff(dim=-1)
    if not (widths > 0).all():
        raise ValueError(
            f"a threshold is {-float(widths.min()):.4g} above the next one; they must ascend, or a "
            "class gets a negative probability; take them from ordered_thresholds"
        )
    lead = thresholds - at_least_float32(scores)[..., None]
    below, above = logsigmoid(lead), logsigmoid(-lead)
    between = below[..., 1:] + above[..., :-1] + torch.log(-torch.expm1(-widths))
    return torch.cat([below[..., :1], between, above[..., -1:]], dim=-1)


def ordinal(
    scores: Float[Tensor, "*B"], classes: Int[Tensor, "*B"], thresholds: Float[Tensor, "*#B L"]
) -> Float[Tensor, "*B"]:
    """Negative log-probability of ``classes``, 0 the lowest, under ``cumulative_link``.

    Raises ``ValueError`` for a class outside 0 to L; a rating of 1 to 5 is its class plus 1.
    """
    logprobs = cumulative_link(scores, thresholds)
    highest = logprobs.size(-1) - 1
    if classes.numel() and not 0 <= int(classes.min()) <= int(classes.max()) <= highest:
        raise ValueError(
            f"classes are {int(classes.min())} to {int(classes.max())}; with {highest} thresholds "
            f"they go from 0 to {highest}; subtract the lowest rating of the scale"
        )
    return -logprobs.gather(-1, classes[..., None]).squeeze(-1)


def offset_prior(offsets: Float[Tensor, "A"], *, spread: float) -> Float[Tensor, "A"]:
    """``offset^2 / (2 spread^2)``: minus the log of a normal density around 0, up to a constant.

    Of how far above others each of A annotators rates: who rated little stays near 0, and the mean
    offset, which the thresholds could take as well, is drawn to 0. Raises ``ValueError`` unless
    ``spread`` is above 0.
    """
    if not spread > 0:
        raise ValueError(f"spread is {spread}; it must be above 0; inf leaves offsets free")
    return at_least_float32(offsets).square() / (2 * spread**2)


def expected_class(logprobs: Float[Tensor, "*B K"]) -> Float[Tensor, "*B"]:
    """Mean of the classes 0 to K - 1 under ``cumulative_link``; ascends with the score."""
    classes = torch.arange(logprobs.size(-1), dtype=logprobs.dtype, device=logprobs.device)
    return logprobs.exp() @ classes


def thumbs(
    scores: Float[Tensor, "*B"],
    is_good: Bool[Tensor, "*B"],
    *,
    threshold: float | Float[Tensor, ""] = 0.0,
) -> Float[Tensor, "*B"]:
    """``-log sigmoid(score - threshold)`` of good answers and of the opposite for bad ones.

    ``threshold`` is the score at which people are in two minds, and may be learned. "Both bad" on
    a pair is two thumbs down, which is no tie. The gradient is that of logistic regression.
    """
    lead = at_least_float32(scores) - threshold
    return softplus(torch.where(is_good, -lead, lead))


def positive_weights(
    flags: Float[Tensor, "B F"], observed: Bool[Tensor, "B F"], *, largest: float = 20.0
) -> Float[Tensor, "F"]:
    """How many answers without a flag come to one with it, at most ``largest``; one per flag.

    With these weights a rare flag has as much say in the loss as its absence; probabilities are
    then too high and need calibrating. Raises ``ValueError`` for a flag that nobody raised or that
    everybody did.
    """
    raised = masked_sum(flags, observed, dim=0)
    absent = masked_sum(1 - flags, observed, dim=0)
    for name, count in (("with", raised), ("without", absent)):
        if (count == 0).any():
            which = int((count == 0).nonzero()[0])
            raise ValueError(
                f"flag {which} has 0 observed answers {name} it; it needs at least 1 of each to be "
                "learned; leave the flag out"
            )
    return (absent / raised).clamp(max=largest)


def flag_losses(
    logits: Float[Tensor, "B F"],
    flags: Float[Tensor, "B F"],
    observed: Bool[Tensor, "B F"],
    *,
    positive_weights: Float[Tensor, "*#B F"] | None = None,
) -> Float[Tensor, "B F"]:
    """Binary cross-entropy of every flag by a head of its own; 0, gradient too, where unobserved.

    ``flags`` are 0, 1 or a share of annotators between. What nobody was asked is not a 0.
    ``positive_weights`` multiply the loss of raised flags: per flag against rarity, or per answer
    and flag so that missing what is severe costs more. How severe a flag is has an order, so a head
    for it is ``ordinal``.
    """
    # NaN under the mask would survive a product with it.
    targets = zero_padding(at_least_float32(flags), observed)
    losses = binary_cross_entropy_with_logits(
        zero_padding(at_least_float32(logits), observed),
        targets,
        pos_weight=positive_weights,
        reduction="none",
    )
    return zero_padding(losses, observed)


def labelled_steps(labels: Int[Tensor, "B S"], mask: Bool[Tensor, "B S"]) -> Bool[Tensor, "B S"]:
    """Steps whose label means something: those up to and with the first -1, within ``mask``.

    After an error it is undefined whether a step is right. Lightman et al. 2023
    (arXiv:2305.20050).
    """
    is_bad = mask & (labels == -1)
    return mask & (is_bad.cumsum(1) - is_bad.long() == 0)


def step_losses(
    logits: Float[Tensor, "B S"], labels: Int[Tensor, "B S"], mask: Bool[Tensor, "B S"]
) -> Float[Tensor, "B S"]:
    """Cross-entropy of each step being right, read at its last token; 0 outside ``mask``.

    ``labels`` are 1 good, 0 neutral, -1 bad; neutral counts as right. For a mask of labels that
    go on after an error see ``labelled_steps``. Lightman et al. 2023 (arXiv:2305.20050).
    """
    return zero_padding(thumbs(zero_padding(logits, mask), labels >= 0), mask)


def step_score(
    logits: Float[Tensor, "B S"], mask: Bool[Tensor, "B S"], *, aggregation: Aggregation
) -> Float[Tensor, "B"]:
    """Log of the answer's score from its steps' probabilities of being right.

    ``product`` is the chance that all are right if they are independent, and falls with every
    step; ``min`` is the weakest step's; ``mean`` forgives one bad step among many. Raises
    ``ValueError`` for an answer without steps. Lightman et al. 2023 (arXiv:2305.20050), for the
    first two.
    """
    if not mask.any(dim=1).all():
        row = int((~mask.any(dim=1)).nonzero()[0])
        raise ValueError(f"answer {row} has 0 steps; a score needs at least 1; split it into steps")
    right = logsigmoid(zero_padding(at_least_float32(logits), mask))
    if aggregation == "product":
        return masked_sum(right, mask, dim=1)
    if aggregation == "min":
        return right.masked_fill(~mask, torch.inf).amin(dim=1)
    return right.masked_fill(~mask, -torch.inf).logsumexp(dim=1) - mask.sum(dim=1).log()
