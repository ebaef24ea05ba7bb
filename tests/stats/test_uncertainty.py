import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from heedful.stats.uncertainty import auroc, error_by_bin, error_detection, risk_coverage


def test_auroc_equals_sklearn_with_ties():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 200) / 5, rng.random(200) < 0.3
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_auroc_without_both_classes_is_undefined():
    assert math.isnan(auroc([1, 2], [True, True]))


def test_error_detection_covers_the_normal_closed_form():
    """Uncertainty one deviation higher on errors: AUROC is Phi(1 / sqrt 2)."""
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        right = rng.random(150) < 0.6
        doubt = rng.normal(size=150) + ~right
        found = error_detection(doubt, right, rng=rng, num_resamples=150)
        covered += found.low <= 0.76025 <= found.high
    assert 51 < covered < 60


def test_risk_coverage_matches_a_hand_computed_example():
    found = risk_coverage([0.1, 0.4, 0.2, 0.3], [1, 0, 0, 1])
    np.testing.assert_allclose(found.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(found.risk, [0, 1 / 2, 1 / 3, 1 / 2])
    # errors last: 0, 0, 1/3, 1/2
    area, best = 1 / 3, 5 / 24
    assert found.area == pytest.approx(area)
    assert found.excess == pytest.approx((area - best) / (1 / 2 - best))


def test_risk_coverage_with_ties_is_the_mean_over_their_orders():
    doubt, right = np.array([0, 1, 1, 1, 2.0]), np.array([1, 0, 1, 0, 1])
    curves = []
    for order in itertools.permutations([1, 2, 3]):
        wrong = 1 - right[[0, *order, 4]]
        curves.append(np.cumsum(wrong) / np.arange(1, 6))
    np.testing.assert_allclose(risk_coverage(doubt, right).risk, np.mean(curves, axis=0))


def test_risk_coverage_excess_is_zero_in_the_best_order_and_one_without_any():
    right = np.random.default_rng(0).random(300) < 0.7
    assert risk_coverage(~right, right).excess == pytest.approx(0)
    assert risk_coverage(np.zeros(300), right).excess == pytest.approx(1)
    assert risk_coverage(right, right).excess > 1
    assert math.isnan(risk_coverage([1, 2], [1, 1]).excess)


@pytest.mark.parametrize(
    ("doubt", "right", "message"),
    [([], [], "at least 1 pair"), ([1.0], [0.5], "leave ties out"), ([np.nan], [1], "not finite")],
)
def test_uncertainty_refuses_malformed_input(doubt, right, message):
    with pytest.raises(ValueError, match=message):
        risk_coverage(doubt, right)


def test_error_rates_by_bin_are_those_of_pairs_of_like_uncertainty():
    doubt = np.array([0.4, 0.1, 0.2, 0.3, 0.1, 0.8, 0.5, 0.6])
    right = np.array([1, 1, 1, 1, 0, 0, 0, 1])
    first, second, third, last = error_by_bin(doubt, right)
    assert [first.low, first.high, last.low, last.high] == [0.1, 0.1, 0.6, 0.8]
    rates = [one.error.value for one in (first, second, third, last)]
    assert rates == [0.5, 0.0, 0.5, 0.5]
    assert [one.error.num for one in (first, second, third, last)] == [2] * 4


def test_pairs_of_equal_uncertainty_share_a_bin():
    (only,) = error_by_bin(np.ones(6), [1, 0, 1, 1, 1, 1])
    assert only.error.value == pytest.approx(1 / 6)
