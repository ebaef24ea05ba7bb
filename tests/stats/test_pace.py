import math

import numpy as np
import pytest
from scipy.stats import binom

from heedful.stats.pace import pace


def test_pace_runs_between_the_order_statistics_of_the_table():
    # Conover's table: for n = 10 the 2nd and 9th of the sorted values hold the median at 97.9 %.
    ours = pace(np.arange(1.0, 11.0)[::-1])
    assert (ours.value, ours.low, ours.high, ours.num) == (5.5, 2, 9, 10)


@pytest.mark.parametrize("num", [6, 7, 20, 51, 200])
def test_pace_takes_the_narrowest_ranks_that_hold(num):
    ours = pace(np.arange(num, dtype=float))
    rank = int(ours.low) + 1
    assert binom.cdf(rank - 1, num, 0.5) <= 0.025 < binom.cdf(rank, num, 0.5)
    assert ours.high == num - rank


def test_pace_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [pace(rng.lognormal(2, 1, 40)) for _ in range(1000)]
    assert 0.94 < np.mean([i.low <= math.exp(2) <= i.high for i in intervals]) < 0.98


def test_breaks_do_not_move_the_pace():
    times = np.random.default_rng(0).lognormal(2, 0.5, 200)
    with_breaks = times.copy()
    with_breaks[times > np.quantile(times, 0.9)] = 3600.0
    assert pace(with_breaks).value == pace(times).value
    assert pace(with_breaks).high == pace(times).high


def test_pace_of_few_times_has_no_bounds():
    ours = pace([3.0, 4.0, 8.0])
    assert ours.value == 4
    assert math.isnan(ours.low)


@pytest.mark.parametrize("seconds", [[], [-1.0], [math.nan], [math.inf]])
def test_pace_refuses_what_are_no_times(seconds):
    with pytest.raises(ValueError, match="times"):
        pace(seconds)
