"""Remedies against a reward that follows length or style, as a fit turns them on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from heedful.annotators.text_patterns import STYLE, style
from heedful.config import Remedies
from heedful.data.collate import Tree
from heedful.data.reading import with_hard_labels
from heedful.errors import DataError
from heedful.jobs.progress import progress
from heedful.model.trunk import Trunk
from heedful.reward.trained import TrainedReward
from heedful.stats.shortcuts import balancing_weights, within_slope

LINK = "style"  # the coefficients of covariates among a role's links


def balanced(trees: Sequence[Tree], num_bins: int) -> tuple[list[Tree], int]:
    """The trees with pairs weighed such that length predicts nothing, and how many pairs were lost.

    All trees stay, in their order, also those that have lost all that they had. Length is in
    tokens, bins are of equal size by the absolute difference
    (``stats.shortcuts.balancing_weights``). A pair in a bin without any of the other kind has no
    weight and is left out; one with a probability counts as two (``with_hard_labels``). Raises
    ``DataError`` when no bin has both kinds.
    """
    trees = [with_hard_labels(tree) for tree in trees]
    gaps = [
        len(tree.responses[chosen]) - len(tree.responses[rejected])
        for tree in trees
        for chosen, rejected in tree.pairs
    ]
    given = [weight for tree in trees for weight in tree.weights]
    if not gaps:
        raise DataError(
            f"remedies.length_bins is {num_bins}, but {len(trees)} prompts have no pairs to "
            "balance; leave it at 0"
        )
    try:
        weights = iter(balancing_weights(gaps, given, num_strata=num_bins).tolist())
    except ValueError as error:
        raise DataError(f"remedies.length_bins is {num_bins}: {error}") from None
    found = []
    num_lost = 0
    for tree in trees:
        own = [next(weights) for _ in tree.pairs]
        kept = [n for n, weight in enumerate(own) if weight > 0]
        num_lost += len(own) - len(kept)
        found.append(
            replace(
                tree,
                pairs=tuple(tree.pairs[n] for n in kept),
                weights=tuple(own[n] for n in kept),
                margins=tuple(tree.margins[n] for n in kept),
                probabilities=(1.0,) * len(kept),
            )
        )
    return found, num_lost


def with_style(trees: Sequence[Tree], tokenizer: Any, which: str) -> list[Tree]:
    """The trees with features of style of every response, in deviations from their mean.

    The logarithm of one more than the words, and for ``style`` also list marks and marks of bold,
    headings and code. A feature that all responses have alike is left out; raises ``DataError``
    when none is left.
    """
    names = list(STYLE) if which == "style" else ["length"]
    with progress("style of answers", len(trees)) as advance:
        rows = []
        for tree in trees:
            for response in tree.responses:
                text = tokenizer.decode(list(response), skip_special_tokens=True)
                rows.append(dict(zip(STYLE, style(text), strict=True)))
            advance(1)
    table = np.log1p([[row[name] for name in names] for row in rows])
    deviations = table.std(axis=0)
    varies = deviations > 1e-9
    if not varies.any():
        raise DataError(
            f"remedies.covariates is {which!r}, but all {len(rows)} answers are alike in "
            f"{', '.join(names)}; leave it at 'none'"
        )
    scaled = ((table - table.mean(axis=0))[:, varies] / deviations[varies]).tolist()
    standing = iter(map(tuple, scaled))
    return [replace(tree, style=tuple(next(standing) for _ in tree.responses)) for tree in trees]


def style_links(trees: Sequence[Tree]) -> dict[str, torch.Tensor]:
    """The coefficients of the covariates, to begin with; nothing without covariates."""
    styled = next((tree for tree in trees if tree.style), None)
    return {LINK: torch.zeros(len(styled.style[0]))} if styled else {}


def check_penalty(remedies: Remedies, trees: Sequence[Tree]) -> None:
    """Refuse to measure the penalty on length where no prompt has answers of different length."""
    varies = (len(set(map(len, tree.responses))) > 1 for tree in trees)
    if remedies.length_penalty == "auto" and not any(varies):
        raise DataError(
            f"remedies.length_penalty is 'auto', but none of {len(trees)} prompts has answers of "
            "different length; state the log-odds a token, or leave it at 0"
        )


def penalise(
    remedies: Remedies, trunk: Trunk, trees: Sequence[Tree], max_tokens: int, role: str = "reward"
) -> None:
    """Take the penalty on length off the role's scores from now on.

    ``auto`` is the slope of scores on tokens within prompts, which ``check_penalty`` has seen to
    differ in length.
    """
    if remedies.length_penalty != "auto":
        trunk.length_penalty[role] = remedies.length_penalty
        return
    with progress("score by length", len(trees)) as advance:
        scored = TrainedReward(trunk, role=role).score_trees(trees, max_tokens, advance)
    lengths = [len(response) for tree in trees for response in tree.responses]
    prompts = [number for number, tree in enumerate(trees) for _ in tree.responses]
    scores = [one for row in scored for one in row]
    trunk.length_penalty[role] = within_slope(scores, lengths, prompts)
