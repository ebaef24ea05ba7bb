"""Agreement with its uncertainty: what another set of items would have shown.

Items are resampled, annotators are not: an interval speaks of these annotators. A bound is NaN
where the data show no variation to resample, such as when all agree on all items; a page then
shows the interval of ``raw_agreement``, which stays honest there.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heedful.stats.agreement import (
    Level,
    alpha_of_counts,
    count_confusion,
    fleiss_kappa,
    kappa_of_confusion,
)
from heedful.stats.intervals import Interval, wilson

Array = NDArray[np.float64]


def raw_agreement(counts: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Chance that two random annotators of a random item agree, 0 to 1, with Wilson's interval.

    ``counts[i, c]`` is how many put item i into category c; items with one label do not count and
    the others count once each, as in Fleiss's observed agreement. Conservative with more than two
    labels an item, whose share of agreeing pairs varies less than the coin that Wilson assumes.
    ``num`` counts items. Raises ``ValueError`` when no item has two labels.
    """
    table = _paired(counts)
    num_labels = table.sum(axis=1)
    agreeing = (table * (table - 1)).sum(axis=1) / (num_labels * (num_labels - 1))
    return wilson(float(agreeing.sum()), len(table), confidence=confidence)


def cohen_kappa_interval(
    first: ArrayLike,
    second: ArrayLike,
    *,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Cohen's kappa of two annotators over the same items, with its bootstrap interval.

    Leave out items that one of them skipped. Raises as ``cohen_kappa``.
    """
    confusion = count_confusion(first, second)
    return _bootstrap(
        lambda cells: kappa_of_confusion(cells.reshape(confusion.shape)),
        confusion.ravel(),
        rng=rng,
        num_resamples=num_resamples,
        confidence=confidence,
    )


def fleiss_kappa_interval(
    counts: ArrayLike,
    *,
    rng: np.random.Generator,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Fleiss's kappa with its bootstrap interval; ``counts`` and errors as ``fleiss_kappa``."""
    rows, times = _distinct_rows(np.asarray(counts, dtype=float))
    return _bootstrap(
        lambda drawn: fleiss_kappa(rows, multiplicity=drawn),
        times,
        rng=rng,
        num_resamples=num_resamples,
        confidence=confidence,
    )


def krippendorff_alpha_interval(
    counts: ArrayLike,
    values: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    level: Level = "nominal",
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Krippendorff's alpha with its bootstrap interval; arguments as ``alpha_of_counts``.

    Krippendorff resamples deviations, which treats the pairs of an item as independent; we
    resample whole items, which is wider and does not. ``num`` counts items with two ratings.
    """
    rows, times = _distinct_rows(_paired(counts))
    return _bootstrap(
        lambda drawn: alpha_of_counts(rows, values, level=level, multiplicity=drawn),
        times,
        rng=rng,
        num_resamples=num_resamples,
        confidence=confidence,
    )


def _paired(counts: ArrayLike) -> Array:
    table = np.asarray(counts, dtype=float)
    is_paired = table.sum(axis=1) >= 2
    if not is_paired.any():
        raise ValueError("0 items have two labels; give some items to two annotators")
    return np.asarray(table[is_paired])


def _distinct_rows(table: Array) -> tuple[Array, Array]:
    rows, times = np.unique(table, axis=0, return_counts=True)
    return rows, times.astype(float)


def _bootstrap(
    measure: Callable[[Array], float],
    times: Array,
    *,
    rng: np.random.Generator,
    num_resamples: int,
    confidence: float,
) -> Interval:
    """Percentile interval of ``measure``, which is told how often each kind of item was drawn.

    Drawing items with replacement is a multinomial draw of their kinds, and there are few kinds.
    Resamples that leave the measure undefined do not count.
    """
    num = int(times.sum())
    draws = rng.multinomial(num, times / num, size=num_resamples).astype(float)
    measures = np.array([measure(draw) for draw in draws])
    defined = measures[~np.isnan(measures)]
    low, high = float("nan"), float("nan")
    if len(defined) and defined.min() < defined.max():
        tail = (1 - confidence) / 2
        low, high = (float(bound) for bound in np.quantile(defined, [tail, 1 - tail]))
    return Interval(value=measure(times), low=low, high=high, num=num)
