"""Strengths of candidates from a table of who beat whom."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.csgraph import connected_components


def bradley_terry_strengths(
    wins: ArrayLike, *, tolerance: float = 1e-10, max_steps: int = 100_000
) -> NDArray[np.float64]:
    """Maximum-likelihood strengths, geometric mean 1: i beats j with odds ``p_i`` to ``p_j``.

    ``wins[i, j]`` counts how often i beat j; a tie is half a win for each. Log strengths change by
    less than ``tolerance`` in the last step. Raises ``ValueError`` unless every candidate is linked
    to every other by a chain of wins, without which the strengths are infinite, and
    ``ArithmeticError`` when ``max_steps`` do not suffice. Hunter 2004, "MM algorithms for
    generalized Bradley-Terry models", equation 3.
    """
    table = np.asarray(wins, dtype=float)
    _refuse_unlinked(table)
    num_games = table + table.T
    num_wins = table.sum(axis=1) - table.diagonal()
    np.fill_diagonal(num_games, 0.0)
    log_strengths = np.zeros(len(table))
    for _ in range(max_steps):
        strengths = np.exp(log_strengths)
        expected = (num_games / np.add.outer(strengths, strengths)).sum(axis=1)
        updated = np.log(num_wins) - np.log(expected)
        updated -= updated.mean()
        change = np.abs(updated - log_strengths).max()
        log_strengths = updated
        if change < tolerance:
            return np.asarray(np.exp(log_strengths))
    raise ArithmeticError(
        f"strengths still changed by {change:.2g} after {max_steps} steps; the table is almost "
        "unlinked; add comparisons between its groups or raise max_steps"
    )


def _refuse_unlinked(table: NDArray[np.float64]) -> None:
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not (table >= 0).all():
        raise ValueError(
            f"wins has shape {table.shape}; it must be square with counts of at least 0"
        )
    num_groups, group = connected_components(table, directed=True, connection="strong")
    if num_groups != 1:
        raise ValueError(
            f"candidates fall into {num_groups} groups {group.tolist()} that never beat each other "
            "in both directions; strengths are finite only within one; add comparisons or rank "
            "each group alone"
        )
