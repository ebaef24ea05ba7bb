"""A reward model at work outside training: opened by name, to score, to serve and to export."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from heedful.data.collate import Tree
from heedful.errors import DataError, MissingError, NumericsError
from heedful.jobs import models
from heedful.model.adapter_files import AdapterCard, load_role, weights_hash
from heedful.model.trunk import Trunk
from heedful.reward.classifier import Classifier, check_pooling, write_classifier
from heedful.reward.trained import TrainedReward
from heedful.store.database import Store

TOKENS_ON_CPU, TOKENS = 1024, 16_384  # packed in one forward pass


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenReward:
    """A loaded reward model. Made by ``open_reward``, used to score, to serve and to export."""

    name: str
    trunk: Trunk
    card: AdapterCard
    weights_hash: str

    @property
    def max_tokens(self) -> int:
        """The longest conversation it reads, the end of the turn included."""
        return self.trunk.max_tokens

    @property
    def tokens_per_pass(self) -> int:
        """Packed tokens of one forward pass, on which no reward depends."""
        return TOKENS_ON_CPU if self.trunk.device.type == "cpu" else TOKENS

    def score(self, trees: Sequence[Tree]) -> list[list[float]]:
        """The reward of every response, by tree.

        The responses to equal prompts share one copy of it. Raises ``NumericsError`` for a reward
        that is no finite number.
        """
        by_prompt: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for tree in trees:
            by_prompt.setdefault(tree.prompt, []).extend(tree.responses)
        limit = self.tokens_per_pass
        parts = [
            part
            for prompt, responses in by_prompt.items()
            for part in Tree(id="", prompt=prompt, responses=tuple(responses)).split(limit)
        ]
        reward = TrainedReward(self.trunk, mean=self.card.mean, std=self.card.std)
        found: dict[tuple[int, ...], list[float]] = {prompt: [] for prompt in by_prompt}
        for part, scores in zip(parts, reward.score_trees(parts, limit), strict=True):
            found[part.prompt] += scores
        given = {prompt: iter(scores) for prompt, scores in found.items()}
        rewards = [[next(given[tree.prompt]) for _ in tree.responses] for tree in trees]
        for tree, row in zip(trees, rewards, strict=True):
            if not all(map(math.isfinite, row)):
                raise NumericsError(f"reward model {self.name} gives {tree.id} {row}, no number")
        return rewards


def find_reward(name: str, store: Store | None) -> tuple[models.ModelRef, Path, AdapterCard]:
    """A reward model with its directory and card, found without loading it.

    Raises ``MissingError`` when there is none of that name, ``DataError`` for a policy.
    """
    ref = models.find_model(name, store)
    card = ref.card()
    if ref.adapter is None or card is None:
        raise MissingError(
            f"{name!r} is no reward model that lies here or is registered; name a run directory "
            "of heedful fit reward, or one that heedful models lists"
        )
    if card.role != "reward":
        raise DataError(f"{name} is a {card.role} model; a reward model is needed")
    return ref, ref.adapter, card


def open_reward(name: str, store: Store | None, *, dtype: str = "auto") -> OpenReward:
    """Load a reward model: a run or model directory, or the name or id of a registered one."""
    ref, directory, _ = find_reward(name, store)
    trunk = models.open_trunk(ref, dtype=dtype)
    card = load_role(trunk, directory, "reward")
    return OpenReward(name=name, trunk=trunk, card=card, weights_hash=weights_hash(directory))


def export_classifier(name: str, store: Store | None, out: Path) -> Classifier:
    """Write a reward model as a sequence classifier of transformers (``reward.classifier``)."""
    _, _, card = find_reward(name, store)
    check_pooling(card)
    model = open_reward(name, store, dtype="float32")
    about = {"reward": name, "weights_hash": model.weights_hash, "base": card.base}
    return write_classifier(model.trunk, "reward", out, card=model.card, about=about)
