import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from heedful.stats.concordance import (
    concordance,
    kendall_tau_b,
    order_within,
    rank_correlation,
    spearman_rho,
)
from heedful.stats.intervals import bootstrap, wilson


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


def test_rounding_is_no_variation_of_a_perfect_order() -> None:
    values = np.arange(60) % 3.0
    same, opposite = (
        concordance(sign * values, values, rng=np.random.default_rng(0)) for sign in (1, -1)
    )
    assert (same.value, same.high) == (1.0, 1.0)
    assert same.low == pytest.approx(wilson(60, 60).low)
    assert (opposite.low, opposite.value) == (0.0, 0.0)
    assert opposite.high == pytest.approx(wilson(0, 60).high)


def test_equal_values_are_refused() -> None:
    with pytest.raises(ValueError, match="all 3 values are equal"):
        concordance([1, 2, 3], [4, 4, 4], rng=np.random.default_rng(0))


def test_resamples_count_repeated_rows_as_a_slow_count_of_pairs_does() -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(1, 4, size=30)
    scores = np.round(values + rng.normal(0, 1, size=30))
    clusters = np.arange(30) // 3
    found = concordance(
        scores, values, rng=np.random.default_rng(5), clusters=clusters, num_resamples=50
    )

    def share(rows: np.ndarray) -> float:
        points = [
            (np.sign((scores[a] - scores[b]) * (values[a] - values[b])) + 1) / 2
            for a, b in itertools.combinations(rows, 2)
            if values[a] != values[b]
        ]
        return float(np.mean(points))

    expected = bootstrap(
        share, 30, rng=np.random.default_rng(5), clusters=clusters, num_resamples=50
    )
    np.testing.assert_allclose(
        [found.value, found.low, found.high], [expected.value, expected.low, expected.high]
    )


def test_equal_scores_are_half_right() -> None:
    found = concordance([3, 3, 3, 3], [1, 2, 1, 2], rng=np.random.default_rng(0))
    assert found.value == 0.5


def test_rank_correlations_of_a_small_example_are_those_counted_by_hand() -> None:
    """Scores 1 2 3 4, ratings 1 3 2 3: of six pairs four agree, one opposes, one ties."""
    scores, ratings = np.arange(1.0, 5), np.array([1.0, 3, 2, 3])
    assert kendall_tau_b(scores, ratings) == pytest.approx((4 - 1) / np.sqrt(6 * 5))
    # ranks of the ratings: 1, 3.5, 2, 3.5
    assert spearman_rho(scores, ratings) == pytest.approx(
        np.corrcoef([1, 2, 3, 4], [1, 3.5, 2, 3.5])[0, 1]
    )
    assert np.isnan(spearman_rho(scores, np.ones(4)))
    assert np.isnan(kendall_tau_b(np.ones(4), scores))


@pytest.mark.parametrize("coefficient", ["spearman", "kendall"])
def test_rank_correlation_follows_only_the_order_and_has_an_interval(coefficient: str) -> None:
    rng = np.random.default_rng(3)
    ratings = rng.integers(1, 6, size=200)
    scores = ratings + rng.normal(0, 2, size=200)
    one, other = (
        rank_correlation(
            given,
            ratings,
            coefficient=coefficient,
            rng=np.random.default_rng(0),
            clusters=np.arange(200) // 2,
        )
        for given in (scores, np.exp(scores))
    )
    assert one == other
    assert 0 < one.low < one.value < one.high < 1
    shuffled = rank_correlation(
        rng.permutation(scores), ratings, coefficient=coefficient, rng=np.random.default_rng(0)
    )
    assert shuffled.low < 0 < shuffled.high


def test_rank_correlation_refuses_what_has_no_order() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="all 2 values are equal"):
        rank_correlation([1, 2], [3, 3], coefficient="kendall", rng=rng)
    with pytest.raises(ValueError, match="choose 'spearman' or 'kendall'"):
        rank_correlation([1, 2], [3, 4], coefficient="pearson", rng=rng)  # type: ignore[arg-type]


def test_order_within_prompts_counts_ties_of_both_kinds() -> None:
    found = order_within([2, 1, 0, 5, 5, 9], [3, 2, 2, 1, 4, 7], list("aaabbc"))
    # a: 2 of 2 right and one pair judged alike; b: scores tie; c is alone
    assert found.share.value == pytest.approx(2.5 / 3)
    assert (found.share.num, found.num_judged_alike, found.num_scored_alike) == (3, 1, 1)
    with pytest.raises(ValueError, match="of 2 prompts none has two answers"):
        order_within([1, 2, 3], [4, 4, 5], list("aab"))


def test_two_ratings_have_an_order() -> None:
    """As few are held out of a small data set, and a fit must not end on them."""
    assert kendall_tau_b(np.array([1.0, 2.0]), np.array([4.0, 3.0])) == -1
    found = concordance([1.0, 2.0], [3.0, 4.0], clusters=[0, 1], rng=np.random.default_rng(0))
    assert (found.value, found.num) == (1.0, 2)
    assert 0 < found.low < 0.5 < found.high
