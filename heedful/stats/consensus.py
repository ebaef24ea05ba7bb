"""What the annotators of an item say together, and how right each of them is.

``majority`` counts every vote alike; ``dawid_skene`` weighs votes by skill that it learns from
them. Both return a ``Consensus``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heedful.stats.intervals import Interval, wilson
from heedful.stats.votes import Votes

Array = NDArray[np.float64]
UNKNOWN = Interval(value=float("nan"), low=float("nan"), high=float("nan"), num=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    """Labels agreed on and the skill behind them. Made by aggregators, shown on quality pages.

    ``probabilities[i, c]`` that item i is c; ``labels[i]`` the likeliest, None for a tie;
    ``skill[a]`` the chance that annotator a's label is right; ``confusion[a, k, c]`` that a says c
    where k is right (rows sum to 1, NaN without data). One item, two annotators who say "x":
    ``labels == ("x",)`` and ``probabilities == [[1.0, 0.0]]`` by majority.
    """

    items: tuple[str, ...]
    annotators: tuple[str, ...]
    categories: tuple[str, ...]
    labels: tuple[str | None, ...]
    probabilities: Array
    skill: tuple[Interval, ...]
    confusion: Array


def majority(votes: Votes, *, confidence: float = 0.95) -> Consensus:
    """The most frequent label of each item, ties shown as None; probabilities are vote shares.

    Skill is agreement with the majority of the *others* on the item, a tie among them counted in
    parts, with Wilson's interval: to compare a vote with a majority that it helped to make would
    flatter it. ``num`` counts votes that have others beside them; it is 0 and the skill NaN for
    who shares no item.
    """
    counts = votes.counts()
    others = counts[votes.item] - own_counts(votes)
    has_others = others.sum(axis=1) > 0
    leads = others == others.max(axis=1, keepdims=True)
    leads = leads / leads.sum(axis=1, keepdims=True)
    num_people, num_categories = len(votes.annotators), len(votes.categories)
    confusion = np.zeros((num_people, num_categories, num_categories))
    person, said = votes.annotator[has_others], votes.label[has_others]
    for truth in range(num_categories):
        np.add.at(confusion[:, truth], (person, said), leads[has_others, truth])
    return Consensus(
        items=votes.items,
        annotators=votes.annotators,
        categories=votes.categories,
        labels=likeliest(counts, votes.categories),
        probabilities=counts / counts.sum(axis=1, keepdims=True),
        skill=tuple(_share_right(table, confidence) for table in confusion),
        confusion=_rows_to_one(confusion),
    )


def likeliest(weights: Array, categories: tuple[str, ...]) -> tuple[str | None, ...]:
    """The category of the largest weight in each row; None where two lead within 1e-9."""
    top = weights.max(axis=1, keepdims=True)
    is_tied = (weights >= top - 1e-9).sum(axis=1) > 1
    best = weights.argmax(axis=1)
    return tuple(None if tied else categories[c] for c, tied in zip(best, is_tied, strict=True))


def own_counts(votes: Votes) -> Array:
    """``own[n, c]``: how often the annotator of vote n says c on the item of vote n."""
    _, visit = np.unique(votes.item * len(votes.annotators) + votes.annotator, return_inverse=True)
    own = np.zeros((visit.max() + 1, len(votes.categories)))
    np.add.at(own, (visit, votes.label), 1.0)
    return np.asarray(own[visit])


def _share_right(table: Array, confidence: float) -> Interval:
    num = round(table.sum())
    if num == 0:
        return UNKNOWN
    return wilson(min(float(np.trace(table)), num), num, confidence=confidence)


def _rows_to_one(confusion: Array) -> Array:
    totals = confusion.sum(axis=2, keepdims=True)
    rows = np.divide(confusion, totals, out=np.full_like(confusion, np.nan), where=totals > 0)
    return np.asarray(rows)
