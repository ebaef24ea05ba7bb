import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from heedful.reward.part_probe import fit_flag
from heedful.reward.probe import L2_GRID


def test_a_flag_starts_at_regularised_logistic_regression_with_an_intercept() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(600, 4)) * [1, 30, 0.1, 1] + [0, 5, 2, 0]
    raised = rng.random(600) < 1 / (1 + np.exp(-(1.5 * states[:, 0] - 2.5)))
    groups = np.arange(600) // 3
    weight, bias = fit_flag(states, raised, groups)
    mean, scale = states.mean(axis=0), states.std(axis=0)
    errors = []
    for l2 in L2_GRID:  # the penalty is chosen by held-out prompts, so it is one of these
        oracle = LogisticRegression(C=1 / (l2 * 600), tol=1e-10, max_iter=10_000)
        oracle.fit((states - mean) / scale, raised)
        ours = np.append(weight * scale, mean @ weight + bias)
        errors.append(np.abs(ours - np.append(oracle.coef_[0], oracle.intercept_)).max())
    assert min(errors) < 1e-3
    assert sorted(errors)[1] > 0.01


def test_the_probabilities_of_a_rare_flag_have_its_rate() -> None:
    rng = np.random.default_rng(1)
    raised = rng.random(1000) < 0.03
    states = rng.normal(size=(1000, 3)) + raised[:, None]
    weight, bias = fit_flag(states, raised, np.arange(1000))
    rate = (1 / (1 + np.exp(-(states @ weight + bias)))).mean()
    assert rate == pytest.approx(raised.mean(), abs=1e-3)
