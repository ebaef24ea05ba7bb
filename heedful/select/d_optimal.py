"""Greedy D-optimal design: tasks in the order in which they teach a linear reward most."""

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

RIDGE = 1e-2
LARGEST_NORM_QUANTILE = 0.95


def design_gains(
    blocks: Sequence[ArrayLike],
    *,
    weights: ArrayLike | None = None,
    num_asked: int = 0,
    ridge: float = RIDGE,
) -> NDArray[np.float64]:
    """What each task adds to ``log det V`` when a greedy design comes to it; higher comes earlier.

    A block holds the features of a task's answers, shape [answers, dimension]; a task is asked for
    the differences of its answers, and for the answer itself when it shows one. The design starts
    from ``V = ridge I`` and the first ``num_asked`` tasks, whose gain is 0, and takes, again and
    again, the task whose differences b_1, b_2, ... raise ``log det (V + w sum b b^T)`` most, ties
    in the order given. As the function is submodular, gains fall along the design. Norms are scaled
    so that the quantile 0.95 of the largest norm of a task is 1, and clipped there: an outlier is
    not the most informative task. ``weights`` are positive, 1 for each unless given:
    ``pair_information`` for the answers to pairs.

    Mukherjee et al. 2024, arXiv 2404.13895, for lists; what they relax is greedy here.
    Raises ``ValueError`` for features of different dimensions or that are not finite.
    """
    directions = _scaled([_directions(np.asarray(block, dtype=float)) for block in blocks])
    if not directions:
        return np.zeros(0)
    if weights is not None:
        roots = np.sqrt(np.asarray(weights, dtype=float))
        directions = [root * rows for root, rows in zip(roots, directions, strict=True)]
    dimension = directions[0].shape[1]
    known = np.concatenate([np.zeros((0, dimension)), *directions[:num_asked]])
    inverse = np.linalg.inv(ridge * np.eye(dimension) + known.T @ known)
    # Gains only fall, so a task is looked at again only when its last gain is the largest.
    fresh = range(num_asked, len(directions))
    waiting = [(-_gain(inverse, directions[number]), number, 0) for number in fresh]
    heapq.heapify(waiting)
    gains = np.zeros(len(directions))
    num_taken = 0
    while waiting:
        _, number, seen = heapq.heappop(waiting)
        rows = directions[number]
        gain = _gain(inverse, rows)
        if seen < num_taken and waiting and (-gain, number) > waiting[0][:2]:
            heapq.heappush(waiting, (-gain, number, num_taken))
            continue
        gains[number] = gain
        inverse = _add(inverse, rows)
        num_taken += 1
    return gains


def pair_information(margins: ArrayLike) -> NDArray[np.float64]:
    """``4 p (1 - p)`` for the probability p of a margin in log-odds: 1 where nothing is known.

    In proportion to the Fisher information that the answer to a pair has on a linear reward in
    logistic regression: the D-optimal design of it is local to the reward so far (Chernoff 1953).
    """
    chance = expit(np.asarray(margins, dtype=float))
    information: NDArray[np.float64] = 4 * chance * (1 - chance)
    return information


def _directions(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows whose squares sum to those of all differences of a task's answers."""
    if block.ndim != 2 or not np.isfinite(block).all():
        raise ValueError(f"features have shape {block.shape} or are not finite; give [answers, d]")
    if len(block) == 1:
        return block
    rows: NDArray[np.float64] = len(block) ** 0.5 * (block - block.mean(axis=0))
    return rows


def _scaled(directions: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    if len({rows.shape[1] for rows in directions}) > 1:
        raise ValueError("features have different dimensions; take them from one model")
    norms = np.array([np.linalg.norm(rows) for rows in directions])
    limit = float(np.quantile(norms, LARGEST_NORM_QUANTILE)) if len(norms) else 0.0
    return [
        rows / max(norm, limit) if norm > 0 else rows
        for rows, norm in zip(directions, norms, strict=True)
    ]


def _gain(inverse: NDArray[np.float64], rows: NDArray[np.float64]) -> float:
    """``log det (V + R^T R) - log det V`` from the inverse of V."""
    inner = np.eye(len(rows)) + rows @ inverse @ rows.T
    return float(np.linalg.slogdet(inner)[1])


def _add(inverse: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of ``V + R^T R`` (Woodbury)."""
    reached = inverse @ rows.T
    inner = np.eye(len(rows)) + rows @ reached
    changed: NDArray[np.float64] = inverse - reached @ np.linalg.solve(inner, reached.T)
    return (changed + changed.T) / 2
