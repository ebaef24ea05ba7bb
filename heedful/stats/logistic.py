"""Logistic regression with a covariance that does not believe the model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from heedful.stats.intervals import student_quantile

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogisticFit:
    """Coefficients and how surely they are known. Made by ``fit_logistic``.

    ``by_cluster[f, g]`` and ``by_row[f, g]`` are covariances that take clusters, or rows, as
    independent; NaN when there is only one. ``LogisticFit(coefficients=array([0.4]),
    by_cluster=array([[0.02]]), by_row=array([[0.01]]), num_clusters=30)``
    """

    coefficients: Array
    by_cluster: Array
    by_row: Array
    num_clusters: int

    def errors(self, contrasts: Array) -> Array:
        """Standard errors of ``contrasts[i, f] @ coefficients[f]``; NaN for fewer than 2 clusters.

        Never smaller than independent rows would have, so that a few clusters which happen to be
        alike do not look certain.
        """
        variances = [
            np.einsum("if,fg,ig->i", contrasts, covariance, contrasts)
            for covariance in (self.by_cluster, self.by_row)
        ]
        return np.asarray(np.sqrt(np.maximum(*variances)))

    def reach(self, contrasts: Array, confidence: float) -> Array:
        """How far the intervals of these contrasts reach to each side: Student's, G - 1 degrees.

        With two clusters a normal interval would miss the truth in one of three cases.
        """
        return self.errors(contrasts) * student_quantile(confidence, self.num_clusters - 1)


def fit_logistic(
    design: csr_array,
    outcomes: Array,
    *,
    weights: Array,
    cluster: NDArray[np.int64],
    max_steps: int = 100,
) -> LogisticFit:
    """Coefficients of ``P(outcome) = sigmoid(design @ coefficients)`` and their covariances.

    ``outcomes`` from 0 to 1, one a row; ``weights`` above 0. A covariance is the sandwich of the
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
            _, group = np.unique(cluster, return_inverse=True)
            scores = design.multiply((weights * (outcomes - share))[:, None])
            return LogisticFit(
                coefficients=coefficients,
                by_cluster=_sandwich(information, scores, group),
                by_row=_sandwich(information, scores, np.arange(len(group))),
                num_clusters=int(group.max()) + 1,
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


def _sandwich(information: Array, scores: csr_array, group: NDArray[np.int64]) -> Array:
    num_groups = int(group.max()) + 1
    if num_groups < 2:
        return np.full_like(information, np.nan)
    rows = np.arange(len(group))
    members = csr_array((np.ones(len(group)), (group, rows)), shape=(num_groups, len(group)))
    by_group = members @ scores
    meat = (by_group.T @ by_group).toarray() * num_groups / (num_groups - 1)
    bread = np.linalg.inv(information)
    return np.asarray(bread @ meat @ bread)
