"""How often a score puts two rated things in the order of their ratings."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from heedful.stats.intervals import Interval, bootstrap, wilson


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
    et al. 1982, the index C.
    """
    score, value = np.asarray(scores, dtype=float), np.asarray(values, dtype=float)
    differs = value[:, None] > value[None, :]
    if not differs.any():
        raise ValueError(
            f"all {len(value)} values are equal; there must be at least 2 different ones to compare"
        )
    lead = np.sign(score[:, None] - score[None, :])
    points = np.where(differs, (lead + 1) / 2, 0.0)
    is_pair = differs.astype(float)

    def share(rows: np.ndarray) -> float:
        counts = np.bincount(rows, minlength=len(value)).astype(float)
        pairs = float(counts @ is_pair @ counts)
        return float(counts @ points @ counts) / pairs if pairs else float("nan")

    found = bootstrap(share, len(value), rng=rng, clusters=clusters, num_resamples=num_resamples)
    if not np.isnan(found.low):
        return found
    num_clusters = len(np.unique(np.arange(len(value)) if clusters is None else clusters))
    plain = wilson(found.value * num_clusters, num_clusters)
    return replace(plain, value=found.value, num=len(value))
