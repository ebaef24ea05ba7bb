"""Whoever can say how good the two answers of a pair are: what a reward card measures.

A new source of scores (a judge behind an endpoint, a sequence classifier) is one class with a
``score`` of pairs; the card asks for nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from heedful.data.collate import Advance, Tree, silent
from heedful.data.examples import preference_trees
from heedful.model.trunk import Trunk
from heedful.reward.implicit import implicit_scores
from heedful.reward.trained import TrainedReward
from heedful.types import Preference

Array = NDArray[np.float64]
TreeScores = list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a scorer said. Made by scorers, measured by reward cards.

    ``pairs[n]`` is the number of a pair that was scored, each once; ``chosen[n, m]`` and
    ``rejected[n, m]`` are what member m of an ensemble (one column: no ensemble) gives its sides,
    in log-odds: ``sigmoid(chosen - rejected)`` is the chance that the chosen side is preferred.
    ``drops`` counts the pairs left out, by rule. ``Scored(pairs=(0,), chosen=array([[1.2]]),
    rejected=array([[0.3]]), drops={})``
    """

    pairs: tuple[int, ...]
    chosen: Array
    rejected: Array
    drops: Mapping[str, int]


class Scorer(Protocol):
    """Scores pairs. ``reads_pairs``: it sees both sides at once, so their order may matter.

    ``scale`` says what a score is, in words.
    """

    reads_pairs: bool
    scale: str

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        """Scores of as many pairs as it can read; ``advance`` hears of prompts that are done."""


class TrainedScorer:
    """The head of a reward role: one score an answer, whatever it is compared with."""

    reads_pairs = False
    scale = "reward model, log-odds"

    def __init__(self, trunk: Trunk, *, max_tokens: int, role: str = "reward") -> None:
        self.trunk = trunk
        self.max_tokens = max_tokens
        # without the normaliser of PPO: the loss that was fitted speaks of raw differences
        self.reward = TrainedReward(trunk, role=role)

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        """See ``Scorer``; a conversation longer than ``max_tokens`` is left out."""
        return score_trees(self.trunk, pairs, self.max_tokens, self._scores, advance)

    def _scores(self, trees: Sequence[Tree], limit: int, advance: Advance) -> TreeScores:
        return self.reward.score_trees(trees, limit, advance)


class ImplicitScorer:
    """A policy as the reward that it implies (``implicit_scores``)."""

    reads_pairs = False

    def __init__(
        self, trunk: Trunk, *, beta: float, reference: str | None, max_tokens: int
    ) -> None:
        self.trunk = trunk
        self.beta = beta
        self.reference = reference
        self.max_tokens = max_tokens
        self.scale = f"policy, {beta:g} times its log-ratio to its start"

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        """See ``Scorer``; a conversation longer than ``max_tokens`` is left out."""
        return score_trees(self.trunk, pairs, self.max_tokens, self._scores, advance)

    def _scores(self, trees: Sequence[Tree], limit: int, advance: Advance) -> TreeScores:
        return implicit_scores(
            self.trunk, trees, self.reference, beta=self.beta, max_tokens=limit, advance=advance
        )


def score_trees(
    trunk: Trunk,
    pairs: Sequence[Preference],
    max_tokens: int,
    scores_of: Callable[[Sequence[Tree], int, Advance], TreeScores],
    advance: Advance,
) -> Scored:
    """Scores of pairs from those of packed trees, each answer of a prompt scored once."""
    longest = min(max_tokens, trunk.max_tokens)
    encoded = preference_trees(trunk.tokenizer, pairs, max_tokens=longest)
    # the answers to a prompt may together be longer than one conversation may be
    limit = max([max_tokens, *(tree.num_tokens for tree in encoded.trees)])
    scored = scores_of(encoded.trees, limit, advance) if encoded.trees else []
    sides = np.array(
        [
            (scores[chosen], scores[rejected])
            for tree, scores in zip(encoded.trees, scored, strict=True)
            for chosen, rejected in tree.pairs
        ]
    ).reshape(-1, 2)
    return Scored(
        pairs=tuple(encoded.pairs),
        chosen=sides[:, :1],
        rejected=sides[:, 1:],
        drops=dict(encoded.drops),
    )
