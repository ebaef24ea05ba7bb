"""How much higher than others each annotator rates, learned beside the scores.

An offset is added to the score of a rating, which shifts all thresholds of its annotator alike;
offsets are links of the head, by criterion. What they are of is known by numbers alone.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from heedful.config import RewardLoss
from heedful.errors import ConfigError
from heedful.maths import judgements
from heedful.stats.intervals import Interval, normal_quantile
from heedful.tensors import Marks

SPREAD = 1.0  # of offsets around 0, log-odds: two in three people multiply odds by 0.37 to 2.7
OFFSETS = "/offsets"  # how the names of their links end
LARGEST_STEP = 2.0
MAX_STEPS = 200
Links = Mapping[str, Tensor]


def check_loss(loss: RewardLoss) -> None:
    """Refuse offsets where no thresholds are learned."""
    if loss.rater_offsets and loss.ratings != "ordinal":
        raise ConfigError(
            f"loss.rater_offsets is on and loss.ratings is {loss.ratings!r}; offsets shift the "
            "thresholds of loss.ratings=ordinal: choose that, or leave them off"
        )


def name_of(criterion: str) -> str:
    """The link that holds the offsets of a criterion."""
    return f"rating/{criterion}{OFFSETS}"


def shifted(scores: Tensor, marks: Marks, criterion: str, links: Links) -> Tensor:
    """Scores of ratings with the offset of whoever gave each."""
    if marks.judges is None:
        return scores
    return scores + links[name_of(criterion)][marks.judges.skills]


def prior(marks: Marks, criterion: str, links: Links) -> Tensor:
    """The share that each rating has of the prior of its annotator's offset."""
    assert marks.judges is not None
    of_each = judgements.offset_prior(links[name_of(criterion)], spread=SPREAD)
    return of_each[marks.judges.skills] * marks.judges.shares


def fitted_offsets(
    losses_at: Callable[[Tensor], Tensor],
    who: Tensor,
    weights: Tensor,
    *,
    num_annotators: int,
    confidence: float = 0.95,
) -> list[Interval]:
    """The most probable offset of each annotator where all else stands, by their numbers.

    ``losses_at`` gives the loss of every rating with an offset of its own, shape [G], and ``who``
    whose rating it is. Newton's method on the likelihood and the prior, which is convex (the
    logistic density is log-concave), in float64; normal intervals by its curvature take scores and
    thresholds as known. ``num`` counts ratings. Raises ``ArithmeticError`` when it does not end.
    """
    offsets = torch.zeros(num_annotators, dtype=torch.float64)
    zero = torch.zeros_like(offsets)
    for _ in range(MAX_STEPS):
        own = offsets[who].requires_grad_(True)
        losses = (losses_at(own) * weights).sum()
        (slope,) = torch.autograd.grad(losses, own, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), own)
        gradient = zero.index_add(0, who, slope.detach()) + offsets / SPREAD**2
        curvature = zero.index_add(0, who, bend) + SPREAD**-2
        step = (gradient / curvature).clamp(-LARGEST_STEP, LARGEST_STEP)
        offsets = offsets - step
        if step.abs().max() < 1e-9:
            break
    else:
        raise ArithmeticError(f"offsets still move by {float(step.abs().max()):.3g} log-odds")
    reach = normal_quantile(confidence) * curvature.rsqrt()
    num = torch.bincount(who, minlength=num_annotators)
    return [
        Interval(value=float(one), low=float(one - far), high=float(one + far), num=int(count))
        for one, far, count in zip(offsets, reach, num, strict=True)
    ]
