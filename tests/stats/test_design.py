import numpy as np
import pytest

from heedful.stats.design import kiefer_wolfowitz


def test_optimal_design_of_a_parabola_matches_golden_numbers():
    x = np.linspace(-1, 1, 9)
    features = np.stack([np.ones_like(x), x, x**2], axis=1)
    weights = kiefer_wolfowitz(features, tolerance=1e-5)
    np.testing.assert_allclose(weights, np.isin(x, [-1, 0, 1]) / 3, atol=1e-3)
    information = features.T @ (weights[:, None] * features)
    variance = np.einsum("id,de,ie->i", features, np.linalg.inv(information), features)
    assert variance.max() == pytest.approx(3, rel=1e-5)


def test_optimal_design_of_orthogonal_rows_is_uniform():
    np.testing.assert_allclose(kiefer_wolfowitz(np.diag([1.0, 5.0, 0.1])), 1 / 3)


def test_optimal_design_does_not_depend_on_the_basis():
    rng = np.random.default_rng(0)
    features, basis = rng.normal(size=(30, 4)), rng.normal(size=(4, 4))
    expected = kiefer_wolfowitz(features)
    np.testing.assert_allclose(kiefer_wolfowitz(features @ basis), expected, atol=1e-9)


def test_optimal_design_has_a_larger_determinant_than_any_random_one():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 4))

    def log_det(weights):
        return np.linalg.slogdet(features.T @ (weights[:, None] * features))[1]

    best = log_det(kiefer_wolfowitz(features))
    assert best > max(log_det(rng.dirichlet(np.ones(30))) for _ in range(200))


def test_optimal_design_refuses_rows_that_do_not_span():
    with pytest.raises(ValueError, match="span 1 of 2 dimensions"):
        kiefer_wolfowitz([[1.0, 1.0], [2.0, 2.0]])


def test_optimal_design_says_when_the_steps_do_not_suffice():
    with pytest.raises(ArithmeticError, match="after 1 steps"):
        kiefer_wolfowitz(np.random.default_rng(0).normal(size=(30, 4)), max_steps=1)
