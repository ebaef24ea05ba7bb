"""Does a score order rated things as their ratings do?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, rankdata

from heedful.stats.intervals import Interval, bootstrap, share_by_cluster, wilson

Array = NDArray[np.float64]
Coefficient = Literal["spearman", "kendall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderWithin:
    """How often the order within prompts is the judged one. Made by ``order_within``.

    ``num_judged_alike`` pairs of answers have equal values and do not count, ``num_scored_alike``
    of the others equal scores and count one half. ``OrderWithin(share=Interval(value=0.7, low=0.6,
    high=0.79, num=80), num_judged_alike=12, num_scored_alike=1)``
    """

    share: Interval
    num_judged_alike: int
    num_scored_alike: int


def concordance(
    scores: ArrayLike,
    values: ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    num_resamples: int = 500,
) -> Interval:
    """Share of the pairs of different ``values`` that ``scores`` order alike, a tie one half.

    Of two values it is the area under the ROC curve. The interval is a bootstrap over ``clusters``,
    such as prompts, or where resampling shows no variation Wilson's for as many points as there are
    clusters; ``num`` counts rows. Raises ``ValueError`` when all values are equal. Harrell
    et al. 1982, the index C; from Kendall's tau-b in ``n log n`` steps.
    """
    score, value = np.asarray(scores, dtype=float), np.asarray(values, dtype=float)
    _refuse_equal(value)

    def share(rows: NDArray[np.int64]) -> float:
        x, y = score[rows], value[rows]
        num_pairs, equal_scores, equal_values = _num_pairs(len(rows)), _tied(x), _tied(y)
        if equal_values == num_pairs:
            return float("nan")
        if equal_scores == num_pairs:
            return 0.5
        told_apart = (num_pairs - equal_scores) / (num_pairs - equal_values)
        # rounded so that a perfect order in every resample is seen to be one
        return round(float((1 + kendall_tau_b(x, y) * np.sqrt(told_apart)) / 2), 12)

    found = bootstrap(share, len(value), rng=rng, clusters=clusters, num_resamples=num_resamples)
    if not np.isnan(found.low):
        return found
    num_clusters = len(np.unique(np.arange(len(value)) if clusters is None else clusters))
    plain = wilson(found.value * num_clusters, num_clusters)
    return replace(plain, value=found.value, num=len(value))


def rank_correlation(
    scores: ArrayLike,
    values: ArrayLike,
    *,
    coefficient: Coefficient,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    num_resamples: int = 500,
) -> Interval:
    """Spearman's or Kendall's rank correlation with its bootstrap interval, -1 to 1.

    ``coefficient`` is ``"spearman"`` (equal values share the mean of their ranks) or ``"kendall"``
    (tau-b, which takes ties of either into account). The interval resamples ``clusters``, such as
    prompts; it is NaN where resampling shows no variation, and all is NaN when the scores are
    equal. ``num`` counts rows. Raises ``ValueError`` for equal values or an unknown coefficient.
    """
    if coefficient not in get_args(Coefficient):
        raise ValueError(f"coefficient is {coefficient!r}; choose 'spearman' or 'kendall'")
    score, value = np.asarray(scores, dtype=float), np.asarray(values, dtype=float)
    _refuse_equal(value)
    correlation = COEFFICIENTS[coefficient]
    return bootstrap(
        lambda rows: correlation(score[rows], value[rows]),
        len(value),
        rng=rng,
        clusters=clusters,
        num_resamples=num_resamples,
    )


def spearman_rho(x: Array, y: Array) -> float:
    """Pearson's correlation of the ranks, equal values at their mean rank; NaN without variation.

    Spearman 1904.
    """
    one, other = rankdata(x), rankdata(y)
    one, other = one - one.mean(), other - other.mean()
    scale = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale > 0 else float("nan")


def kendall_tau_b(x: Array, y: Array) -> float:
    """``(concordant - discordant) / sqrt(pairs that differ in x * pairs that differ in y)``.

    NaN without variation in either. Kendall 1945.
    """
    if _tied(x) == _num_pairs(len(x)) or _tied(y) == _num_pairs(len(y)):
        return float("nan")
    if len(x) == 2:  # where scipy divides by zero, for a p value
        return float(np.sign(x[1] - x[0]) * np.sign(y[1] - y[0]))
    # the default's exact p value, which nobody asked for, takes seconds
    return float(kendalltau(x, y, method="asymptotic").statistic)


COEFFICIENTS: dict[str, Callable[[Array, Array], float]] = {
    "spearman": spearman_rho,
    "kendall": kendall_tau_b,
}


def order_within(scores: ArrayLike, values: ArrayLike, prompts: Sequence[object]) -> OrderWithin:
    """Share of the pairs of answers to one prompt that scores order as their values do.

    One entry a distinct answer, ``values[n]`` for instance the mean of its ratings. Pairs with
    equal values do not count, equal scores count one half. The interval takes the pairs of a prompt
    together (``share_by_cluster``). Raises ``ValueError`` when no prompt has two answers with
    different values.
    """
    score, value = np.asarray(scores, dtype=float), np.asarray(values, dtype=float)
    places: dict[object, list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt, []).append(place)
    points: list[Array] = []
    clusters: list[Array] = []
    num_alike = 0
    for number, rows in enumerate(places.values()):
        first, second = np.triu_indices(len(rows), k=1)
        own, judged = score[rows], value[rows]
        gap = judged[first] - judged[second]
        differs = gap != 0
        num_alike += int((~differs).sum())
        agree = np.sign(own[first] - own[second]) * np.sign(gap)
        points.append((agree[differs] + 1) / 2)
        clusters.append(np.full(int(differs.sum()), float(number)))
    found = np.concatenate(points) if points else np.array([])
    if not len(found):
        raise ValueError(
            f"of {len(places)} prompts none has two answers with different values; {num_alike} "
            "pairs are judged alike"
        )
    return OrderWithin(
        share=share_by_cluster(found, np.concatenate(clusters)),
        num_judged_alike=num_alike,
        num_scored_alike=int((found == 0.5).sum()),
    )


def _refuse_equal(value: Array) -> None:
    if len(np.unique(value)) < 2:
        raise ValueError(
            f"all {len(value)} values are equal; there must be at least 2 different ones to compare"
        )


def _num_pairs(num: int) -> float:
    return num * (num - 1) / 2


def _tied(values: Array) -> float:
    """Pairs of equal values."""
    _, counts = np.unique(values, return_counts=True)
    return float((counts * (counts - 1) / 2).sum())
