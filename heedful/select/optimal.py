"""The exact D-optimal design over comparisons, with its certificate and its rounding.

The first steps of ODPO: which pairs to label, and how often, before any label is known. Scheid et
al. 2024 (arXiv:2410.17055).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
REFRESH = 200  # steps after which updated inverses are computed anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Shares of the labels by pair. Made by ``optimal_design``, spent by ``label_counts``.

    ``weights`` sum to 1; ``dimension`` is that of the span of the pairs. ``excess`` is the
    certificate ``g / d - 1`` with ``g = max_b b^T V^-1 b``: 0 only at the optimum, and ``log det
    V`` is at most ``d log(1 + excess)`` below it. ``Design(weights=array([0.5, 0.5]), dimension=2,
    excess=0.0)``
    """

    weights: Array
    dimension: int
    excess: float


def optimal_design(
    differences: ArrayLike, *, tolerance: float = 1e-2, max_steps: int = 100_000
) -> Design:
    """Weights that maximise ``log det V``, ``V = sum_b w_b b b^T``, over features of pairs.

    A row of ``differences`` is the features of one answer less those of another to the same prompt.
    Rows are taken in the span of all of them, where V has an inverse. By the equivalence theorem
    the optimum is where ``g = d``; stops at ``g <= (1 + tolerance) d``. Frank-Wolfe with exact line
    search and away steps from a start of at most 2 d pairs, so few pairs get a weight at all, which
    rounding needs; ``heedful.stats.design`` finds the same optimum with a weight on every row.
    Raises ``ValueError`` without a row that is not 0 and ``ArithmeticError`` when ``max_steps`` do
    not suffice. Kiefer and Wolfowitz 1960; Todd and Yildirim 2007 for the algorithm; the paper
    prints ``sqrt(1 + tolerance) d`` for the stop and takes no away steps.
    """
    rows = _in_span(np.asarray(differences, dtype=float))
    dimension = rows.shape[1]
    weights = _start(rows)
    for step in range(max_steps):
        if step % REFRESH == 0:
            inverse, variance = _invert(rows, weights)
        if variance.max() <= (1 + tolerance) * dimension:
            # The certificate is of what is returned, not of updated numbers.
            inverse, variance = _invert(rows, weights)
            excess = float(variance.max() / dimension - 1)
            if excess <= tolerance:
                return Design(weights=weights, dimension=dimension, excess=max(excess, 0.0))
        pair, size = _direction(weights, variance, dimension)
        inverse, variance = _move(rows, inverse, variance, pair, size)
        weights = (1 - size) * weights
        weights[pair] = max(weights[pair] + size, 0.0)
    raise ArithmeticError(
        f"the largest variance is {variance.max():.4g} after {max_steps} steps, above "
        f"{(1 + tolerance) * dimension:.4g}; raise tolerance or max_steps"
    )


def label_counts(design: Design, num_labels: int) -> NDArray[np.int64]:
    """``ceil(num_labels w_b)`` labels for each pair: the paper's rounding.

    Their sum is above ``num_labels`` by less than the number of pairs with a weight. Raises
    ``ValueError`` below 1 label.
    """
    if num_labels < 1:
        raise ValueError(f"num_labels is {num_labels}; it must be at least 1")
    # 1e-9 keeps rounding from buying a label.
    return np.ceil(num_labels * design.weights - 1e-9).astype(np.int64)


def label_sequence(design: Design, num_labels: int) -> NDArray[np.int64]:
    """Exactly ``num_labels`` pairs to label, in an order of which every start is a good design.

    The next pair is that with the largest ``w_b / n_b`` after n_b labels, those without a label
    first, the heaviest before: Adams's apportionment, which is the efficient rounding of Pukelsheim
    and Rieder 1992 from as many labels on as pairs have a weight.
    """
    support = np.flatnonzero(design.weights > 0)
    support = support[np.argsort(-design.weights[support], kind="stable")]
    weights, counts = design.weights[support], np.zeros(len(support))
    chosen = np.empty(num_labels, dtype=np.int64)
    for place in range(num_labels):
        best = place if place < len(support) else int(np.argmax(weights / counts))
        counts[best] += 1
        chosen[place] = support[best]
    return chosen


def _in_span(rows: Array) -> Array:
    """Coordinates of the rows in a basis of their span."""
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(f"differences have shape {rows.shape} or are not finite; give [pairs, d]")
    if not rows.any():
        raise ValueError("all differences are 0; give pairs of answers that differ in features")
    _, scales, basis = np.linalg.svd(rows, full_matrices=False)
    rank = int((scales > scales[0] * max(rows.shape) * np.finfo(float).eps).sum())
    # Unit scales keep V well conditioned and do not move the optimum.
    return np.asarray(rows @ basis[:rank].T / scales[:rank] * len(rows) ** 0.5)


def _start(rows: Array) -> Array:
    """Equal weights on pairs at the ends of d directions, each orthogonal to those before.

    Kumar and Yildirim 2005, for differences, whose ends are b and -b.
    """
    weights = np.zeros(len(rows))
    left = rows.copy()
    for _ in range(rows.shape[1]):
        pair = int(np.argmax((left**2).sum(axis=1)))
        weights[pair] = 1.0
        along = left[pair] / np.linalg.norm(left[pair])
        left -= np.outer(left @ along, along)
    return np.asarray(weights / weights.sum())


def _invert(rows: Array, weights: Array) -> tuple[Array, Array]:
    """``V^-1`` and ``b^T V^-1 b`` of every row."""
    inverse = np.linalg.inv(rows.T @ (weights[:, None] * rows))
    return np.asarray(inverse), np.asarray(np.einsum("nd,de,ne->n", rows, inverse, rows))


def _direction(weights: Array, variance: Array, dimension: int) -> tuple[int, float]:
    """The pair to move towards, or away from with a size below 0, and the best size of the step."""
    towards = int(np.argmax(variance))
    away = int(np.argmin(np.where(weights > 0, variance, np.inf)))
    if variance[towards] / dimension - 1 >= 1 - variance[away] / dimension:
        return towards, (variance[towards] / dimension - 1) / (variance[towards] - 1)
    to_zero = -weights[away] / (1 - weights[away])
    if variance[away] <= 1:
        return away, to_zero
    return away, max((variance[away] / dimension - 1) / (variance[away] - 1), to_zero)


def _move(
    rows: Array, inverse: Array, variance: Array, pair: int, size: float
) -> tuple[Array, Array]:
    """``V^-1`` and the variances at ``(1 - size) V + size b b^T`` (Sherman and Morrison)."""
    along = inverse @ rows[pair]
    share = size / (1 - size + size * variance[pair])
    inverse = (inverse - share * np.outer(along, along)) / (1 - size)
    return inverse, (variance - share * (rows @ along) ** 2) / (1 - size)
