"""The estimate that goes with an optimal design: penalised likelihood, put into a ball.

Steps 4 and 5 of ODPO, after the labels of ``select.optimal`` are in. Scheid et al. 2024
(arXiv:2410.17055).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit

from heedful.select.simulation import fit_weights

Array = NDArray[np.float64]
FLAT = 1e-4  # slope of the distance, as a share of it where the search starts


def projected_weights(
    differences: ArrayLike,
    is_first: ArrayLike,
    *,
    radius: float = 1.0,
    ridge: float | None = None,
) -> Array:
    """Weights of a linear reward of norm ``radius`` at most, from answers to pairs, shape [D].

    A row of ``differences`` [N, D] is the features of one answer less those of another to the same
    prompt, ``is_first[n]`` whether the first was preferred. The penalised maximum w of the
    likelihood stays where its norm is small enough; otherwise it is replaced by the point of the
    ball that predicts most nearly what it predicts: ``argmin |H(u) - H(w)|`` in the norm of
    ``V^-1``, with ``H(u) = ridge u + sum_n sigmoid(u b_n) b_n`` and ``V = ridge I + sum_n b_n
    b_n^T``. The regret bound is proved for this point, and not for w shortened. ``ridge`` is 1 / D
    by default, as in the paper, where features and weights lie in the unit ball: scale features so
    that ``radius`` bounds the weights.

    Raises ``ValueError`` for shapes that differ and for a radius or ridge that is not above 0,
    ``ArithmeticError`` when the search does not end. Scheid et al. 2024 (arXiv:2410.17055), steps 4
    and 5 of their algorithm; how they search is not said, here it is L-BFGS from w shortened.
    """
    rows, first = np.asarray(differences, dtype=float), np.asarray(is_first, dtype=bool)
    if rows.ndim != 2 or first.shape != rows.shape[:1]:
        raise ValueError(
            f"differences have shape {rows.shape} and is_first {first.shape}; give [N, D] and [N]"
        )
    penalty = 1 / rows.shape[1] if ridge is None else ridge
    if not (radius > 0 and penalty > 0):
        raise ValueError(f"radius is {radius} and ridge {penalty}; both must be above 0")
    weights = fit_weights(rows, first, ridge=penalty)
    if np.linalg.norm(weights) <= radius:
        return weights
    root = np.linalg.cholesky(np.linalg.inv(penalty * np.eye(rows.shape[1]) + rows.T @ rows))

    def on_sphere(free: Array) -> tuple[float, Array]:
        """Squared distance at ``radius free / |free|``, and its gradient.

        H has no stationary distance but at w, as its slope is positive definite, so the nearest
        point of the ball is on its surface.
        """
        size = float(np.linalg.norm(free))
        at = radius * free / size
        chance = expit(rows @ at)
        gap = root.T @ (penalty * (at - weights) + rows.T @ (chance - expit(rows @ weights)))
        bend = rows.T @ ((chance * (1 - chance))[:, None] * rows) + penalty * np.eye(len(at))
        slope = 2 * bend @ (root @ gap)
        along = at / radius
        return float(gap @ gap), radius / size * (slope - (slope @ along) * along)

    start = on_sphere(weights)[0]
    found = minimize(
        lambda free: tuple(one / start for one in on_sphere(free)),
        weights,
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 1e-14, "gtol": 1e-10},
    )
    # rounding ends many a search before these tolerances, and calls it abnormal
    if not (found.success or np.linalg.norm(found.jac) < FLAT):
        raise ArithmeticError(f"the projection does not end: {found.message}; scale the features")
    return np.asarray(radius * found.x / np.linalg.norm(found.x))
