"""The linear probe that a reward model starts from: Bradley-Terry on frozen features.

A head that starts at its best value on the untouched base lets the adapter refine what is already
read, instead of dragging features towards a random direction (Kumar 2022, arXiv:2202.10054, probe
first, then fine-tune). Convex, so it converges in seconds where stochastic steps do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

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
    answers that were judged alone. Pairs count by their weight, and what the style of answers
    explains (``Tree.style``) is left out of the head. Raises ``ValueError`` without any pair.
    """
    differences, groups = pair_features(trunk, trees, max_tokens, advance, across)
    style = pair_style(trees, across)
    weights = pair_weights(trees, len(across))
    probe = fit_probe(np.hstack([differences, style]), groups, weights, num_free=style.shape[1])
    return set_head(trunk, "reward", replace(probe, weight=probe.weight[: differences.shape[1]]))


@torch.no_grad()
def set_head(trunk: Trunk, role: str, probe: Probe) -> Probe:
    """Let a role's head start at the probe."""
    head = trunk.heads[role]
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
    states = pooled_states(trunk, trees, max_tokens, advance)
    return differences_of(states.cpu().numpy(), trees, across)


@torch.no_grad()
def pooled_states(
    trunk: Trunk,
    trees: Sequence[Tree],
    max_tokens: int,
    advance: Advance = silent,
    *,
    role: str = "reward",
) -> Float[Tensor, "R D"]:
    """What the role's head reads of the responses of all trees, in order."""
    rows = []
    for batch in packed(trees, trunk.device, max_tokens, advance):
        rows.append(pool(hidden_states(trunk, batch, role), batch, trunk.pooling[role]))
    return torch.cat(rows)


def differences_of(
    states: NDArray[np.float32], trees: Sequence[Tree], across: Sequence[tuple[int, int]] = ()
) -> tuple[Floats, NDArray[np.int64]]:
    """States [R, D] of the better minus the worse side [P, D], and the tree of every pair."""
    sizes = [len(tree.responses) for tree in trees]
    pairs = pair_places(trees, across)
    if not len(pairs):
        raise ValueError(f"{len(trees)} trees have 0 pairs; a probe needs at least 1")
    of_response = np.repeat(np.arange(len(trees)), sizes)
    differences = (states[pairs[:, 0]] - states[pairs[:, 1]]).astype(np.float64)
    return differences, of_response[pairs[:, 0]]


def pair_places(trees: Sequence[Tree], across: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """The better and the worse response of every pair [P, 2], numbered through all trees."""
    firsts = np.cumsum([0, *(len(tree.responses) for tree in trees)])
    within = [
        (int(first) + better, int(first) + worse)
        for first, tree in zip(firsts, trees, strict=False)
        for better, worse in tree.pairs
    ]
    return np.array([*within, *across], dtype=np.int64).reshape(-1, 2)


def pair_weights(trees: Sequence[Tree], num_across: int = 0) -> Floats:
    """The weight of every pair of ``pair_features`` [P]; those across trees have 1."""
    within = [weight for tree in trees for weight in tree.weights or (1.0,) * len(tree.pairs)]
    return np.array([*within, *(1.0,) * num_across])


def pair_style(trees: Sequence[Tree], across: Sequence[tuple[int, int]] = ()) -> Floats:
    """Style of the better minus the worse side of every pair [P, S]; S is 0 without any."""
    pairs = pair_places(trees, across)
    if not any(tree.style for tree in trees):
        return np.zeros((len(pairs), 0))
    style = np.array([row for tree in trees for row in tree.style])
    return np.asarray(style[pairs[:, 0]] - style[pairs[:, 1]])


def fit_probe(
    differences: Floats,
    groups: NDArray[np.int64],
    weights: Floats | None = None,
    *,
    num_free: int = 0,
) -> Probe:
    """Regularised logistic regression without intercept; the penalty by cross-validation.

    ``differences`` [P, D] are scaled to unit root mean square per dimension, so that a few large
    dimensions do not decide. Folds keep the pairs of one prompt together. ``weights`` [P] are of
    pairs, 1 each by default. The last ``num_free`` dimensions are without penalty: covariates, or
    a column of labels of 1 and -1, which makes an intercept.
    """
    scale = np.sqrt(np.mean(differences**2, axis=0)) + 1e-12
    scaled = differences / scale
    given = np.ones(len(scaled)) if weights is None else weights
    folds = groups % NUM_FOLDS
    nll = {l2: cross_validate(scaled, folds, l2, given, num_free=num_free) for l2 in L2_GRID}
    best = min(nll, key=lambda l2: nll[l2])
    weight = solve(scaled, best, given, num_free=num_free)
    return Probe(weight=weight / scale, l2=best, nll=nll[best])


def cross_validate(
    differences: Floats,
    folds: NDArray[np.int64],
    l2: float,
    weights: Floats | None = None,
    *,
    num_free: int = 0,
) -> float:
    """NLL of pairs whose prompt was left out; infinite when there is only one fold."""
    weights = np.ones(len(differences)) if weights is None else weights
    total, weight = 0.0, 0.0
    for fold in range(NUM_FOLDS):
        out, seen = folds == fold, folds != fold
        if weights[out].any() and weights[seen].any():
            fitted = solve(differences[seen], l2, weights[seen], num_free=num_free)
            total += float(weights[out] @ np.logaddexp(0.0, -(differences[out] @ fitted)))
            weight += float(weights[out].sum())
    return total / weight if weight else float("inf")


def solve(
    differences: Floats, l2: float, weights: Floats | None = None, *, num_free: int = 0
) -> Floats:
    """Minimum of ``mean log(1 + exp(-x w)) + l2 / 2 |w|^2``, the mean by weight.

    The last ``num_free`` coefficients are without penalty.
    """
    share = np.ones(len(differences)) if weights is None else weights
    share = share / share.sum()
    penalties = np.full(differences.shape[1], l2)
    penalties[len(penalties) - num_free :] = 0.0

    def loss(weight: Floats) -> tuple[float, Floats]:
        margins = differences @ weight
        value = share @ np.logaddexp(0.0, -margins) + 0.5 * weight @ (penalties * weight)
        gradient = -((share * expit(-margins)) @ differences) + penalties * weight
        return float(value), gradient

    start = np.zeros(differences.shape[1])
    result: Floats = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return result
