"""Optimal design: how to spread a labelling budget so that a linear model is learned best."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def kiefer_wolfowitz(
    features: ArrayLike, *, tolerance: float = 1e-2, max_steps: int = 100_000
) -> NDArray[np.float64]:
    """Weights over rows, summing to 1, that maximise ``log det sum_i w_i x_i x_i^T``.

    By the equivalence theorem they also minimise the largest variance
    ``g = max_i x_i^T V^-1 x_i``, whose optimum is the dimension d; stops at
    ``g <= (1 + tolerance) d``. For comparisons pass differences of features within a prompt.
    Raises ``ValueError`` when the rows do not span the space and ``ArithmeticError`` when
    ``max_steps`` do not suffice. Kiefer and Wolfowitz 1960; multiplicative steps of Titterington
    1976, which improve every time and need no line search.
    """
    rows = np.asarray(features, dtype=float)
    num_rows, dimension = rows.shape
    rank = int(np.linalg.matrix_rank(rows))
    if rank < dimension:
        raise ValueError(
            f"the rows span {rank} of {dimension} dimensions; project them onto their span first"
        )
    weights = np.full(num_rows, 1 / num_rows)
    for _ in range(max_steps):
        information = rows.T @ (weights[:, None] * rows)
        variance = np.einsum("id,di->i", rows, np.linalg.solve(information, rows.T))
        if variance.max() <= (1 + tolerance) * dimension:
            return weights
        weights = weights * variance / dimension
    raise ArithmeticError(
        f"the largest variance is {variance.max():.4g} after {max_steps} steps, above "
        f"{(1 + tolerance) * dimension:.4g}; raise tolerance or max_steps"
    )
