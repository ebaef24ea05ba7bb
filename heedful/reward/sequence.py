"""A sequence classifier of transformers as a reward: one logit for a conversation.

Only weights in safetensors are read, and no code that lies beside them is run.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch

from heedful.data.chat import render, tokenize
from heedful.data.collate import Advance, Tree, silent
from heedful.errors import DataError, NumericsError, ProofError
from heedful.reward.scorers import Asked, Counts, Rated, Scored, TreeScores, score_rated
from heedful.reward.trained import Judgement
from heedful.types import Message, Preference, Prompt

CONFIG = "config.json"
KIND = "ForSequenceClassification"  # how the name of such an architecture ends
# of a logit, between a row alone and the same row padded; rounding adds up over layers, in bfloat16
# to a quarter
TOLERANCE, ROUNDINGS = 1e-3, 32
NUM_PROVED = 4  # rows, as one that is read at the wrong token may come out alike in bfloat16


def is_classifier(directory: Path) -> bool:
    """Does a directory say that it holds a sequence classifier of transformers?"""
    try:
        told = json.loads((directory / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    names = told.get("architectures") if isinstance(told, dict) else None
    return any(str(name).endswith(KIND) for name in names or ())


class ClassifierReward:
    """The logit that a sequence classifier gives a conversation, and the offset that it states.

    One that ``heedful export reward`` wrote states what its logit lacks to the reward; of any other
    the reward is the raw logit.

    A conversation is written by the classifier's own chat template and tokenised in one piece, as
    transformers does, so a tree has no prompt and whole conversations as responses.
    """

    mix = None

    def __init__(self, directory: Path, *, tokens_per_pass: int, dtype: str = "auto") -> None:
        self.name = str(directory)
        self.reader = self.name
        self.tokens_per_pass = tokens_per_pass
        self.model, self.tokenizer = load_classifier(directory, dtype)
        config = self.model.config.get_text_config()
        # without padding of its own a classifier of transformers reads the wrong token of a batch
        self.pad = config.pad_token_id
        self.offset = stated(directory, "offset") or 0.0
        # one that Heedful did not write has no deviation, and its logit is in log-odds
        self.std = stated_std(directory)
        limit = getattr(config, "max_position_embeddings", None)
        longest = self.tokenizer.model_max_length
        self.max_tokens: int = min(limit or longest, longest)
        self._is_proved = False

    def tree(self, id: str, prompt: Prompt, answers: Sequence[Sequence[Message]]) -> Tree:
        """A prompt with each of its answers, whole; raises what the template raises."""
        return Tree(
            id=id, prompt=(), responses=tuple(self.ids(prompt, answer) for answer in answers)
        )

    def ids(self, prompt: Prompt, answer: Sequence[Message]) -> tuple[int, ...]:
        """The tokens of a conversation."""
        messages = [*prompt.messages, *answer]
        text = render(self.tokenizer, messages, answer_next=False, tools=prompt.tools)
        return tokenize(self.tokenizer, text)

    def score(self, trees: Sequence[Tree]) -> TreeScores:
        """The reward of every response, by tree; ``NumericsError`` for one that is no number."""
        found = iter(self.logits([tree.prompt + one for tree in trees for one in tree.responses]))
        rows = [[next(found) + self.offset for _ in tree.responses] for tree in trees]
        for tree, row in zip(trees, rows, strict=True):
            if not all(map(math.isfinite, row)):
                raise NumericsError(f"classifier {self.name} gives {tree.id} {row}, no number")
        return rows

    def judge(self, trees: Sequence[Tree]) -> list[list[Judgement]]:
        """The same without parts, which there are none of."""
        return [[Judgement(one, {}) for one in row] for row in self.score(trees)]

    def logits(self, rows: Sequence[tuple[int, ...]], advance: Advance = silent) -> list[float]:
        """The logit of each conversation, those of similar length in one pass."""
        found = [0.0] * len(rows)
        for group in self._batches(rows):
            for place, logit in zip(group, self._logits([rows[n] for n in group]), strict=True):
                found[place] = logit
            advance(len(group))
        return found

    def _batches(self, rows: Sequence[tuple[int, ...]]) -> list[list[int]]:
        """Rows of similar length, ``tokens_per_pass`` with padding at most; one row at least."""
        groups: list[list[int]] = []
        for number in sorted(range(len(rows)), key=lambda number: len(rows[number])):
            room = self.tokens_per_pass // len(rows[number])
            if not groups or self.pad is None or len(groups[-1]) >= room:
                groups.append([])
            groups[-1].append(number)
        return groups

    def _logits(self, rows: Sequence[tuple[int, ...]]) -> list[float]:
        found = self._forward(rows)
        padded = [place for place, row in enumerate(rows) if len(row) < len(rows[-1])]
        if padded and not self._is_proved:
            for place in padded[:NUM_PROVED]:
                self._prove(self._forward([rows[place]])[0], found[place])
            self._is_proved = True
        return found

    def _prove(self, alone: float, padded: float) -> None:
        """Raise ``ProofError`` unless both logits of a conversation are equal up to rounding."""
        near = max(TOLERANCE, ROUNDINGS * torch.finfo(self.model.dtype).eps)
        if abs(alone - padded) > near * max(1.0, abs(alone)):
            raise ProofError(
                f"{self.name} gives a conversation {alone:.4g} alone and {padded:.4g} in a padded "
                "batch; set pad_token_id in its config.json to the token that its tokeniser pads "
                "with"
            )

    @torch.no_grad()
    def _forward(self, rows: Sequence[tuple[int, ...]]) -> list[float]:
        width = max(map(len, rows))
        device = self.model.device
        ids = torch.full((len(rows), width), self.pad or 0, dtype=torch.long, device=device)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row, device=device)
            mask[place, : len(row)] = 1
        logits = self.model(input_ids=ids, attention_mask=mask).logits
        return [float(one) for one in logits[:, 0].float().tolist()]


class ClassifierScorer:
    """A ``ClassifierReward`` as a reward card asks for scores."""

    reads_pairs = False
    counts: Counts = "answers"
    scale = "sequence classifier, its logit"

    def __init__(self, directory: Path, *, max_tokens: int, dtype: str = "auto") -> None:
        self.reward = ClassifierReward(directory, tokens_per_pass=max_tokens, dtype=dtype)

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        """See ``Scorer``."""
        return score_rated(self, pairs, advance)

    def rate(self, asked: Sequence[Asked], advance: Advance = silent) -> Rated:
        """See ``Rater``; what the template refuses or the model is too short for is left out."""
        rows: dict[int, tuple[int, ...]] = {}
        drops: dict[str, int] = {}
        for number, (prompt, answer) in enumerate(asked):
            try:
                ids = self.reward.ids(prompt, answer)
            except (DataError, jinja2.TemplateError):
                drops["not_rendered"] = drops.get("not_rendered", 0) + 1
                continue
            if len(ids) > self.reward.max_tokens:
                drops["too_long"] = drops.get("too_long", 0) + 1
                continue
            rows[number] = ids
        advance(len(asked) - len(rows))
        logits = self.reward.logits(list(rows.values()), advance)
        return Rated(scores=dict(zip(rows, logits, strict=True)), drops=drops)


def stated(directory: Path, name: str) -> float | None:
    """A number that ``reward.classifier`` wrote into the config; other classifiers have none."""
    told = json.loads((directory / CONFIG).read_text()).get("heedful")
    found = told.get(name) if isinstance(told, dict) else None
    if found is None:
        return None
    if not isinstance(found, int | float) or not math.isfinite(found):
        raise DataError(f"{directory / CONFIG} states the {name} {found!r:.40}; write a number")
    return float(found)


def stated_std(directory: Path) -> float | None:
    """The deviation of the logit that ``reward.classifier`` wrote; ``DataError`` unless above 0."""
    std = stated(directory, "std")
    if std is not None and std <= 0:
        raise DataError(f"{directory / CONFIG} states the std {std:g}; write a number above 0")
    return std


def check_safe(directory: Path) -> None:
    """Raise ``DataError`` for code or weights that could run something; loads nothing."""
    told = json.loads((directory / CONFIG).read_text())
    if "auto_map" in told:
        raise DataError(
            f"{directory} runs code of its own (auto_map in {CONFIG}), which is never done here; "
            "give a model of an architecture that transformers has"
        )
    if (directory / "adapter_config.json").exists():
        raise DataError(
            f"{directory} holds an adapter (adapter_config.json), whose base would be looked for "
            "elsewhere; merge the adapter into its base and save the whole model"
        )
    if not any(directory.glob("*.safetensors")):
        raise DataError(
            f"{directory} has no *.safetensors; other weights can run code when they are loaded: "
            "save it with save_pretrained of a current transformers"
        )


def load_classifier(directory: Path, dtype: str) -> tuple[Any, Any]:
    """Model and tokeniser of a directory; raises ``DataError`` for what is no such reward model.

    Refused are weights that are not safetensors, code beside them, more than one label, a head
    that is not in the file (it would be random), and a tokeniser without a chat template.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from heedful.model.device import default_device

    check_safe(directory)
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            str(directory),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            output_loading_info=True,
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        told_why = " ".join(str(error).split())[:300]
        raise DataError(f"{directory} cannot be loaded as a classifier: {told_why}") from error
    if model.config.num_labels != 1:
        raise DataError(
            f"{directory} has {model.config.num_labels} labels; a reward model has one logit"
        )
    if missing := sorted(found["missing_keys"]):
        raise DataError(
            f"{directory} lacks {', '.join(missing[:3])}, which would be random; give a directory "
            "with all weights of the classifier"
        )
    if not tokenizer.chat_template:
        raise DataError(
            f"the tokeniser of {directory} has no chat template, so it is not known how the model "
            "reads a conversation; add the one that it was trained with"
        )
    return model.eval().to(default_device()), tokenizer
