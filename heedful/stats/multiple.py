"""Correction for looking many times."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values, in the order given: below 0.05, one false alarm in 20 such families.

    Holds whatever the dependence between the tests. NaN marks a test that could not be made; it
    stays NaN and does not count. Raises ``ValueError`` for a value outside [0, 1]. Holm 1979.
    """
    raw = np.asarray(p_values, dtype=float)
    made = np.flatnonzero(~np.isnan(raw))
    if not ((raw[made] >= 0) & (raw[made] <= 1)).all():
        raise ValueError(
            f"p-values run from {raw[made].min():g} to {raw[made].max():g}; they are from 0 to 1"
        )
    order = made[np.argsort(raw[made], kind="stable")]
    adjusted = np.full(raw.shape, np.nan)
    scaled = raw[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted
