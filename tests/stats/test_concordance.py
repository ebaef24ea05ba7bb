import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from heedful.stats.concordance import concordance
from heedful.stats.intervals import wilson


def test_concordance_counts_the_pairs_in_the_order_of_their_values() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(1, 6, size=40)
    scores = np.round(values + rng.normal(0, 2, size=40))
    points = [
        0.5 if a == b else float((a > b) == (x > y))
        for (a, x), (b, y) in itertools.combinations(zip(scores, values, strict=True), 2)
        if x != y
    ]
    found = concordance(scores, values, rng=rng)
    np.testing.assert_allclose(found.value, np.mean(points))
    assert found.low < found.value < found.high
    assert found.num == 40


def test_of_two_values_it_is_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2, size=60)
    scores = values + rng.normal(0, 1, size=60)
    found = concordance(scores, values, rng=rng, clusters=np.arange(60) // 2)
    np.testing.assert_allclose(found.value, roc_auc_score(values, scores))


def test_a_perfect_order_keeps_an_interval_of_as_many_points_as_clusters() -> None:
    found = concordance(range(10), range(10), rng=np.random.default_rng(0), clusters=[0, 1] * 5)
    assert (found.value, found.low, found.num) == (1.0, wilson(2, 2).low, 10)


def test_equal_values_are_refused() -> None:
    with pytest.raises(ValueError, match="all 3 values are equal"):
        concordance([1, 2, 3], [4, 4, 4], rng=np.random.default_rng(0))
