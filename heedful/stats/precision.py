"""How well a score finds what is rare."""

import numpy as np
from numpy.typing import ArrayLike


def average_precision(scores: ArrayLike, is_positive: ArrayLike) -> float:
    """Mean precision at the ranks of the positives, from the highest score down; in [0, 1].

    Scores that tie are one rank. Chance gives about the share of positives. Raises ``ValueError``
    without a positive. The step-wise area under the precision-recall curve, without interpolation.
    """
    score = np.asarray(scores, dtype=float)
    positive = np.asarray(is_positive, dtype=bool)
    if not positive.any():
        raise ValueError(
            f"none of {len(positive)} rows is positive; average precision needs at least 1"
        )
    values, places = np.unique(-score, return_inverse=True)
    hits = np.bincount(places, weights=positive, minlength=len(values))
    seen = np.bincount(places, minlength=len(values))
    precision = hits.cumsum() / seen.cumsum()
    return float((precision * hits).sum() / hits.sum())
