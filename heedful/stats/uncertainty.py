"""Does a reward model know when it is wrong? Its uncertainty against its errors."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from heedful.stats.intervals import Interval, bootstrap, share_by_cluster

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskCoverage:
    """Errors among the surest answers. Made by ``risk_coverage``, drawn on reward cards.

    ``risk[k]`` is the error rate among the share ``coverage[k]`` of pairs with least uncertainty;
    ``area`` its mean over all shares; ``excess`` puts the area between 0, an order that has all
    errors last, and 1, no order at all; above 1 the model is surest where it is wrong.
    ``RiskCoverage(coverage=array([0.5, 1]), risk=array([0, 0.5]), area=0.25, excess=0.0)``
    """

    coverage: Array
    risk: Array
    area: float
    excess: float


def auroc(scores: ArrayLike, is_positive: ArrayLike) -> float:
    """Chance that a positive scores above a negative, ties counted half; NaN without both.

    Mann and Whitney 1947.
    """
    values, positive = np.asarray(scores, dtype=float), np.asarray(is_positive, dtype=bool)
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if not num_positive or not num_negative:
        return float("nan")
    above = rankdata(values)[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


def error_detection(
    uncertainties: ArrayLike,
    is_right: ArrayLike,
    *,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """AUROC of uncertainty for errors: 0.5 tells nothing, 1 is larger on every error.

    ``is_right`` is true or false; leave ties of scores out. The interval resamples pairs, or
    ``clusters`` such as prompts. NaN when all are right or all wrong.
    """
    doubt, right = _checked(uncertainties, is_right)
    return bootstrap(
        lambda rows: auroc(doubt[rows], right[rows] == 0),
        len(doubt),
        rng=rng,
        num_resamples=num_resamples,
        clusters=clusters,
        confidence=confidence,
    )


def risk_coverage(uncertainties: ArrayLike, is_right: ArrayLike) -> RiskCoverage:
    """Error rates as the least certain pairs are left out one by one.

    Pairs of equal uncertainty stand in random order, and the curve is the mean over such orders.
    ``excess`` is NaN when all are right or all wrong. El-Yaniv and Wiener 2010; the excess is
    Geifman et al. 2018 (arXiv:1805.08206), divided by that of no order.
    """
    doubt, right = _checked(uncertainties, is_right)
    order = np.argsort(doubt, kind="stable")
    _, level = np.unique(doubt, return_inverse=True)
    wrong_share = np.bincount(level, weights=1 - right) / np.bincount(level)
    taken = np.arange(1, len(doubt) + 1)
    risk = np.cumsum(wrong_share[level[order]]) / taken
    best = float((np.cumsum(np.sort(1 - right)) / taken).mean())
    area, rate = float(risk.mean()), float(1 - right.mean())
    return RiskCoverage(
        coverage=taken / len(doubt),
        risk=risk,
        area=area,
        excess=(area - best) / (rate - best) if 0 < rate < 1 else float("nan"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Pairs of like uncertainty, from ``low`` to ``high``, and the share that is wrong.

    ``Bin(low=0.1, high=0.4, error=Interval(...))``
    """

    low: float
    high: float
    error: Interval


def error_by_bin(
    uncertainties: ArrayLike,
    is_right: ArrayLike,
    *,
    num_bins: int = 4,
    clusters: ArrayLike | None = None,
) -> list[Bin]:
    """The error rate from the least to the most uncertain pairs, in bins of about equal size.

    Pairs of equal uncertainty share a bin, so there may be fewer. Intervals take the pairs of a
    cluster, such as a prompt, together. Raises ``ValueError`` as ``risk_coverage``.
    """
    doubt, right = _checked(uncertainties, is_right)
    edges = np.unique(np.quantile(doubt, np.arange(1, num_bins) / num_bins))
    place = np.searchsorted(edges, doubt, side="left")
    groups = np.arange(len(doubt)) if clusters is None else np.asarray(clusters)
    return [
        Bin(
            low=float(doubt[place == number].min()),
            high=float(doubt[place == number].max()),
            error=share_by_cluster(1 - right[place == number], groups[place == number]),
        )
        for number in np.unique(place)
    ]


def _checked(uncertainties: ArrayLike, is_right: ArrayLike) -> tuple[Array, Array]:
    doubt, right = np.asarray(uncertainties, dtype=float), np.asarray(is_right, dtype=float)
    if doubt.shape != right.shape or doubt.ndim != 1 or not len(doubt):
        raise ValueError(
            f"{doubt.size} uncertainties with {right.size} answers; give one per pair and at least "
            "1 pair"
        )
    if not np.isfinite(doubt).all() or not np.isin(right, (0, 1)).all():
        raise ValueError("an uncertainty is not finite or is_right is not 0 or 1; leave ties out")
    return doubt, right
