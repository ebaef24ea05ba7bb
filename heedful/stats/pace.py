"""How long an item takes."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from heedful.stats.intervals import Interval


def pace(seconds: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Median seconds per item with a distribution-free interval.

    A break leaves one very long time, which moves the median no more than a merely slow item does;
    it holds while fewer than half of the times are spoilt. So never derive hours worked from a
    sum of times; median times number of items is safer. The interval runs between two of the
    sorted times and holds the median of any distribution at least as often as it says; its bounds
    are NaN below 6 times at 95 %, where even the extremes do not reach that. Raises ``ValueError``
    for no times, or one that is negative or not finite. Conover 1999, section 3.2.
    """
    times = np.sort(np.asarray(seconds, dtype=float))
    if times.size == 0 or not (np.isfinite(times) & (times >= 0)).all():
        raise ValueError(
            f"{times.size} times, from {times.min(initial=math.inf):g} to "
            f"{times.max(initial=-math.inf):g} seconds; give at least 1, finite and not negative"
        )
    num = len(times)
    # The median lies below the r-th smallest with the chance of fewer than r heads in num tosses.
    rank = int(binom.ppf((1 - confidence) / 2, num, 0.5))
    low, high = (times[rank - 1], times[num - rank]) if rank >= 1 else (math.nan, math.nan)
    return Interval(value=float(np.median(times)), low=float(low), high=float(high), num=num)
