"""How far annotators agree beyond chance: 1 is perfect, 0 is chance, below 0 is worse.

Every measure is NaN when all labels are the same: agreement by chance is then certain and there is
nothing to measure. Undo side randomisation first: compare what was chosen, not which side.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Level = Literal["nominal", "ordinal", "interval", "ratio"]
Array = NDArray[np.float64]


def cohen_kappa(first: ArrayLike, second: ArrayLike) -> float:
    """Agreement of two annotators who labelled the same items. Labels of any kind.

    Raises ``ValueError`` when there are no items or the lengths differ. Cohen 1960.
    """
    return kappa_of_confusion(count_confusion(first, second))


def count_confusion(first: ArrayLike, second: ArrayLike) -> Array:
    """``confusion[j, k]``: how often the first said j where the second said k, labels sorted.

    Raises ``ValueError`` when there are no items or the lengths differ.
    """
    cell, num = confusion_cells(first, second)
    return np.bincount(cell, minlength=num * num).reshape(num, num).astype(float)


def confusion_cells(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """The cell ``j * num + k`` of every item in ``count_confusion``, and ``num``; raises alike."""
    labels = np.stack([np.asarray(first), np.asarray(second)])
    if labels.shape[1] == 0:
        raise ValueError("there are 0 items; agreement needs at least 1 that both labelled")
    categories, codes = np.unique(labels, return_inverse=True)
    first_codes, second_codes = codes.reshape(labels.shape)
    return first_codes * len(categories) + second_codes, len(categories)


def kappa_of_confusion(confusion: ArrayLike) -> float:
    """Cohen's kappa from how often the first said j where the second said k. Cohen 1960."""
    shares = np.asarray(confusion, dtype=float) / np.sum(confusion)
    by_chance = shares.sum(axis=1) @ shares.sum(axis=0)
    return _beyond_chance(float(np.trace(shares)), float(by_chance))


def fleiss_kappa(counts: ArrayLike, *, multiplicity: ArrayLike | None = None) -> float:
    """Agreement of n annotators per item, who may differ from item to item.

    ``counts[i, c]`` is how many put item i into category c; all rows sum to the same n of at least
    2, otherwise ``ValueError``. Row i stands for ``multiplicity[i]`` items, 1 when not given.
    Fleiss 1971.
    """
    table = np.asarray(counts, dtype=float)
    num_raters = table.sum(axis=1)
    if not (num_raters == num_raters[0]).all() or num_raters[0] < 2:
        raise ValueError(
            f"items have {num_raters.min():g} to {num_raters.max():g} labels; Fleiss's kappa needs "
            "the same number, at least 2, for each; use krippendorff_alpha"
        )
    n = num_raters[0]
    times = _times(table, multiplicity)
    observed = times @ ((table**2).sum(axis=1) - n) / (n * (n - 1) * times.sum())
    shares = times @ table / (n * times.sum())
    return _beyond_chance(float(observed), float(shares @ shares))


def krippendorff_alpha(ratings: ArrayLike, *, level: Level = "nominal") -> float:
    """Agreement of any number of annotators with gaps, on any level of measurement.

    ``ratings[r, i]`` is annotator r's rating of item i as a number, NaN where there is none; items
    with one rating do not count. ``ratio`` needs non-negative ratings. Raises ``ValueError`` when
    no item has two ratings. Krippendorff 2004, "Content Analysis", chapter 11.
    """
    counts, values = count_ratings(ratings)
    return alpha_of_counts(counts, values, level=level)


def count_ratings(ratings: ArrayLike) -> tuple[Array, Array]:
    """``counts[i, v]``, how many annotators gave item i the value ``values[v]``, and ``values``.

    ``ratings`` as for ``krippendorff_alpha``; values ascend.
    """
    table = np.asarray(ratings, dtype=float)
    values = np.unique(table[~np.isnan(table)])
    return (table[:, :, None] == values).sum(axis=0).astype(float), values


def alpha_of_counts(
    counts: ArrayLike,
    values: ArrayLike | None = None,
    *,
    level: Level = "nominal",
    multiplicity: ArrayLike | None = None,
) -> float:
    """Krippendorff's alpha from how often each item got each of the ascending ``values``.

    ``counts[i, v]``; items with one rating do not count. ``values`` may be left out on the nominal
    level, where they do not matter, and on the ordinal, where their order alone does. Row i stands
    for ``multiplicity[i]`` items, 1 when not given. Raises ``ValueError`` when no item has two
    ratings or when the level needs values that are not given.
    """
    table = np.asarray(counts, dtype=float)
    times = _times(table, multiplicity) * (table.sum(axis=1) >= 2)
    if not times.any():
        raise ValueError("0 items have two ratings; give some items to two annotators")
    table, times = table[times > 0], times[times > 0, None]
    shared = times * table / (table.sum(axis=1, keepdims=True) - 1)
    pairs = table.T @ shared - np.diag(shared.sum(axis=0))
    totals = (times * table).sum(axis=0)
    distance = _squared_distance(_scale(values, len(totals), level), totals, level)
    expected = (np.outer(totals, totals) * distance).sum() / (totals.sum() - 1)
    return 1 - float((pairs * distance).sum() / expected) if expected > 0 else float("nan")


def _times(table: Array, multiplicity: ArrayLike | None) -> Array:
    return np.ones(len(table)) if multiplicity is None else np.asarray(multiplicity, dtype=float)


def _scale(values: ArrayLike | None, num: int, level: Level) -> Array:
    if values is None and level in ("interval", "ratio"):
        raise ValueError(f"values are missing; the {level} level measures distances between them")
    scale = np.arange(num, dtype=float) if values is None else np.asarray(values, dtype=float)
    if scale.shape != (num,) or not (np.diff(scale) > 0).all():
        raise ValueError(f"values have shape {scale.shape}; give {num} that ascend, one per column")
    return scale


def _beyond_chance(observed: float, by_chance: float) -> float:
    # Shares that sum to 1 only up to rounding must not pass for a little disagreement.
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 - 1e-12 else float("nan")


def _squared_distance(values: Array, totals: Array, level: Level) -> Array:
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "ordinal":
        # The number of ratings that lie between two ranks, ends counted half.
        rank = np.cumsum(totals) - totals / 2
        return np.square(np.subtract.outer(rank, rank))
    difference = np.subtract.outer(values, values)
    if level == "interval":
        return np.square(difference)
    total = np.add.outer(values, values)
    return np.square(np.divide(difference, total, out=np.zeros_like(total), where=total != 0))
