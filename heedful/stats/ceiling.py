"""How right could a reward model be, when people do not agree with each other?"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.stats.concordance import spearman_rho
from heedful.stats.consensus import own_counts
from heedful.stats.intervals import Interval, bootstrap, bootstrap_mean
from heedful.stats.votes import Votes

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanCeiling:
    """People and a model against the same references. Made by ``human_ceiling``.

    ``human`` is the share of answers that agree with the majority of the others, ``model`` that of
    the model's predictions, ``lead`` the model's minus the people's; None without predictions.
    Of ratings (``rating_ceiling``) they are rank correlations with the mean of the others.
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


def rating_ceiling(
    items: Sequence[object],
    annotators: Sequence[str],
    values: ArrayLike,
    scores: ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: Sequence[object] | None = None,
    num_resamples: int = 500,
) -> HumanCeiling:
    """Rank correlation of a person with the mean of the others, and of scores with the same.

    One entry a rating or thumb: ``values[n]`` is what ``annotators[n]`` gave ``items[n]``, whose
    score is ``scores[n]``. The reference of a rating is the mean of what the *other* people gave
    the item; ratings that nobody else's stand beside do not count. Both are Spearman's, so neither
    needs the units of a rating. People differ in how high they rate, which lowers their own
    correlation and not the model's. Intervals resample ``clusters``, such as prompts, items by
    default. Raises ``ValueError`` when fewer than 2 items have two people.
    """
    given, score = np.asarray(values, dtype=float), np.asarray(scores, dtype=float)
    by_item: dict[object, list[int]] = {}
    for place, item in enumerate(items):
        by_item.setdefault(item, []).append(place)
    others = np.full(len(given), np.nan)
    for rows in by_item.values():
        for row in rows:
            told = [given[one] for one in rows if annotators[one] != annotators[row]]
            if told:
                others[row] = np.mean(told)
    kept = np.flatnonzero(~np.isnan(others)).tolist()
    num_shared = len({items[row] for row in kept})
    if num_shared < 2:
        raise ValueError(
            f"{num_shared} items have ratings of two people; a ceiling needs at least 2; give some "
            "items to several people"
        )
    own, reference, guess = given[kept], others[kept], score[kept]
    groups = [(items if clusters is None else clusters)[row] for row in kept]
    _, cluster = np.unique([str(one) for one in groups], return_inverse=True)

    def people(rows: NDArray[np.int64]) -> float:
        return spearman_rho(own[rows], reference[rows])

    def model(rows: NDArray[np.int64]) -> float:
        return spearman_rho(guess[rows], reference[rows])

    def interval(statistic: Callable[[NDArray[np.int64]], float]) -> Interval:
        return bootstrap(
            statistic, len(own), rng=rng, clusters=cluster, num_resamples=num_resamples
        )

    return HumanCeiling(
        human=interval(people),
        model=interval(model),
        lead=interval(lambda rows: model(rows) - people(rows)),
    )


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
