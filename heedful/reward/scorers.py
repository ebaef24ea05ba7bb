"""Whoever can say how good the two answers of a pair are: what a reward card measures.

A source of scores is one class with a ``score`` of pairs; one whose scores compare the answers to
different prompts also rates answers one by one. The card asks for nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from heedful.data.collate import Advance, Tree, silent
from heedful.data.examples import preference_trees
from heedful.model.trunk import Trunk
from heedful.reward.implicit import implicit_scores
from heedful.reward.reading import answers_tree
from heedful.reward.trained import TrainedReward
from heedful.types import Message, Preference, Prompt, messages_json

Array = NDArray[np.float64]
TreeScores = list[list[float]]
Counts = Literal["prompts", "answers", "pairs"]
Asked = tuple[Prompt, tuple[Message, ...]]  # an answer and what it answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a scorer said. Made by scorers, measured by reward cards.

    ``pairs[n]`` is the number of a pair that was scored, each once; ``chosen[n, m]`` and
    ``rejected[n, m]`` are what member m of an ensemble (one column: no ensemble) gives its sides,
    in log-odds: ``sigmoid(chosen - rejected)`` is the chance that the chosen side is preferred.
    ``total[n]`` is what an ensemble as a whole gives the chosen and the rejected side, None: the
    mean of its members. ``drops`` counts the pairs left out, by rule. ``Scored(pairs=(0,),
    chosen=array([[1.2]]), rejected=array([[0.3]]), drops={})``
    """

    pairs: tuple[int, ...]
    chosen: Array
    rejected: Array
    drops: Mapping[str, int]
    total: Array | None = None

    @property
    def sides(self) -> Array:
        """One score of the chosen and of the rejected side of every pair, [P, 2]."""
        if self.total is not None:
            return self.total
        return np.stack([self.chosen.mean(axis=1), self.rejected.mean(axis=1)], axis=1)

    @property
    def deltas(self) -> Array:
        """Chosen minus rejected, [P]."""
        return np.asarray(self.sides[:, 0] - self.sides[:, 1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """Scores of answers by their number; those that are missing are in ``drops``, by rule.

    ``Rated(scores={0: 1.2, 2: -0.3}, drops={"too_long": 1})``
    """

    scores: Mapping[int, float]
    drops: Mapping[str, int]


class Reader(Protocol):
    """Whatever answers are encoded for: a trunk, or a reward of texts."""

    @property
    def tokenizer(self) -> Any:
        """Writes the chat template."""

    @property
    def max_tokens(self) -> int:
        """The longest conversation that is read."""


class Scorer(Protocol):
    """Scores pairs. ``reads_pairs``: it sees both sides at once, so their order may matter.

    ``scale`` says what a score is, in words, ``counts`` what ``advance`` is told of.
    """

    reads_pairs: bool
    scale: str
    counts: Counts

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        """Scores of as many pairs as it can read; ``advance`` hears of what is done."""


@runtime_checkable
class Rater(Protocol):
    """A scorer whose scores also compare answers to different prompts."""

    def rate(self, asked: Sequence[Asked], advance: Advance = silent) -> Rated:
        """Scores of as many answers as it can read; ``advance`` hears of answers that are done."""


class TrainedScorer:
    """The head of a reward role: one score an answer, whatever it is compared with."""

    reads_pairs = False
    counts: Counts = "prompts"
    scale = "reward model, log-odds"

    def __init__(self, trunk: Trunk, *, max_tokens: int, role: str = "reward") -> None:
        self.trunk = trunk
        self.max_tokens = max_tokens
        # without the normaliser of PPO: the loss that was fitted speaks of raw differences
        self.reward = TrainedReward(trunk, role=role)

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        """See ``Scorer``; a conversation that the model cannot read is left out."""
        return score_trees(self.trunk, pairs, self.max_tokens, self._scores, advance)

    def rate(self, asked: Sequence[Asked], advance: Advance = silent) -> Rated:
        """See ``Rater``; a conversation that the model cannot read is left out."""
        return rate_trees(self.trunk, asked, self.max_tokens, self._scores, advance)

    def _scores(self, trees: Sequence[Tree], limit: int, advance: Advance) -> TreeScores:
        return self.reward.score_trees(trees, limit, advance)


class ImplicitScorer:
    """A policy as the reward that it implies (``implicit_scores``)."""

    reads_pairs = False
    counts: Counts = "prompts"

    def __init__(
        self, trunk: Trunk, *, beta: float, reference: str | None, max_tokens: int
    ) -> None:
        self.trunk = trunk
        self.beta = beta
        self.reference = reference
        self.max_tokens = max_tokens
        self.scale = f"policy, {beta:g} times its log-ratio to its start"

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        """See ``Scorer``; a conversation that the model cannot read is left out."""
        return score_trees(self.trunk, pairs, self.max_tokens, self._scores, advance)

    def _scores(self, trees: Sequence[Tree], limit: int, advance: Advance) -> TreeScores:
        return implicit_scores(
            self.trunk, trees, self.reference, beta=self.beta, max_tokens=limit, advance=advance
        )


def rate_trees(
    reader: Reader,
    asked: Sequence[Asked],
    max_tokens: int,
    scores_of: Callable[[Sequence[Tree], int, Advance], TreeScores],
    advance: Advance,
) -> Rated:
    """Scores of answers from those of packed trees, an answer each."""
    numbers, trees = [], []
    for number, (prompt, answer) in enumerate(asked):
        tree = answers_tree(reader.tokenizer, prompt.id, prompt, [answer])
        if tree.num_tokens <= reader.max_tokens:
            numbers.append(number)
            trees.append(tree)
    too_long = len(asked) - len(numbers)
    advance(too_long)
    found = scores_of(trees, max_tokens, advance) if trees else []
    scores = {number: one for number, (one,) in zip(numbers, found, strict=True)}
    return Rated(scores=scores, drops={"too_long": too_long} if too_long else {})


def score_trees(
    reader: Reader,
    pairs: Sequence[Preference],
    max_tokens: int,
    scores_of: Callable[[Sequence[Tree], int, Advance], list[list[Any]]],
    advance: Advance,
) -> Scored:
    """Scores of pairs from those of packed trees, each answer of a prompt scored once.

    An answer has one score, or of an ensemble the aggregate and then the scores of its members.
    """
    encoded = preference_trees(reader.tokenizer, pairs, max_tokens=reader.max_tokens)
    scored = scores_of(encoded.trees, max_tokens, advance) if encoded.trees else []
    sides = np.array(
        [
            (scores[chosen], scores[rejected])
            for tree, scores in zip(encoded.trees, scored, strict=True)
            for chosen, rejected in tree.pairs
        ],
        dtype=float,
    )
    sides = sides.reshape(len(sides), 2, -1 if len(sides) else 1)
    is_ensemble = sides.shape[2] > 1
    members = sides[:, :, 1:] if is_ensemble else sides
    return Scored(
        pairs=tuple(encoded.pairs),
        chosen=members[:, 0],
        rejected=members[:, 1],
        drops=dict(encoded.drops),
        total=sides[:, :, 0] if is_ensemble else None,
    )


def score_rated(scorer: Rater, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
    """Scores of pairs by a scorer of answers, each distinct answer of a prompt rated once.

    Pairs with equal sides are dropped as ``identical_sides``, those with a side that cannot be read
    as ``side_not_scored``.
    """
    place: dict[tuple[str, str], int] = {}
    asked: list[Asked] = []
    sides = []
    for row in pairs:
        keys = [(row.prompt.id, str(messages_json(one))) for one in (row.chosen, row.rejected)]
        for key, answer in zip(keys, (row.chosen, row.rejected), strict=True):
            if key not in place:
                place[key] = len(asked)
                asked.append((row.prompt, answer))
        sides.append((place[keys[0]], place[keys[1]]))
    rated = scorer.rate(asked, advance)
    drops = {"identical_sides": 0, "side_not_scored": 0}
    kept = []
    for number, (chosen, rejected) in enumerate(sides):
        if chosen == rejected:
            drops["identical_sides"] += 1
        elif chosen not in rated.scores or rejected not in rated.scores:
            drops["side_not_scored"] += 1
        else:
            kept.append((number, rated.scores[chosen], rated.scores[rejected]))
    return Scored(
        pairs=tuple(number for number, *_ in kept),
        chosen=np.array([[one] for _, one, _ in kept]).reshape(-1, 1),
        rejected=np.array([[one] for *_, one in kept]).reshape(-1, 1),
        drops={rule: num for rule, num in drops.items() if num},
    )
