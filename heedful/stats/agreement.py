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
    labels = np.stack([np.asarray(first), np.asarray(second)])
    if labels.shape[1] == 0:
        raise ValueError("there are 0 items; agreement needs at least 1 that both labelled")
    categories, codes = np.unique(labels, return_inverse=True)
    codes = codes.reshape(labels.shape)
    shares = [np.bincount(row, minlength=len(categories)) / labels.shape[1] for row in codes]
    return _beyond_chance(float((codes[0] == codes[1]).mean()), float(shares[0] @ shares[1]))


def fleiss_kappa(counts: ArrayLike) -> float:
    """Agreement of n annotators per item, who may differ from item to item.

    ``counts[i, c]`` is how many put item i into category c; all rows sum to the same n of at least
    2, otherwise ``ValueError``. Fleiss 1971.
    """
    table = np.asarray(counts, dtype=float)
    num_raters = table.sum(axis=1)
    if not (num_raters == num_raters[0]).all() or num_raters[0] < 2:
        raise ValueError(
            f"items have {num_raters.min():g} to {num_raters.max():g} labels; Fleiss's kappa needs "
            "the same number, at least 2, for each; use krippendorff_alpha"
        )
    n = num_raters[0]
    observed = ((table**2).sum(axis=1) - n) / (n * (n - 1))
    shares = table.sum(axis=0) / table.sum()
    return _beyond_chance(float(observed.mean()), float(shares @ shares))


def krippendorff_alpha(ratings: ArrayLike, *, level: Level = "nominal") -> float:
    """Agreement of any number of annotators with gaps, on any level of measurement.

    ``ratings[r, i]`` is annotator r's rating of item i as a number, NaN where there is none; items
    with one rating do not count. ``ratio`` needs non-negative ratings. Raises ``ValueError`` when
    no item has two ratings. Krippendorff 2004, "Content Analysis", chapter 11.
    """
    values, counts = _value_counts(np.asarray(ratings, dtype=float))
    per_item = counts.sum(axis=1, keepdims=True)
    pairs = counts.T @ (counts / (per_item - 1)) - np.diag((counts / (per_item - 1)).sum(axis=0))
    totals = counts.sum(axis=0)
    distance = _squared_distance(values, totals, level)
    expected = (np.outer(totals, totals) * distance).sum() / (totals.sum() - 1)
    return 1 - float((pairs * distance).sum() / expected) if expected > 0 else float("nan")


def _beyond_chance(observed: float, by_chance: float) -> float:
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def _value_counts(ratings: Array) -> tuple[Array, Array]:
    """The distinct values and how often each item has each, for items with two ratings."""
    paired = ratings[:, (~np.isnan(ratings)).sum(axis=0) >= 2]
    if paired.shape[1] == 0:
        raise ValueError("0 items have two ratings; give some items to two annotators")
    values = np.unique(paired[~np.isnan(paired)])
    return values, (paired[:, :, None] == values).sum(axis=0).astype(float)


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
