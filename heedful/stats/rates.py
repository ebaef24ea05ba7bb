"""Shares of answers, over all and per annotator, and when a share is surely too low.

A person is flagged on an interval, never on a share alone: few answers give wide intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from heedful.stats.intervals import Interval, wilson
from heedful.stats.multiple import holm
from heedful.stats.votes import Votes, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """A share over all answers and per annotator. Made here, shown on quality pages.

    ``by_annotator`` maps the names, sorted, to intervals. ``Rates(overall=Interval(value=0.9,
    low=0.6, high=0.98, num=10), by_annotator={"ann": Interval(...)})``
    """

    overall: Interval
    by_annotator: dict[str, Interval]


def rates(annotators: Sequence[str], is_success: ArrayLike, *, confidence: float = 0.95) -> Rates:
    """Share of successes with Wilson's interval; fractions such as 0.5 count as such.

    Raises ``ValueError`` for no answers, lists of different lengths or a value outside [0, 1].
    """
    outcomes = np.asarray(is_success, dtype=float)
    if outcomes.shape != (len(annotators),) or len(annotators) == 0:
        raise ValueError(
            f"{outcomes.size} outcomes with {len(annotators)} annotators; give one of each per "
            "answer and at least 1 answer"
        )
    if not ((outcomes >= 0) & (outcomes <= 1)).all():
        raise ValueError("an outcome is NaN or outside [0, 1]; leave missing answers out")
    people, person = encode(annotators)
    successes = np.bincount(person, weights=outcomes)
    totals = np.bincount(person)
    return Rates(
        overall=wilson(float(outcomes.sum()), outcomes.size, confidence=confidence),
        by_annotator={
            name: wilson(float(k), int(n), confidence=confidence)
            for name, k, n in zip(people, successes, totals, strict=True)
        },
    )


def side_bias(
    annotators: Sequence[str], chose_left: ArrayLike, *, confidence: float = 0.95
) -> Rates:
    """Share of left among decided answers; 0.5 is no bias where the server draws the sides.

    ``chose_left`` is true or false for each answer that chose a side: leave ties out. The interval
    speaks of these annotators, not of others. Errors as ``rates``. To name annotators use
    ``side_bias_p_values``, which allows for looking at many.
    """
    return rates(annotators, chose_left, confidence=confidence)


def side_bias_p_values(shares: Rates) -> dict[str, float]:
    """Two-sided exact p-value of each annotator's side bias, by Holm over all annotators."""
    raw = [
        binomtest(round(share.value * share.num), share.num).pvalue
        for share in shares.by_annotator.values()
    ]
    adjusted = holm(raw)
    return {name: float(p) for name, p in zip(shares.by_annotator, adjusted, strict=True)}


def gold_accuracy(
    annotators: Sequence[str], is_right: ArrayLike, *, confidence: float = 0.95
) -> Rates:
    """Share of gold items answered as the key says. Errors as ``rates``."""
    return rates(annotators, is_right, confidence=confidence)


def self_consistency(votes: Votes, *, confidence: float = 0.95) -> Rates:
    """How often annotators repeat their answer when an item comes back with its sides swapped.

    Labels name what was chosen, not the side: who always clicks left is then never consistent,
    who guesses half the time. An item that one person answered n times counts once, with the
    share of its pairs of answers that are equal; ``num`` counts such items. Raises ``ValueError``
    when nobody answered an item twice.
    """
    visit, index = np.unique(
        votes.item * len(votes.annotators) + votes.annotator, return_inverse=True
    )
    said = np.zeros((len(visit), len(votes.categories)))
    np.add.at(said, (index, votes.label), 1.0)
    times = said.sum(axis=1)
    is_repeat = times >= 2
    if not is_repeat.any():
        raise ValueError("nobody answered an item twice; repeat 3 to 5 % of items")
    said, times = said[is_repeat], times[is_repeat]
    equal = (said * (said - 1)).sum(axis=1) / (times * (times - 1))
    people = visit[is_repeat] % len(votes.annotators)
    return rates([votes.annotators[person] for person in people], equal, confidence=confidence)


def is_surely_below(share: Interval, floor: float, *, min_num: int = 20) -> bool:
    """Whether to flag: at least ``min_num`` observations, and the whole interval below ``floor``.

    A NaN bound flags nobody. Looking after every answer instead of once flags more often than the
    interval's confidence says; ``min_num`` keeps that small.
    """
    return share.num >= min_num and share.high < floor
