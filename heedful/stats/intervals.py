"""Estimates with their intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

ROUNDING = 1e-9  # of a statistic's size: smaller differences between resamples are no variation


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate, its interval and the number of observations. Made here, shown in reports.

    ``Interval(value=0.6, low=0.5, high=0.69, num=100)``
    """

    value: float
    low: float
    high: float
    num: int


def wilson(successes: float, total: int, *, confidence: float = 0.95) -> Interval:
    """Share ``successes / total`` with Wilson's score interval, within [0, 1].

    Unlike the textbook interval it stays honest near 0 and 1. ``successes`` may be fractional.
    Raises ``ValueError`` when ``total`` is below 1 or ``successes`` is out of range. Wilson 1927.
    """
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(
            f"{successes} successes of {total}; there must be at least 1 observation and from 0 to "
            f"{total} successes"
        )
    return _score_interval(successes / total, total, total, confidence)


def share_by_cluster(
    points: ArrayLike, clusters: ArrayLike | None = None, *, confidence: float = 0.95
) -> Interval:
    """Mean of ``points`` from 0 to 1, where those of a cluster, such as a prompt, go together.

    Wilson's interval for as many independent points as would vary like these: their number over
    the design effect, which counts as 1 when it comes out lower, and less for few clusters, whose
    design effect is badly known (Korn and Graubard 1998). It is ``wilson`` with one point a
    cluster, without ``clusters``, and with a single cluster, which does not show how it differs
    from others. ``num`` counts points; raises as ``wilson``.
    """
    values = np.asarray(points, dtype=float)
    sums, sizes = _cluster_totals(values, clusters)
    num, num_clusters = len(values), len(sums)
    plain = wilson(float(values.sum()), num, confidence=confidence)
    if num_clusters < 2 or num_clusters == num:
        return plain
    share = plain.value
    variance = num_clusters / (num_clusters - 1) * float(((sums - share * sizes) ** 2).sum())
    independent = share * (1 - share) * num
    effect = max(1.0, variance / independent) if independent > 0 else 1.0
    few = normal_quantile(confidence) / student_quantile(confidence, num_clusters - 1)
    return _score_interval(share, num, num / effect * few**2, confidence)


def difference_of_shares(first: Interval, second: Interval) -> Interval:
    """First share minus second, -1 to 1, with the interval that follows from those of both.

    For shares of different observations; ``num`` counts both. Newcombe 1998 (Statistics in Medicine
    17, 873), method 10 with whatever intervals the shares have.
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Interval(value=value, low=value - below, high=value + above, num=first.num + second.num)


def mean_of_shares(shares: Sequence[Interval]) -> Interval:
    """Mean of shares, each as heavy as the others however many observations it has, 0 to 1.

    The interval follows from theirs as that of a difference does; ``num`` counts all. For shares of
    different observations. Raises ``ValueError`` for none. Zou and Donner 2008 (Statistics in
    Medicine 27, 1693), section 2.
    """
    if not shares:
        raise ValueError("there is no share to take the mean of; give at least 1")
    value = sum(one.value for one in shares) / len(shares)
    below = math.hypot(*(one.value - one.low for one in shares)) / len(shares)
    above = math.hypot(*(one.high - one.value for one in shares)) / len(shares)
    return Interval(
        value=value, low=value - below, high=value + above, num=sum(one.num for one in shares)
    )


def bootstrap_mean(
    x: ArrayLike,
    *,
    rng: np.random.Generator,
    num_resamples: int = 2000,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Mean of ``x`` with the percentile bootstrap interval.

    With ``clusters`` (one label per value, such as the prompt) whole clusters are drawn, because
    values within one are not independent; ``num`` still counts values. Raises ``ValueError`` for
    fewer than two values or clusters, where resampling cannot vary. Efron 1979. Narrow below
    about 20 clusters.
    """
    values = np.asarray(x, dtype=float)
    sums, sizes = _cluster_totals(values, clusters)
    num_clusters = len(sums)
    if num_clusters < 2:
        raise ValueError(
            f"there are {num_clusters} independent values; a bootstrap needs at least 2; "
            "collect more prompts"
        )
    means = np.empty(num_resamples)
    at_once = max(1, 1_000_000 // num_clusters)  # bounds the memory
    for start in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - start)
        drawn = rng.integers(num_clusters, size=(rows, num_clusters))
        means[start : start + rows] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(value=float(values.mean()), low=float(low), high=float(high), num=len(values))


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    num: int,
    *,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Any statistic of ``num`` rows with the percentile bootstrap interval.

    ``statistic`` gets the numbers of the rows it is about, repeats included. With ``clusters``, one
    label a row, whole clusters are drawn. Resamples that leave it undefined (NaN) do not count, and
    the bounds are NaN when none or no variation is left. Raises ``ValueError`` for fewer than two
    rows or clusters. Efron 1979. For means ``bootstrap_mean`` is faster.
    """
    labels = np.arange(num) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    if len(labels) != num:
        raise ValueError(f"{num} rows with {len(labels)} clusters; give one per row")
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    if num < 2 or len(groups) < 2:
        raise ValueError(
            f"there are {min(num, len(groups))} independent rows; a bootstrap needs at least 2; "
            "collect more prompts"
        )
    values = np.empty(num_resamples)
    for resample in range(num_resamples):  # one at a time: together they would fill memory
        drawn = rng.integers(len(groups), size=len(groups))
        is_alone = len(groups) == num
        rows = order[drawn] if is_alone else np.concatenate([groups[g] for g in drawn])
        values[resample] = statistic(rows)
    defined = values[~np.isnan(values)]
    low, high = float("nan"), float("nan")
    if len(defined) and defined.max() - defined.min() > ROUNDING * np.abs(defined).max():
        tail = (1 - confidence) / 2
        low, high = (float(bound) for bound in np.quantile(defined, [tail, 1 - tail]))
    return Interval(value=float(statistic(np.arange(num))), low=low, high=high, num=num)


def win_rate(wins: int, ties: int, losses: int, *, confidence: float = 0.95) -> Interval:
    """``(wins + ties / 2) / total`` with Wilson's interval on the half points.

    Conservative with ties: a half point varies less than the coin toss that Wilson assumes. When
    several comparisons share a prompt, use ``bootstrap_mean`` on the points with the prompts as
    clusters. Raises ``ValueError`` when a count is negative or all are 0.
    """
    if min(wins, ties, losses) < 0:
        raise ValueError(f"counts are {wins}, {ties}, {losses}; none may be negative")
    return wilson(wins + ties / 2, wins + ties + losses, confidence=confidence)


def normal_quantile(confidence: float) -> float:
    """How many standard errors a two-sided normal interval reaches: 1.96 for 0.95.

    Raises ``ValueError`` unless ``confidence`` is above 0 and below 1.
    """
    return float(ndtri(_upper(confidence)))


def student_quantile(confidence: float, freedom: float) -> float:
    """How many standard errors a two-sided Student's interval reaches: 12.7 for 0.95 and 1.

    ``freedom`` are the degrees of freedom; NaN when there are none. Raises as ``normal_quantile``.
    """
    return float(stdtrit(freedom, _upper(confidence))) if freedom > 0 else float("nan")


def _upper(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence is {confidence}; it must be above 0 and below 1, such as 0.95"
        )
    return 0.5 + confidence / 2


def _score_interval(share: float, num: int, num_alone: float, confidence: float) -> Interval:
    """Wilson's interval of a share of ``num`` points that are worth ``num_alone`` on their own."""
    z = normal_quantile(confidence)
    scale = 1 + z**2 / num_alone
    centre = (share + z**2 / (2 * num_alone)) / scale
    spread = z * math.sqrt(share * (1 - share) / num_alone + (z / (2 * num_alone)) ** 2) / scale
    # At the ends the bound equals the share up to rounding, which must not exclude it.
    return Interval(
        value=share,
        low=max(0.0, min(centre - spread, share)),
        high=min(1.0, max(centre + spread, share)),
        num=num,
    )


def _cluster_totals(
    values: NDArray[np.float64], clusters: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if clusters is None:
        return values, np.ones_like(values)
    labels = np.asarray(clusters)
    if labels.shape != values.shape:
        raise ValueError(f"{len(values)} values with {len(labels)} clusters; give one per value")
    _, index = np.unique(labels, return_inverse=True)
    sizes = np.bincount(index)
    return np.bincount(index, weights=values).astype(float), sizes.astype(float)
