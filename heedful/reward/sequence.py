"""A sequence classifier of transformers as a reward: one logit for a conversation.

Only weights in safetensors are read, and no code that lies beside them is run.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import torch

from heedful.data.chat import render, tokenize
from heedful.data.collate import Advance, silent
from heedful.errors import DataError, ProofError
from heedful.reward.scorers import Asked, Counts, Rated, Scored, score_rated
from heedful.types import Preference

CONFIG = "config.json"
KIND = "ForSequenceClassification"  # how the name of such an architecture ends
TOLERANCE = 1e-3  # of a logit, between a row alone and the same row padded


def is_classifier(directory: Path) -> bool:
    """Does a directory say that it holds a sequence classifier of transformers?"""
    try:
        told = json.loads((directory / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    names = told.get("architectures") if isinstance(told, dict) else None
    return any(str(name).endswith(KIND) for name in names or ())


class ClassifierScorer:
    """The logit that a sequence classifier gives a conversation, by its own chat template."""

    reads_pairs = False
    counts: Counts = "answers"
    scale = "sequence classifier, its logit"

    def __init__(self, directory: Path, *, max_tokens: int, dtype: str = "auto") -> None:
        self.directory = directory
        self.model, self.tokenizer = load_classifier(directory, dtype)
        self.max_tokens = max_tokens
        # without padding of its own a classifier of transformers reads the wrong token of a batch
        self.pad = self.model.config.get_text_config().pad_token_id
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        self.limit = min(limit or self.tokenizer.model_max_length, self.tokenizer.model_max_length)
        self._is_proved = False

    def score(self, pairs: Sequence[Preference], advance: Advance = silent) -> Scored:
        """See ``Scorer``."""
        return score_rated(self, pairs, advance)

    def rate(self, asked: Sequence[Asked], advance: Advance = silent) -> Rated:
        """See ``Rater``; what the template refuses or the model is too short for is left out."""
        rows: dict[int, tuple[int, ...]] = {}
        drops: dict[str, int] = {}
        for number, one in enumerate(asked):
            try:
                ids = self._ids(one)
            except (DataError, jinja2.TemplateError):
                drops["not_rendered"] = drops.get("not_rendered", 0) + 1
                continue
            if len(ids) > self.limit:
                drops["too_long"] = drops.get("too_long", 0) + 1
                continue
            rows[number] = ids
        advance(len(asked) - len(rows))
        order = sorted(rows, key=lambda number: len(rows[number]))
        scores: dict[int, float] = {}
        for group in self._batches(order, rows):
            scores |= dict(zip(group, self._logits([rows[n] for n in group]), strict=True))
            advance(len(group))
        return Rated(scores=scores, drops=drops)

    def _ids(self, asked: Asked) -> tuple[int, ...]:
        prompt, answer = asked
        messages = [*prompt.messages, *answer]
        text = render(self.tokenizer, messages, answer_next=False, tools=prompt.tools)
        return tokenize(self.tokenizer, text)

    def _batches(self, order: Sequence[int], rows: dict[int, tuple[int, ...]]) -> list[list[int]]:
        """Rows of similar length, at most ``max_tokens`` with padding; one row at least."""
        groups: list[list[int]] = []
        for number in order:
            room = self.max_tokens // len(rows[number])
            if not groups or self.pad is None or len(groups[-1]) >= room:
                groups.append([])
            groups[-1].append(number)
        return groups

    def _logits(self, rows: Sequence[tuple[int, ...]]) -> list[float]:
        found = self._forward(rows)
        if len(rows) > 1 and len(rows[0]) < len(rows[-1]) and not self._is_proved:
            alone = self._forward(rows[:1])[0]
            if abs(alone - found[0]) > TOLERANCE * max(1.0, abs(alone)):
                raise ProofError(
                    f"{self.directory} gives a conversation {alone:.4g} alone and {found[0]:.4g} "
                    "in a padded batch; set pad_token_id in its config.json to the token that its "
                    "tokeniser pads with"
                )
            self._is_proved = True
        return found

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


def load_classifier(directory: Path, dtype: str) -> tuple[Any, Any]:
    """Model and tokeniser of a directory; raises ``DataError`` for what is no such reward model.

    Refused are weights that are not safetensors, code beside them, more than one label, a head
    that is not in the file (it would be random), and a tokeniser without a chat template.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from heedful.model.device import default_device

    told = json.loads((directory / CONFIG).read_text())
    if "auto_map" in told:
        raise DataError(
            f"{directory} runs code of its own (auto_map in {CONFIG}), which is never done here; "
            "give a model of an architecture that transformers has"
        )
    if not any(directory.glob("*.safetensors")):
        raise DataError(
            f"{directory} has no *.safetensors; other weights can run code when they are loaded: "
            "save it with save_pretrained of a current transformers"
        )
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
