"""How reliable each annotator is, learned beside the scores: links, loss and what is known after.

An annotator reports the truth with a chance between 1/2 and 1 (``maths.reward``); the skills behind
the chances are links of the head, a mean and how far each person lies from it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from heedful.config import RewardLoss
from heedful.errors import ConfigError
from heedful.maths import reward
from heedful.stats.intervals import Interval, normal_quantile
from heedful.tensors import Batch

SKILLS = MEAN, APART = "annotators/mean", "annotators/apart"
TYPICAL, TYPICAL_SPREAD = 2.0, 1.0  # prior of the mean: accuracies of 0.94 (0.87 to 0.98)
SPREAD = 1.5  # of skills around it
PRIOR = {"spread": SPREAD, "typical": TYPICAL, "typical_spread": TYPICAL_SPREAD}
Links = Mapping[str, Tensor]


def check_loss(loss: RewardLoss) -> None:
    """Refuse other likelihoods of pairs beside the one that has the annotators in it."""
    if loss.annotators == "none":
        return
    for key, value, only in (
        ("pairs", loss.pairs, "bradley_terry"),
        ("ties", loss.ties, "drop"),
        ("params", loss.params, {}),
    ):
        if value != only:
            raise ConfigError(
                f"loss.annotators is 'reliability' and loss.{key} is {value!r}; the reliability of "
                "annotators has its own likelihood of pairs: drop one of the two"
            )


def new_skills(num: int) -> dict[str, Tensor]:
    """The links of so many annotators, all of the typical skill."""
    return {MEAN: torch.tensor(TYPICAL), APART: torch.zeros(num)}


def skills(links: Links) -> Tensor:
    """The skill of every annotator."""
    return links[MEAN] + links[APART]


def pair_losses(chosen: Tensor, rejected: Tensor, batch: Batch, links: Links) -> Tensor:
    """The loss of each pair given who judged it.

    A stated strength is a lead to reach, as in ``bradley_terry``.
    """
    assert batch.judges is not None
    return reward.crowd_bradley_terry(
        chosen,
        rejected,
        skill=skills(links)[batch.judges.skills],
        margin=0.0 if batch.margins is None else batch.margins,
    )


def prior(batch: Batch, links: Links) -> Tensor:
    """The share that each pair has of the prior of its annotator's skill, whatever its weight."""
    assert batch.judges is not None
    of_each = reward.skill_prior(skills(links), links[MEAN], **PRIOR)
    return of_each[batch.judges.skills] * batch.judges.shares


def reliabilities(
    leads: Tensor,
    who: Tensor,
    weights: Tensor,
    *,
    num_annotators: int,
    probabilities: Tensor | None = None,
    confidence: float = 0.95,
) -> tuple[list[Interval], Interval]:
    """The accuracy of each annotator given the leads of what they chose, and that of their mean.

    Leads are ``maths.reward.label_evidence`` where strengths were stated.
    The most probable skills under the likelihood and the prior of ``pair_losses``, in float64, with
    normal intervals on the scale of skills, by the information that the labels are expected to
    have. Intervals take the leads as known; a lead that was learned from the label itself makes
    its author look better. ``probabilities`` are those of soft labels. ``num`` counts labels of any
    weight.
    """
    leads, weights = leads.detach().double(), weights.detach().double()
    links = {name: value.double() for name, value in new_skills(num_annotators).items()}
    for value in links.values():
        value.requires_grad_(True)
    search = torch.optim.LBFGS(
        links.values(),
        max_iter=500,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )
    zero = torch.zeros_like(leads)
    sure = torch.ones_like(leads) if probabilities is None else probabilities.double()

    def closure() -> Tensor:
        search.zero_grad()
        found = skills(links)
        losses = sure * reward.crowd_bradley_terry(leads, zero, skill=found[who])
        if probabilities is not None:
            other = reward.crowd_bradley_terry(zero, leads, skill=found[who])
            losses = losses + (1 - sure) * other
        of_each = reward.skill_prior(found, links[MEAN], **PRIOR)
        value: Tensor = (losses * weights).sum() + of_each.sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found = skills(links)
        variance, of_mean = variances(found[who], leads, who, weights, num=num_annotators)
        num = torch.bincount(who, minlength=num_annotators)
        reach = normal_quantile(confidence)
        each = [
            as_accuracy(float(skill), reach * float(spread) ** 0.5, int(count))
            for skill, spread, count in zip(found, variance, num, strict=True)
        ]
        mean = as_accuracy(float(links[MEAN]), reach * float(of_mean) ** 0.5, len(leads))
    return each, mean


def variances(
    skill: Tensor, leads: Tensor, who: Tensor, weights: Tensor, *, num: int
) -> tuple[Tensor, Tensor]:
    """Variance of each skill and of their mean, by the inverse of the expected information.

    With p the chance of a label, ``dp / dskill = s (1 - s) (sigmoid(lead) - 1/2)`` where s is
    ``sigmoid(skill)``, and its information ``(dp / dskill)^2 / (p (1 - p))``. The matrix is an
    arrow: skills hang together by their mean alone.
    """
    share = torch.sigmoid(skill)
    lean = torch.sigmoid(leads) - 0.5
    chance = share * lean + 0.5
    information = (share * (1 - share) * lean).square() / (chance * (1 - chance))
    own = torch.zeros(num, dtype=leads.dtype, device=leads.device)
    own = own.index_add(0, who, information * weights) + SPREAD**-2
    pull = SPREAD**-2
    of_mean = 1 / (num * pull + TYPICAL_SPREAD**-2 - (pull**2 / own).sum())
    return 1 / own + (pull / own).square() * of_mean, of_mean


def as_accuracy(skill: float, reach: float, num: int) -> Interval:
    """A skill and the reach of its interval on the scale of accuracies."""
    ends = torch.tensor([skill, skill - reach, skill + reach], dtype=torch.float64)
    value, low, high = reward.annotator_accuracy(ends).tolist()
    return Interval(value=value, low=low, high=high, num=num)
