"""The small reward network: its gradient, what it can learn, and what it must not claim."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from heedful.stats.feature_network import (
    cross_validate,
    fit_feature_network,
    loss_and_gradient,
)
from heedful.stats.intervals import wilson


def planted(seed, *, num=900, shuffled=False):
    """People like feature 0 to be near 0, which no straight line can say; 1 and 2 are noise."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, num, 3))
    score = 6 * (np.exp(-(first[:, 0] ** 2)) - np.exp(-(second[:, 0] ** 2)))
    wins = rng.random(num) < (0.5 if shuffled else 1 / (1 + np.exp(-score)))
    chosen = np.where(wins[:, None], first, second)
    rejected = np.where(wins[:, None], second, first)
    return chosen, rejected, np.arange(num) // 2, rng


def test_the_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(0)
    chosen, rejected = rng.normal(size=(2, 7, 4))
    parameters = rng.normal(size=3 * 6)
    _, gradient = loss_and_gradient(parameters, chosen, rejected, 0.7, 3)
    numeric = approx_fprime(
        parameters, lambda p: loss_and_gradient(p, chosen, rejected, 0.7, 3)[0], 1e-7
    )
    np.testing.assert_allclose(gradient, numeric, atol=1e-5)


def test_the_loss_of_a_network_that_says_nothing_is_log_2_a_pair():
    loss, _ = loss_and_gradient(np.zeros(18), np.ones((5, 4)), np.zeros((5, 4)), 1.0, 3)
    assert loss == pytest.approx(5 * np.log(2))


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_curve_is_learnt_and_seen_in_what_it_looks_at(seed):
    chosen, rejected, prompts, rng = planted(seed)
    held = cross_validate(chosen, rejected, prompts, baseline=1, rng=rng)
    assert held.accuracy.low > 0.6
    assert held.baseline.low < 0.5 < held.baseline.high
    assert held.importance[0].low > 0.1
    assert all(one.high < 0.05 for one in held.importance[1:])


def test_on_shuffled_labels_the_interval_covers_one_half():
    covered = 0
    for seed in range(10):
        chosen, rejected, prompts, rng = planted(seed, num=300, shuffled=True)
        accuracy = cross_validate(
            chosen, rejected, prompts, baseline=0, rng=rng, num_shuffles=1
        ).accuracy
        covered += accuracy.low <= 0.5 <= accuracy.high
    assert covered >= 8


def test_pairs_that_a_prompt_repeats_do_not_make_accuracy_more_certain():
    chosen, rejected, prompts, rng = planted(0, num=200)
    copied = (np.repeat(side, 6, axis=0) for side in (chosen, rejected, prompts))
    held = cross_validate(*copied, baseline=1, rng=rng, num_shuffles=1)
    for one in (held.accuracy, held.baseline):
        naive = wilson(one.value * one.num, one.num)
        assert one.high - one.low > 2 * (naive.high - naive.low)


def test_fewer_prompts_than_folds_are_refused():
    with pytest.raises(ValueError, match="4 prompts"):
        cross_validate(
            np.ones((4, 1)), np.zeros((4, 1)), np.arange(4),
            baseline=0, rng=np.random.default_rng(0),
        )  # fmt: skip


def test_a_feature_that_is_equal_everywhere_says_nothing_of_answers_where_it_is_not():
    chosen, rejected, _, rng = planted(0)
    constant = np.full((len(chosen), 1), np.log1p(1.0))
    assert np.concatenate([constant, constant]).std() > 0  # by rounding
    network = fit_feature_network(
        np.hstack([chosen, constant]), np.hstack([rejected, constant]), rng=rng
    )
    other = np.hstack([chosen, constant * 0])
    np.testing.assert_allclose(
        network.score(other), network.score(np.hstack([chosen, constant])), atol=1e-3
    )
