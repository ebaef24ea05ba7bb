"""How right could a reward model be, when people do not agree with each other?"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heedful.stats.consensus import own_counts
from heedful.stats.intervals import Interval, bootstrap_mean
from heedful.stats.votes import Votes

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanCeiling:
    """People and a model against the same references. Made by ``human_ceiling``.

    ``human`` is the share of answers that agree with the majority of the others, ``model`` that of
    the model's predictions, ``lead`` the model's minus the people's; None without predictions.
    ``num`` counts answers. ``HumanCeiling(human=Interval(value=0.78, ...), model=Interval(
    value=0.71, ...), lead=Interval(value=-0.07, low=-0.11, high=-0.03, num=900))``
    """

    human: Interval
    model: Interval | None
    lead: Interval | None


def human_ceiling(
    votes: Votes,
    predictions: Mapping[str, str] | None = None,
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> HumanCeiling:
    """How often a person agrees with the majority of the others, and a model with the same.

    For every answer of an item the reference is the majority of the *other* people, a tie among
    them counted in parts; ``predictions`` names a label for each item that two people answered.
    Judging a model by the majority of all and people by that of the others would put the model
    against a better reference than the people had. Every person's answer weighs alike and intervals
    resample items. It is a ceiling for a model that answers like one person: one that has learned
    the majority may lie above it. Raises ``ValueError`` when fewer than 2 items have two people or
    a prediction is missing.
    """
    others = votes.counts()[votes.item] - own_counts(votes)
    shared = others.sum(axis=1) > 0
    item, said, others = votes.item[shared], votes.label[shared], others[shared]
    if len(np.unique(item)) < 2:
        raise ValueError(
            f"{len(np.unique(item))} items have answers of two people; a ceiling needs at least 2; "
            "give some items to several people, or show some twice"
        )
    leads = others == others.max(axis=1, keepdims=True)
    share = leads / leads.sum(axis=1, keepdims=True)

    def mean(points: Array) -> Interval:
        return bootstrap_mean(points, rng=rng, clusters=item, confidence=confidence)

    human = share[np.arange(len(said)), said]
    if predictions is None:
        return HumanCeiling(human=mean(human), model=None, lead=None)
    model = _points(votes, predictions, item, share)
    return HumanCeiling(human=mean(human), model=mean(model), lead=mean(model - human))


def accuracy_ceiling(agreement: Interval) -> tuple[Interval, Interval]:
    """Between what two numbers the best possible accuracy on two-way answers lies.

    ``agreement`` is how often two answers to one item are equal: of one person who sees it twice,
    or of two people. If an item's answers are drawn independently with chance q of the commoner
    one, the best model is right with E[q] while answers agree with E[q^2 + (1 - q)^2], so E[q] is
    at least the agreement c, reached when items are either certain or tosses, and at most
    ``(1 + sqrt(2c - 1)) / 2``, reached when all are equally hard (Jensen). Agreement below 1/2
    counts as 1/2. People who remember an answer agree too often, and the range moves up.
    """
    return (
        _mapped(agreement, lambda c: max(c, 0.5)),
        _mapped(agreement, lambda c: (1 + math.sqrt(max(2 * c - 1, 0.0))) / 2),
    )


def _points(
    votes: Votes, predictions: Mapping[str, str], item: NDArray[np.int64], share: Array
) -> Array:
    """How far the prediction for the item of each row is its reference; 0 for a label unheard."""
    missing = [votes.items[i] for i in np.unique(item) if votes.items[i] not in predictions]
    if missing:
        raise ValueError(
            f"{len(missing)} items have no prediction, such as {missing[0]!r}; predict all that "
            "two people answered"
        )
    code = {name: c for c, name in enumerate(votes.categories)}
    codes = np.array([code.get(predictions.get(name, ""), -1) for name in votes.items])[item]
    return np.where(codes >= 0, share[np.arange(len(item)), codes], 0.0)


def _mapped(interval: Interval, rising: Callable[[float], float]) -> Interval:
    return Interval(
        value=rising(interval.value),
        low=rising(interval.low),
        high=rising(interval.high),
        num=interval.num,
    )
