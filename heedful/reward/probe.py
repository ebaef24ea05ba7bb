"""The linear probe that a reward model starts from: Bradley-Terry on frozen features.

A head that starts at its best value on the untouched base lets the adapter refine what is already
read, instead of dragging features towards a random direction (Kumar 2022, arXiv:2202.10054, probe
first, then fine-tune). Convex, so it converges in seconds where stochastic steps do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from heedful.data.collate import Advance, Tree, packed, silent
from heedful.model.forward import hidden_states, pool
from heedful.model.trunk import Trunk

Floats = NDArray[np.float64]
L2_GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
NUM_FOLDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The fitted head: weights on pooled states, the chosen penalty, its held-out NLL in nats."""

    weight: Floats
    l2: float
    nll: float


@torch.no_grad()
def warm_start(
    trunk: Trunk,
    trees: Sequence[Tree],
    *,
    max_tokens: int,
    across: Sequence[tuple[int, int]] = (),
    advance: Advance = silent,
) -> Probe:
    """Set the reward head to the probe; the adapter is new, so features are the base's.

    ``across`` are more pairs (better, worse) of response numbers that count through all trees, for
    answers that were judged alone. Raises ``ValueError`` without any pair.
    """
    differences, groups = pair_features(trunk, trees, max_tokens, advance, across)
    probe = fit_probe(differences, groups)
    head = trunk.heads["reward"]
    head.weight.copy_(torch.from_numpy(probe.weight)[None])
    head.bias.zero_()
    return probe


def pair_features(
    trunk: Trunk,
    trees: Sequence[Tree],
    max_tokens: int,
    advance: Advance,
    across: Sequence[tuple[int, int]] = (),
) -> tuple[Floats, NDArray[np.int64]]:
    """Pooled states of the better minus the worse side [P, D], and the tree of every pair."""
    rows = []
    for batch in packed(trees, trunk.device, max_tokens, advance):
        pooled = pool(hidden_states(trunk, batch, "reward"), batch, trunk.pooling["reward"])
        rows.append(pooled.cpu().numpy())
    states = np.concatenate(rows)
    sizes = [len(tree.responses) for tree in trees]
    firsts = np.cumsum([0, *sizes])
    within = [
        (int(first) + better, int(first) + worse)
        for first, tree in zip(firsts, trees, strict=False)
        for better, worse in tree.pairs
    ]
    pairs = np.array([*within, *across], dtype=np.int64).reshape(-1, 2)
    if not len(pairs):
        raise ValueError(f"{len(trees)} trees have 0 pairs; a probe needs at least 1")
    of_response = np.repeat(np.arange(len(trees)), sizes)
    differences = (states[pairs[:, 0]] - states[pairs[:, 1]]).astype(np.float64)
    return differences, of_response[pairs[:, 0]]


def fit_probe(differences: Floats, groups: NDArray[np.int64]) -> Probe:
    """Regularised logistic regression without intercept; the penalty by cross-validation.

    ``differences`` [P, D] are scaled to unit root mean square per dimension, so that a few large
    dimensions do not decide. Folds keep the pairs of one prompt together.
    """
    scale = np.sqrt(np.mean(differences**2, axis=0)) + 1e-12
    scaled = differences / scale
    folds = groups % NUM_FOLDS
    nll = {l2: cross_validate(scaled, folds, l2) for l2 in L2_GRID}
    best = min(nll, key=lambda l2: nll[l2])
    return Probe(weight=solve(scaled, best) / scale, l2=best, nll=nll[best])


def cross_validate(differences: Floats, folds: NDArray[np.int64], l2: float) -> float:
    """NLL of pairs whose prompt was left out; infinite when there is only one fold."""
    losses = [
        np.logaddexp(0.0, -(differences[folds == fold] @ solve(differences[folds != fold], l2)))
        for fold in range(NUM_FOLDS)
        if 0 < np.sum(folds == fold) < len(folds)
    ]
    return float(np.concatenate(losses).mean()) if losses else float("inf")


def solve(differences: Floats, l2: float) -> Floats:
    """Minimum of ``mean log(1 + exp(-x w)) + l2 / 2 |w|^2``."""

    def loss(weight: Floats) -> tuple[float, Floats]:
        margins = differences @ weight
        value = np.logaddexp(0.0, -margins).mean() + 0.5 * l2 * weight @ weight
        gradient = -(expit(-margins) @ differences) / len(margins) + l2 * weight
        return float(value), gradient

    start = np.zeros(differences.shape[1])
    result: Floats = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return result
