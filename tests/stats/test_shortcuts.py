import itertools

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.utils.class_weight import compute_class_weight

from heedful.stats.shortcuts import (
    balancing_weights,
    matched_accuracy,
    spline_basis,
    style_share,
    within_correlation,
    within_slope,
    without_curve,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pairs(seed: int, num: int, *, length_weight: float, liked: float = 1.5):
    """Whether a model is right, and lengths of chosen minus rejected, of people who like length."""
    noise = rng(seed)
    quality, length = noise.normal(size=(2, num))
    wins = noise.random(num) < 1 / (1 + np.exp(-quality - liked * length))
    sign = np.where(wins, 1, -1)
    score = quality + length_weight * length
    return sign * score > 0, sign * length * 50


def test_matched_accuracy_equals_the_mean_over_all_matchings():
    """One stratum, five longer and three shorter; two without a difference that count as well."""
    is_right = np.array([1, 1, 0, 1, 0, 0, 1, 0, 1, 1], dtype=float)
    gaps = np.array([1, 2, 3, 4, 5, -1, -2, -3, 0, 0], dtype=float)
    means = [
        np.mean([*is_right[list(longer)], *is_right[5:8], *is_right[8:]])
        for longer in itertools.combinations(range(5), 3)
    ]
    found = matched_accuracy(is_right, gaps, rng=rng(), num_strata=1)
    assert found.accuracy.value == pytest.approx(np.mean(means))
    assert found.num_matched == 8
    assert found.num_unmatched == 0
    assert found.larger_wins == pytest.approx(0.6)


def test_matched_accuracy_of_the_longer_wins_is_one_half():
    _, gaps = pairs(0, 2000, length_weight=0.0)
    found = matched_accuracy(gaps > 0, gaps, rng=rng())
    assert found.larger_wins > 0.65
    assert found.accuracy.value == pytest.approx(0.5)


def test_matched_accuracy_turns_the_order_of_a_fair_model_and_one_that_reads_length():
    fair, gaps = pairs(0, 20_000, length_weight=0.0)
    biased, _ = pairs(0, 20_000, length_weight=3.0)
    assert np.mean(biased) > np.mean(fair) + 0.05
    matched = [
        matched_accuracy(right, gaps, rng=rng(), num_resamples=2).accuracy.value
        for right in (fair, biased)
    ]
    assert matched[0] > matched[1] + 0.05


def test_matched_accuracy_of_people_indifferent_to_length_is_that_of_all_pairs():
    right, gaps = pairs(0, 20_000, length_weight=0.5, liked=0.0)
    found = matched_accuracy(right, gaps, rng=rng(), num_resamples=2)
    # Three standard errors; almost all pairs find a match.
    assert found.accuracy.value == pytest.approx(np.mean(right), abs=0.01)
    assert found.num_matched > 19_000


def test_matched_accuracy_covers_its_long_run_value():
    right, gaps = pairs(99, 200_000, length_weight=1.0)
    truth = matched_accuracy(right, gaps, rng=rng(), num_resamples=2).accuracy.value
    intervals = [
        matched_accuracy(
            *pairs(seed, 300, length_weight=1.0), rng=rng(seed), num_resamples=150
        ).accuracy
        for seed in range(120)
    ]
    assert 0.9 < np.mean([i.low <= truth <= i.high for i in intervals]) < 0.99


def test_matched_accuracy_counts_pairs_that_have_no_match():
    gaps = np.array([1.0, -1.0, 1.0, -1.0, 100.0, 110.0])
    found = matched_accuracy(np.ones(6), gaps, rng=rng(), num_strata=2)
    assert (found.num_matched, found.num_unmatched) == (4, 2)


def test_matched_accuracy_refuses_data_where_the_longer_always_wins():
    with pytest.raises(ValueError, match="3 have the larger answer chosen"):
        matched_accuracy([1, 1, 0], [3, 5, 9], rng=rng())


def test_within_correlation_ignores_what_differs_between_prompts():
    prompt = np.repeat(np.arange(200), 4)
    noise = rng()
    level = noise.normal(size=200)[prompt]
    length = 5 * level + noise.normal(size=800)
    score = 5 * level + noise.normal(size=800)
    assert np.corrcoef(length, score)[0, 1] > 0.9
    found = within_correlation(score, length, prompt, rng=rng())
    assert found.low < 0 < found.high
    means = [np.array([x[prompt == p].mean() for p in range(200)])[prompt] for x in (length, score)]
    slow = np.corrcoef(length - means[0], score - means[1])[0, 1]
    assert found.value == pytest.approx(slow)


def test_within_correlation_covers_a_planted_one():
    covered = 0
    for seed in range(100):
        noise = rng(seed)
        length = noise.normal(size=(60, 3))
        score = 0.6 * length + 0.8 * noise.normal(size=(60, 3))
        found = within_correlation(
            score.ravel(),
            length.ravel(),
            np.repeat(np.arange(60), 3),
            rng=noise,
            num_resamples=200,
        )
        covered += found.low <= 0.6 <= found.high
    assert 85 < covered < 100


def test_within_correlation_of_scores_that_do_not_vary_is_undefined():
    found = within_correlation([0.1] * 6, range(6), [0, 0, 0, 1, 1, 1], rng=rng())
    assert np.isnan(found.value)


def test_style_share_recovers_a_planted_share_and_covers_it():
    noise = rng()
    prompt = np.repeat(np.arange(600), 3)
    features = noise.normal(size=(1800, 4))
    score = features @ [0.6, 0.0, 0.3, 0.0] + np.sqrt(0.55) * noise.normal(size=1800)
    found = style_share(score + noise.normal(size=600)[prompt], features, prompt, rng=rng())
    assert found.low < 0.45 < found.high
    assert found.high - found.low < 0.1


def test_style_share_of_noise_is_not_above_zero():
    noise = rng()
    prompt = np.repeat(np.arange(40), 2)
    found = style_share(noise.normal(size=80), noise.normal(size=(80, 10)), prompt, rng=rng())
    assert found.value < 0.05
    # R^2 of a fit to the same data would be 10 / 40 by chance.


def test_style_share_equals_cross_validated_r_squared():
    """As many folds as prompts, so that the draw of folds does not matter."""
    noise = rng()
    prompt = np.repeat(np.arange(12), 2)
    features, score = noise.normal(size=(24, 2)), noise.normal(size=24)
    found = style_share(score, features, prompt, rng=rng(), num_folds=12)
    half = np.stack([x[::2] - x[1::2] for x in (*features.T, score)], axis=1) / 2
    predicted = cross_val_predict(
        LinearRegression(fit_intercept=False), half[:, :2], half[:, 2], cv=KFold(12)
    )
    expected = 1 - ((half[:, 2] - predicted) ** 2).sum() / (half[:, 2] ** 2).sum()
    assert found.value == pytest.approx(expected)


def test_style_share_refuses_one_answer_a_prompt():
    with pytest.raises(ValueError, match="do not vary within a prompt"):
        style_share([1.0, 2.0, 3.0], [1.0, 2.0, 4.0], [0, 1, 2], rng=rng(), num_folds=3)


def test_what_was_not_measured_is_refused_and_not_taken_for_no_difference():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="a difference or is_right is NaN"):
        matched_accuracy([1, 0, 1], [1, -1, np.nan], rng=rng)
    scores, prompts = [1.0, 2.0, 3.0, 5.0], ["a", "a", "b", "b"]
    with pytest.raises(ValueError, match="a score or a feature is NaN"):
        within_correlation(scores, [1, 2, np.nan, 4], prompts, rng=rng)
    with pytest.raises(ValueError, match="a score or a feature is NaN"):
        style_share(scores, [[1, 2], [2, 1], [3, np.inf], [4, 0]], prompts, rng=rng, num_folds=2)


def test_balanced_weights_let_the_sign_of_the_difference_predict_nothing():
    noise = rng(3)
    gaps = noise.normal(1.0, 2.0, size=400).round(1)
    given = noise.uniform(0.5, 2.0, size=400)
    weights = balancing_weights(gaps, given, num_strata=4)
    sizes = np.abs(gaps)
    edges = np.quantile(sizes[sizes > 0], [0.25, 0.5, 0.75])
    stratum = np.searchsorted(edges, sizes, side="left")
    for number in range(4):
        inside = (stratum == number) & (gaps != 0)
        longer, shorter = weights[inside & (gaps > 0)].sum(), weights[inside & (gaps < 0)].sum()
        assert longer == pytest.approx(shorter)
        assert longer + shorter == pytest.approx(given[inside].sum())
    assert np.array_equal(weights[gaps == 0], given[gaps == 0])


def test_balanced_weights_of_one_stratum_are_those_of_balanced_classes():
    gaps = np.array([3, 1, 2, 5, 4, -2, -1], dtype=float)
    classes = compute_class_weight("balanced", classes=np.array([-1, 1]), y=np.sign(gaps))
    wanted = np.where(gaps > 0, classes[1], classes[0])
    np.testing.assert_allclose(balancing_weights(gaps, num_strata=1), wanted)


def test_a_stratum_of_one_kind_has_no_weight_and_all_of_one_kind_are_refused():
    gaps = np.array([1, -1, 1, -1, 9, 10], dtype=float)
    weights = balancing_weights(gaps, num_strata=2)
    assert weights[4:].tolist() == [0, 0]
    assert weights[:4].sum() > 0
    with pytest.raises(ValueError, match="3 have the larger answer chosen, and no stratum has"):
        balancing_weights([1, 2, 3])
    with pytest.raises(ValueError, match="3 differences with 2 weights"):
        balancing_weights([1, 2, -3], [1, 1])


def test_the_slope_within_prompts_takes_the_correlation_away():
    noise = rng(4)
    prompts = np.repeat(np.arange(50), 4)
    length = noise.normal(size=200) + prompts
    scores = 0.7 * length - 3.0 * prompts + noise.normal(size=200)
    slope = within_slope(scores, length, prompts)
    dummies = np.hstack([length[:, None], prompts[:, None] == np.arange(50)])
    assert slope == pytest.approx(
        LinearRegression(fit_intercept=False).fit(dummies, scores).coef_[0]
    )
    left = within_correlation(scores - slope * length, length, prompts, rng=rng(), num_resamples=2)
    assert left.value == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="does not vary within a prompt"):
        within_slope([1.0, 2.0], [3.0, 4.0], [0, 1])


def test_spline_basis_holds_every_natural_spline_through_its_knots() -> None:
    x = np.random.default_rng(0).normal(size=400)
    knots = np.quantile(x, [0.05, 0.275, 0.5, 0.725, 0.95])
    natural = CubicSpline(knots, np.sin(3 * knots), bc_type="natural")
    inside = (x >= knots[0]) & (x <= knots[-1])
    table = np.column_stack([np.ones(len(x)), spline_basis(x)])
    fitted = np.linalg.lstsq(table[inside], natural(x[inside]), rcond=None)[0]
    np.testing.assert_allclose(table[inside] @ fitted, natural(x[inside]), atol=1e-9)
    # and beyond the knots each column is a line
    ends = spline_basis(np.concatenate([x, [10.0, 11.0, 12.0, -10.0, -11.0, -12.0]]))
    for rows in (ends[-6:-3], ends[-3:]):
        np.testing.assert_allclose(rows[1] - rows[0], rows[2] - rows[1], rtol=1e-6)


def planted(
    seed: int, curve: float, num: int = 600, answers: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Quality, log length, scores that follow both, and prompts, some with longer answers."""
    rng = np.random.default_rng(seed)
    prompts = np.repeat(np.arange(num), answers)
    length = 4 + 0.5 * rng.normal(size=num)[prompts] + rng.normal(size=num * answers)
    quality = rng.normal(size=num * answers)
    scores = quality + rng.normal(size=num)[prompts] + curve * np.tanh(2 * (length - 4))
    return quality, length, scores, prompts


def in_order(scores: np.ndarray, quality: np.ndarray) -> float:
    pairs = scores.reshape(-1, 4), quality.reshape(-1, 4)
    first, second = (one[:, 0] - one[:, 1] for one in pairs)
    return float(np.mean(np.sign(first) == np.sign(second)))


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_curve_of_length_is_taken_off_and_quality_shows(seed: int) -> None:
    quality, length, scores, prompts = planted(seed, curve=1.5)
    found = without_curve(scores, length, prompts, rng=np.random.default_rng(0))
    before, after = (
        within_correlation(one, length, prompts, rng=np.random.default_rng(0))
        for one in (scores, found)
    )
    assert before.low > 0.5
    assert after.low < 0 < after.high
    assert abs(after.value) < 0.05
    assert in_order(found, quality) > in_order(scores, quality) + 0.15
    # a line leaves the bends of the curve
    straight = scores - within_slope(scores, length, prompts) * length
    assert in_order(found, quality) > in_order(straight, quality) + 0.02


def test_without_a_curve_nothing_is_lost() -> None:
    quality, length, scores, prompts = planted(0, curve=0.0)
    found = without_curve(scores, length, prompts, rng=np.random.default_rng(0))
    assert abs(in_order(found, quality) - in_order(scores, quality)) < 0.01


def test_a_curve_needs_prompts_and_a_feature_that_varies() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="there are 2 prompts; 5 folds need as many"):
        without_curve([1, 2, 3, 4], [1, 2, 3, 4], [0, 0, 1, 1], rng=rng)
    with pytest.raises(ValueError, match="does not vary within a prompt"):
        without_curve(range(12), np.arange(12) // 2, np.arange(12) // 2, rng=rng)


def test_a_curve_that_few_answers_would_bend_at_will_is_refused() -> None:
    """Of 10 pairs it would take 10 points of accuracy off scores that do not follow length."""
    rng = np.random.default_rng(0)
    for num in (10, 39):
        length, scores = rng.normal(size=(2, 2 * num))
        with pytest.raises(ValueError, match=f"{num} answers more than prompts; a curve needs 40"):
            without_curve(scores, length, np.arange(2 * num) // 2, rng=rng)


@pytest.mark.parametrize("num_pairs", [40, 80, 120, 160])
def test_a_curve_of_few_answers_is_so_plain_that_it_costs_a_point(num_pairs: int) -> None:
    """Of scores that do not follow length; with four columns it took three points off 40 pairs."""
    rng, lost = np.random.default_rng(0), []
    prompts = np.arange(2 * num_pairs) // 2
    for _ in range(200):
        quality, length, noise = rng.normal(size=(3, 2 * num_pairs))
        scores = quality + 0.5 * noise
        found = without_curve(scores, length, prompts, rng=rng)
        lead, own, left = (one[::2] - one[1::2] for one in (quality, scores, found))
        lost.append(np.mean(lead * own > 0) - np.mean(lead * left > 0))
    assert np.mean(lost) < 0.015
