"""Checked records to trees of token ids. What cannot be used is dropped by rule and counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from heedful.data.chat import encode_prompt, encode_response
from heedful.data.collate import Tree
from heedful.errors import DataError
from heedful.types import Demonstration, Message, Preference, Prompt


@dataclass(slots=True)
class Encoded:
    """Trees and the count of records dropped by each rule. Made by encoders, used by sources.

    ``pairs`` are the numbers of the preferences behind the trees' pairs, in their order.
    """

    trees: list[Tree] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    drops: Counter[str] = field(default_factory=Counter)

    def require(self, what: str) -> "Encoded":
        """Itself, or a ``DataError`` when nothing is left."""
        if not self.trees:
            rules = ", ".join(f"{rule}: {count}" for rule, count in self.drops.items()) or "none"
            raise DataError(f"no {what} left to train on; dropped by rule: {rules}")
        return self


def preference_trees(
    tokenizer: Any, preferences: Sequence[Preference], *, max_tokens: int
) -> Encoded:
    """One tree per prompt: its distinct answers once, and the compared pairs among them.

    A prompt whose longest conversation exceeds ``max_tokens`` loses those answers
    (rule ``too_long``); nothing is cut short.
    """
    by_prompt: dict[str, list[tuple[int, Preference]]] = {}
    for number, preference in enumerate(preferences):
        by_prompt.setdefault(preference.prompt.id, []).append((number, preference))
    encoded = Encoded()
    for prompt_id, group in by_prompt.items():
        tree = _tree(tokenizer, prompt_id, group, max_tokens, encoded)
        if tree is not None:
            encoded.trees.append(tree)
    return encoded


def _tree(
    tokenizer: Any,
    prompt_id: str,
    group: Sequence[tuple[int, Preference]],
    limit: int,
    encoded: Encoded,
) -> Tree | None:
    """The tree of a prompt's preferences, or None; ``encoded`` is told which ones it has."""
    prompt = encode_prompt(tokenizer, group[0][1].prompt)
    responses: dict[tuple[int, ...], int] = {}
    pairs, weights, margins = [], [], []
    for number, preference in group:
        sides = [
            encode_response(tokenizer, preference.prompt, side)
            for side in (preference.chosen, preference.rejected)
        ]
        if len(prompt) + max(map(len, sides)) > limit:
            encoded.drops["too_long"] += 1
            continue
        if sides[0] == sides[1]:
            encoded.drops["identical_sides"] += 1
            continue
        encoded.pairs.append(number)
        chosen, rejected = (responses.setdefault(side, len(responses)) for side in sides)
        pairs.append((chosen, rejected))
        weights.append(preference.weight)
        margins.append(preference.margin)
    if not pairs:
        return None
    return Tree(
        id=prompt_id,
        prompt=prompt,
        responses=tuple(responses),
        pairs=tuple(pairs),
        weights=tuple(weights),
        margins=tuple(margins),
    )


def demonstration_trees(
    tokenizer: Any, demonstrations: Sequence[Demonstration], *, max_tokens: int
) -> Encoded:
    """One tree per demonstration; longer ones than ``max_tokens`` are dropped."""
    encoded = Encoded()
    for row in demonstrations:
        prompt = encode_prompt(tokenizer, row.prompt)
        response = encode_response(tokenizer, row.prompt, row.response)
        if len(prompt) + len(response) > max_tokens:
            encoded.drops["too_long"] += 1
            continue
        encoded.trees.append(
            Tree(id=row.prompt.id, prompt=prompt, responses=(response,), weights=(row.weight,))
        )
    return encoded


def last_user_text(prompt: Prompt) -> str:
    """What the user asked last, for display and for rules."""
    asked = [m.content for m in prompt.messages if m.role == "user"]
    return asked[-1] if asked else prompt.messages[-1].content


def answer(text: str) -> tuple[Message, ...]:
    """A one-message answer."""
    return (Message(role="assistant", content=text),)
