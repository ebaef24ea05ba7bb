import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression

from heedful.stats.logistic import fit_logistic


def sample(seed, num=200):
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(num, 3))
    outcomes = (rng.random(num) < 1 / (1 + np.exp(-design @ [1.0, -0.5, 0.0]))).astype(float)
    return design, outcomes, rng.uniform(0.5, 2, num), rng.integers(0, 30, num)


def test_coefficients_equal_sklearn():
    design, outcomes, weights, cluster = sample(0)
    fit = fit_logistic(csr_array(design), outcomes, weights=weights, cluster=cluster)
    peer = LogisticRegression(C=1e10, fit_intercept=False, tol=1e-10, max_iter=1000)
    expected = peer.fit(design, outcomes, sample_weight=weights).coef_[0]
    np.testing.assert_allclose(fit.coefficients, expected, atol=1e-4)


def test_covariance_equals_a_loop_over_clusters():
    design, outcomes, weights, cluster = sample(1)
    fit = fit_logistic(csr_array(design), outcomes, weights=weights, cluster=cluster)
    beta = fit.coefficients
    share = 1 / (1 + np.exp(-design @ beta))
    information, meat = np.zeros((3, 3)), np.zeros((3, 3))
    for row, p, w in zip(design, share, weights, strict=True):
        information += w * p * (1 - p) * np.outer(row, row)
    names = np.unique(cluster)
    for name in names:
        score = sum(
            weights[i] * (outcomes[i] - share[i]) * design[i]
            for i in np.flatnonzero(cluster == name)
        )
        meat += np.outer(score, score) * len(names) / (len(names) - 1)
    bread = np.linalg.inv(information)
    np.testing.assert_allclose(fit.by_cluster, bread @ meat @ bread, rtol=1e-8)
    assert fit.num_clusters == len(names)


def test_one_cluster_says_nothing_of_the_error():
    design, outcomes, weights, _ = sample(0)
    one = np.zeros(len(outcomes), dtype=int)
    fit = fit_logistic(csr_array(design), outcomes, weights=weights, cluster=one)
    assert fit.num_clusters == 1
    assert np.isfinite(fit.coefficients).all()
    assert np.isnan(fit.reach(np.eye(3), 0.95)).all()


@pytest.mark.parametrize("design", [[[1.0], [-1.0]], [[1.0, 1.0], [1.0, 1.0]]])
def test_a_fit_without_a_finite_maximum_is_refused(design):
    rows = csr_array(np.array(design))
    with pytest.raises(ValueError, match="no single finite maximum"):
        fit_logistic(rows, np.array([1.0, 0.0]), weights=np.ones(2), cluster=np.arange(2))
