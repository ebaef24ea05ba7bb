"""Rewards that read texts and not the policy's tokens: features, rules, another base's model."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from heedful.data.collate import Advance, Tree, silent
from heedful.data.plain import MAX_TOKENS, PLAIN, PlainTokenizer
from heedful.errors import DataError, NumericsError
from heedful.reward.reading import answers_tree
from heedful.reward.scorers import (
    Asked,
    Counts,
    Rated,
    Scored,
    TreeScores,
    rate_trees,
    score_trees,
)
from heedful.reward.trained import Judgement
from heedful.tensors import Batch
from heedful.types import Message, Preference, Prompt

Measure = Callable[[str, str], float]  # of the prompt's last question and an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReward:
    """A reward of texts that runs no model. ``reader`` says what reads them, for messages.

    Scores are ``(measure(prompt, answer) - mean) / std``. ``scale`` says in words what is measured.
    """

    name: str
    reader: str
    scale: str
    measure: Measure
    mean: float = 0.0
    std: float = 1.0
    weights_hash: str = ""

    @property
    def tokenizer(self) -> PlainTokenizer:
        """Characters."""
        return PLAIN

    @property
    def max_tokens(self) -> int:
        """Characters of the longest conversation."""
        return MAX_TOKENS

    @property
    def tokens_per_pass(self) -> int:
        """Characters between two signs of progress."""
        return 65_536

    def tree(self, id: str, prompt: Prompt, answers: Sequence[Sequence[Message]]) -> Tree:
        """A prompt and its answers in characters."""
        return answers_tree(PLAIN, id, prompt, answers)

    def score(self, trees: Sequence[Tree]) -> TreeScores:
        """The reward of every response; raises ``NumericsError`` for one that is no number."""
        rows = [
            [(one - self.mean) / self.std for one in row]
            for row in self.raw(trees, self.max_tokens)
        ]
        for tree, row in zip(trees, rows, strict=True):
            if not all(map(math.isfinite, row)):
                raise NumericsError(f"reward {self.name} gives {tree.id} {row}, no number")
        return rows

    def judge(self, trees: Sequence[Tree]) -> list[list[Judgement]]:
        """The same without parts, which there are none of."""
        return [[Judgement(one, {}) for one in row] for row in self.score(trees)]

    @property
    def mix(self) -> None:
        """There are no parts to mix."""
        return

    def raw(self, trees: Sequence[Tree], max_tokens: int, advance: Advance = silent) -> TreeScores:
        """What is measured of every response."""
        del max_tokens
        found = []
        for tree in trees:
            asked = PLAIN.asked(tree.prompt)
            found.append([self.measure(asked, PLAIN.decode(one)) for one in tree.responses])
            advance(1)
        return found


class TextScorer:
    """A ``TextReward`` as a reward card asks for scores."""

    reads_pairs = False
    counts: Counts = "prompts"

    def __init__(self, reward: TextReward) -> None:
        self.reward = reward
        self.scale = reward.scale

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        """See ``reward.scorers.Scorer``."""
        return score_trees(self.reward, pairs, MAX_TOKENS, self.reward.raw, advance)

    def rate(self, asked: Sequence[Asked], advance: Advance = silent) -> Rated:
        """See ``reward.scorers.Rater``."""
        return rate_trees(self.reward, asked, MAX_TOKENS, self.reward.raw, advance)


class ReadsTexts(Protocol):
    """A reward with a tokeniser of its own."""

    @property
    def name(self) -> str:
        """What it is called, for messages."""

    @property
    def mix(self) -> str | None:
        """How its parts are mixed, in words; None for one score."""

    @property
    def tokenizer(self) -> Any:
        """Writes and reads its chat template."""

    @property
    def max_tokens(self) -> int:
        """The longest conversation it reads."""

    def tree(self, id: str, prompt: Prompt, answers: Sequence[Sequence[Message]]) -> Tree:
        """A prompt and its answers as it reads them."""

    def score(self, trees: Sequence[Tree]) -> TreeScores:
        """The reward of every response, by tree."""


class ApartReward:
    """A reward for rollouts that shares nothing with the policy's trunk: it is given the texts.

    The critic reads the reference's states, as with a rule, and starts at zero.
    """

    reads_states = False
    other_roles: tuple[str, ...] = ()

    def __init__(self, reward: ReadsTexts, *, feature_role: str | None) -> None:
        self.reward = reward
        self.feature_role = feature_role

    def score(
        self, batch: Batch, states: Float[Tensor, "N D"] | None, rows: Sequence[tuple[Any, Any]]
    ) -> Float[Tensor, "B"]:
        """The reward of each sample; rows are (prompt row, sample)."""
        del states
        asked = [(row.prompt, sample.text) for row, sample in rows]
        return torch.tensor(self.score_answers(asked), device=batch.token_ids.device)

    def score_so_far(self, batch: Batch, states: Float[Tensor, "N D"] | None) -> Float[Tensor, "M"]:
        """Zero: unfinished texts are not read."""
        del states
        return torch.zeros(len(batch.targets), device=batch.token_ids.device)

    def score_answers(self, asked: Sequence[tuple[Prompt, str]]) -> list[float]:
        """Rewards of texts. Raises ``DataError`` for one that is longer than the model reads."""
        trees = []
        for prompt, text in asked:
            answer = (Message(role="assistant", content=text),)
            tree = self.reward.tree(prompt.id, prompt, [answer])
            if tree.num_tokens > self.reward.max_tokens:
                raise DataError(
                    f"an answer to prompt {prompt.id} has {tree.num_tokens} tokens with it, and "
                    f"the reward {self.reward.name} reads {self.reward.max_tokens}; lower "
                    "rollouts.max_new_tokens or leave long prompts out"
                )
            trees.append(tree)
        return [score for (score,) in self.reward.score(trees)]
