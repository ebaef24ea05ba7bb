"""Logistic regression with a covariance that does not believe the model."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

Array = NDArray[np.float64]


def fit_logistic(
    design: csr_array,
    outcomes: Array,
    *,
    weights: Array,
    cluster: NDArray[np.int64],
    max_steps: int = 100,
) -> tuple[Array, Array]:
    """Coefficients of ``P(outcome) = sigmoid(design @ coefficients)`` and their covariance.

    ``outcomes`` from 0 to 1, one a row; ``weights`` above 0. The covariance is the sandwich of the
    information and the sum of squared scores by ``cluster``, times G / (G - 1) for G clusters:
    right for fractional outcomes and for rows of a cluster that go together. Raises ``ValueError``
    when the likelihood has no single finite maximum. Huber 1967; Liang and Zeger 1986.
    """

    def loss(coefficients: Array) -> float:
        margin = design @ coefficients
        return float(weights @ (np.logaddexp(0, margin) - outcomes * margin))

    coefficients = np.zeros(design.shape[1])
    for _ in range(max_steps):
        share = expit(design @ coefficients)
        gradient = design.T @ (weights * (outcomes - share))
        information = _gram(design, weights * share * (1 - share))
        if np.linalg.cond(information) > 1e12:
            break
        step = np.linalg.solve(information, gradient)
        if np.abs(step).max() < 1e-9:
            return coefficients, _sandwich(
                information, design.multiply((weights * (outcomes - share))[:, None]), cluster
            )
        # Newton's step can overshoot where sigmoids are flat; the loss is convex, so halve it.
        before = loss(coefficients)
        while loss(coefficients + step) > before + 1e-12 * abs(before) + 1e-15:
            step = step / 2
        coefficients = coefficients + step
    raise ValueError(
        "the fit has no single finite maximum: a column decides outcomes alone, or repeats others; "
        "leave it out"
    )


def _gram(design: csr_array, weights: Array) -> Array:
    return np.asarray((design.T @ design.multiply(weights[:, None])).toarray())


def _sandwich(information: Array, scores: csr_array, cluster: NDArray[np.int64]) -> Array:
    _, group = np.unique(cluster, return_inverse=True)
    num_groups = int(group.max()) + 1
    rows = np.arange(len(group))
    members = csr_array((np.ones(len(group)), (group, rows)), shape=(num_groups, len(group)))
    by_group = members @ scores
    meat = (by_group.T @ by_group).toarray() * num_groups / max(1, num_groups - 1)
    bread = np.linalg.inv(information)
    return np.asarray(bread @ meat @ bread)
