"""Where the heads of a reward model with several parts start: each at the probe of its own labels.

As ``reward.probe`` for one score. A criterion reads the pairs that its ratings imply; a flag's
log-odds are logistic regression with an intercept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from heedful.data.collate import Advance, Tree, silent
from heedful.model.trunk import Trunk
from heedful.reward.probe import (
    L2_GRID,
    NUM_FOLDS,
    Floats,
    cross_validate,
    fit_probe,
    pooled_states,
    solve,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What one part is to tell apart, by response numbers that count through all trees.

    ``pairs`` are (better, worse) for a score; ``raised`` says of responses whether people raised
    the flag. ``Labels(raised=((0, True), (3, False)))``
    """

    pairs: tuple[tuple[int, int], ...] = ()
    raised: tuple[tuple[int, bool], ...] = ()


@torch.no_grad()
def start_parts(
    trunk: Trunk,
    trees: Sequence[Tree],
    labels: Mapping[str, Labels],
    *,
    max_tokens: int,
    advance: Advance = silent,
) -> None:
    """Set every part of the reward head to the probe of its labels; one without keeps its start."""
    head = trunk.heads["reward"]
    states = pooled_states(trunk, trees, max_tokens, advance).cpu().numpy()
    of_response = np.repeat(np.arange(len(trees)), [len(tree.responses) for tree in trees])
    for place, name in enumerate(trunk.parts["reward"].names):
        known = labels[name]
        if known.pairs:
            better, worse = np.array(known.pairs).T
            differences = (states[better] - states[worse]).astype(np.float64)
            weight, bias = fit_probe(differences, of_response[better]).weight, 0.0
        elif known.raised:
            responses, raised = np.array([(number, is_on) for number, is_on in known.raised]).T
            weight, bias = fit_flag(
                states[responses].astype(np.float64), raised > 0, of_response[responses]
            )
        else:
            continue
        head.weight[place] = torch.from_numpy(weight)
        head.bias[place] = bias


def fit_flag(
    states: Floats, raised: NDArray[np.bool_], groups: NDArray[np.int64]
) -> tuple[Floats, float]:
    """Weight and intercept of the flag's log-odds: regularised logistic regression.

    ``states`` [G, D]; the intercept bears no penalty, so a rare flag starts rare.
    """
    mean = states.mean(axis=0)
    scale = states.std(axis=0) + 1e-12
    signs = np.where(raised, 1.0, -1.0)[:, None]
    rows = signs * np.column_stack([(states - mean) / scale, np.ones(len(states))])
    folds = groups % NUM_FOLDS
    best = min(L2_GRID, key=lambda l2: cross_validate(rows, folds, l2, num_free=1))
    found = solve(rows, best, num_free=1)
    weight = found[:-1] / scale
    return weight, float(found[-1] - weight @ mean)
