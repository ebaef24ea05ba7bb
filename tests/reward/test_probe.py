import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from heedful.reward.probe import fit_probe, solve


def simulated(pairs: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.array([1.5, -1.0, 0.5, 0.0, 0.0])
    features = rng.normal(size=(pairs, 5)) * np.array([1.0, 50.0, 0.02, 1.0, 1.0])
    utility = (features / np.array([1.0, 50.0, 0.02, 1.0, 1.0])) @ truth
    sign = np.where(utility > 0, 1.0, -1.0) * np.where(rng.random(pairs) < noise, -1.0, 1.0)
    return features * sign[:, None], np.arange(pairs) // 4, truth


def test_probe_equals_logistic_regression_without_intercept() -> None:
    differences, _, _ = simulated(400, 0.2, 0)
    scaled = differences / np.sqrt((differences**2).mean(axis=0))
    l2 = 0.1
    ours = solve(scaled, l2)
    both = np.concatenate([scaled, -scaled])
    labels = np.repeat([1, 0], len(scaled))
    model = LogisticRegression(
        C=1 / (l2 * len(both)), fit_intercept=False, tol=1e-10, max_iter=10_000
    ).fit(both, labels)
    np.testing.assert_allclose(ours, model.coef_[0], atol=1e-4)


def test_probe_orders_new_pairs_through_label_noise_and_odd_scales() -> None:
    differences, groups, _ = simulated(2000, 0.1, 1)
    probe = fit_probe(differences, groups)
    fresh, _, _ = simulated(2000, 0.0, 2)
    assert np.mean(fresh @ probe.weight > 0) > 0.95


def test_probe_on_shuffled_labels_ranks_new_pairs_at_chance() -> None:
    fresh, _, _ = simulated(1000, 0.0, 100)
    rates = []
    for seed in range(30):
        differences, groups, _ = simulated(80, 0.5, seed)
        rates.append(np.mean(fresh @ fit_probe(differences, groups).weight > 0))
    # one direction drawn at random may rank anything from 0 to 1; its mean is one half
    assert np.mean(rates) == pytest.approx(0.5, abs=3 * np.std(rates) / np.sqrt(len(rates)))


def test_more_noise_brings_more_shrinkage() -> None:
    clean = fit_probe(*simulated(300, 0.05, 5)[:2])
    noisy = fit_probe(*simulated(300, 0.4, 5)[:2])
    assert noisy.l2 >= clean.l2
    assert noisy.nll > clean.nll


def test_one_prompt_alone_gets_the_strongest_penalty_available() -> None:
    differences, _, _ = simulated(3, 0.0, 6)
    probe = fit_probe(differences, np.zeros(3, dtype=np.int64))
    assert np.isfinite(probe.weight).all()


def test_a_pair_of_weight_three_is_three_pairs() -> None:
    differences, groups, _ = simulated(60, 0.2, 7)
    weights = np.where(np.arange(60) % 3 == 0, 3.0, 1.0)
    repeated = np.repeat(differences, weights.astype(int), axis=0)
    np.testing.assert_allclose(
        solve(differences, 0.1, weights), solve(repeated, 0.1), rtol=1e-3, atol=1e-5
    )
    assert not np.allclose(solve(differences, 0.1), solve(repeated, 0.1), rtol=1e-3)
    equal = fit_probe(differences, groups, np.full(60, 0.5))
    np.testing.assert_allclose(equal.weight, fit_probe(differences, groups).weight, rtol=1e-4)


def test_a_covariate_that_decides_stays_out_of_the_probe() -> None:
    rng = np.random.default_rng(8)
    quality, style = rng.normal(size=(2, 3000))
    wins = rng.random(3000) < expit(quality + 2.0 * style)
    sign = np.where(wins, 1.0, -1.0)
    seen = np.stack([quality, style + 0.1 * rng.normal(size=3000)], axis=1) * sign[:, None]
    groups = np.arange(3000)
    naive = fit_probe(seen, groups).weight
    freed = fit_probe(np.column_stack([seen, sign * style]), groups, num_free=1).weight
    assert naive[1] / naive[0] > 1.5
    assert abs(freed[1] / freed[0]) < 0.3
