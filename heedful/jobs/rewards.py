"""A reward model at work outside training: opened by name, to score, to serve and to export."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.data.collate import Tree
from heedful.errors import ConfigError, DataError, MissingError, NumericsError
from heedful.jobs import models
from heedful.jobs.text_rewards import ON_FEATURES, feature_reward, rule_reward
from heedful.model.adapter_files import AdapterCard, weights_hash
from heedful.model.device import default_device
from heedful.model.trunk import Trunk
from heedful.reward.classifier import Classifier, check_one, check_pooling, write_classifier
from heedful.reward.ensemble import EnsembleReward, load_reward
from heedful.reward.mixing import check_linear, check_mix, fold, in_words
from heedful.reward.reading import answers_tree
from heedful.reward.sequence import ClassifierReward, check_safe
from heedful.reward.sequence import is_classifier as is_classifier_directory
from heedful.reward.texts import TextReward
from heedful.reward.trained import Judgement, TrainedReward
from heedful.store.database import Store
from heedful.types import Message, Prompt

TOKENS_ON_CPU, TOKENS = 1024, 16_384  # packed in one forward pass


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenReward:
    """A loaded reward model. Made by ``open_reward``, used to score, to serve and to export."""

    name: str
    trunk: Trunk
    card: AdapterCard
    weights_hash: str
    reward: TrainedReward | EnsembleReward

    @property
    def tokenizer(self) -> Any:
        """Its base's."""
        return self.trunk.tokenizer

    @property
    def reader(self) -> str:
        """What reads the texts, for messages."""
        return self.card.base

    @property
    def max_tokens(self) -> int:
        """The longest conversation it reads, the end of the turn included."""
        return self.trunk.max_tokens

    @property
    def tokens_per_pass(self) -> int:
        """Packed tokens of one forward pass, on which no reward depends."""
        return tokens_per_pass(self.trunk.device)

    @property
    def mix(self) -> str | None:
        """How its parts are mixed, in words; None for one score."""
        return None if self.card.mix is None else in_words(self.card.mix)

    def tree(self, id: str, prompt: Prompt, answers: Sequence[Sequence[Message]]) -> Tree:
        """A prompt and its answers, as training reads them."""
        return answers_tree(self.tokenizer, id, prompt, answers)

    def score(self, trees: Sequence[Tree]) -> list[list[float]]:
        """The reward of every response, by tree; see ``judge``."""
        return [[one.reward for one in row] for row in self.judge(trees)]

    def judge(self, trees: Sequence[Tree]) -> list[list[Judgement]]:
        """The reward of every response and its parts, by tree, and how far members differ on it.

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
        found: dict[tuple[int, ...], list[Judgement]] = {prompt: [] for prompt in by_prompt}
        for part, scores in zip(parts, self._judged(parts, limit), strict=True):
            found[part.prompt] += scores
        given = {prompt: iter(scores) for prompt, scores in found.items()}
        rewards = [[next(given[tree.prompt]) for _ in tree.responses] for tree in trees]
        for tree, row in zip(trees, rewards, strict=True):
            seen = [one.reward for one in row]
            if not all(map(math.isfinite, seen)):
                raise NumericsError(f"reward model {self.name} gives {tree.id} {seen}, no number")
        return rewards

    def _judged(self, trees: Sequence[Tree], limit: int) -> list[list[Judgement]]:
        if isinstance(self.reward, EnsembleReward):
            pairs = zip(*self.reward.judge_trees(trees, limit), strict=True)
            return [
                [Judgement(score, {}, doubt) for score, doubt in zip(row, doubts, strict=True)]
                for row, doubts in pairs
            ]
        outputs = self.reward.outputs_of(trees, limit)
        shown, vetoes = iter(self.shown(outputs)), iter(self.vetoes(outputs))
        rewards = self.reward.of_outputs(trees, outputs)
        return [
            [Judgement(score, next(shown), vetoed_by=next(vetoes)) for score in row]
            for row in rewards
        ]

    def vetoes(self, outputs: Tensor) -> Sequence[tuple[str, ...] | None]:
        """The flags that veto each response; None for each where none has a limit."""
        parts = self.trunk.parts.get("reward")
        if parts is None or not parts.mix.limits:
            return [None for _ in outputs]
        return parts.vetoes(outputs)

    def shown(self, outputs: Tensor) -> list[dict[str, float]]:
        """The parts of every response by name; empty for one score."""
        parts = self.trunk.parts.get("reward")
        if parts is None:
            return [{} for _ in outputs]
        rows = parts.shown(outputs).tolist()
        return [dict(zip(parts.names, row, strict=True)) for row in rows]


AnyReward = OpenReward | TextReward | ClassifierReward


def tokens_per_pass(device: torch.device) -> int:
    """Packed tokens of one forward pass."""
    return TOKENS_ON_CPU if device.type == "cpu" else TOKENS


def is_classifier(name: str, store: Store | None) -> bool:
    """Is it the directory of a sequence classifier, and of no model of ours?"""
    return is_classifier_directory(Path(name)) and models.find_model(name, store).card() is None


def is_ours(name: str, store: Store | None) -> bool:
    """Did Heedful fit it? A rule and a classifier have neither card nor parents."""
    return not models.is_rule(name) and not is_classifier(name, store)


def find_reward(
    name: str, store: Store | None, mix: str | None = None
) -> tuple[models.ModelRef, Path, AdapterCard]:
    """A reward model with its directory and card, found without loading it.

    Raises ``MissingError`` when there is none of that name, ``DataError`` for a policy,
    ``ConfigError`` for a ``mix`` that it cannot have.
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
    check_mix(card, name, mix)
    return ref, ref.adapter, card


def check_reward(name: str, store: Store | None, mix: str | None = None) -> None:
    """Refuse what is no reward, and a mix it cannot have; loads nothing."""
    if models.is_rule(name):
        refuse_mix(name, mix)
        rule_reward(name, name.removeprefix(models.RULE))
    elif is_classifier(name, store):
        refuse_mix(name, mix)
        check_safe(Path(name))
    else:
        find_reward(name, store, mix)


def reads_texts(name: str, store: Store | None) -> bool:
    """Is it a rule or a reward on features, which run no model?"""
    if models.is_rule(name):
        return True
    card = models.find_model(name, store).card()
    return card is not None and card.backbone == ON_FEATURES


def refuse_mix(name: str, mix: str | None) -> None:
    """Raise ``ConfigError`` for a mix of what has no parts."""
    if mix is not None:
        kind = "rule" if models.is_rule(name) else "sequence classifier"
        raise ConfigError(f"mix is {mix!r} and {name} is a {kind} without parts; leave mix out")


def open_reward(
    name: str, store: Store | None, *, dtype: str = "auto", mix: str | None = None
) -> AnyReward:
    """Load a reward: a run or model directory, the name or id of a registered one, a rule, or the
    directory of a sequence classifier of transformers.

    ``mix`` changes how its parts make one reward (``reward.mixing``).
    """
    if models.is_rule(name):
        refuse_mix(name, mix)
        return rule_reward(name, name.removeprefix(models.RULE))
    if is_classifier(name, store):
        refuse_mix(name, mix)
        room = tokens_per_pass(default_device())
        return ClassifierReward(Path(name), tokens_per_pass=room, dtype=dtype)
    ref, directory, card = find_reward(name, store, mix)
    if card.backbone == ON_FEATURES:
        return feature_reward(
            name, directory, mean=card.mean, std=card.std, weights_hash=weights_hash(directory)
        )
    trunk = models.open_trunk(ref, dtype=dtype)
    reward, card = load_reward(trunk, directory, mix=mix)
    return OpenReward(
        name=name, trunk=trunk, card=card, weights_hash=weights_hash(directory), reward=reward
    )


def export_classifier(
    name: str, store: Store | None, out: Path, *, mix: str | None = None
) -> Classifier:
    """Write a reward model as a sequence classifier of transformers (``reward.classifier``).

    Parts become the one output that their mix makes of them. Raises ``ConfigError`` for an ensemble
    and for a mix that no linear layer computes, ``DataError`` for a reward on features.
    """
    _, _, card = find_reward(name, store, mix)
    if card.backbone == ON_FEATURES:
        raise DataError(
            f"{name} is a reward on features, which no sequence classifier computes; serve it with "
            "heedful serve reward"
        )
    check_one(card)
    check_pooling(card)
    check_linear(card, name, mix)
    model = open_reward(name, store, dtype="float32", mix=mix)
    assert isinstance(model, OpenReward)
    about = {"reward": name, "weights_hash": model.weights_hash, "base": card.base}
    if model.mix is not None:
        about["mix"] = model.mix
    fold(model.trunk, "reward")
    return write_classifier(model.trunk, "reward", out, card=model.card, about=about)
