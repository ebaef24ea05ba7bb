"""A tokeniser for rewards that run no model: a token is a character, and a turn ends with a mark.

It has what ``data.chat`` and ``reward.reading`` ask of a tokeniser of transformers, so texts for
features and rules take the way of all others, and nothing of them is lost on it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

# private-use characters, which no standard gives a meaning; texts lose theirs
MARKS = {"system": "\ue000", "user": "\ue001", "assistant": "\ue002", "tool": "\ue003"}
OTHER = "\ue004"
END = "\ue005"
NOT_IN_TEXTS = {ord(mark): None for mark in (*MARKS.values(), OTHER, END)}
MAX_TOKENS = 10_000_000


class PlainTokenizer:
    """Characters as tokens; ``apply_chat_template`` writes a mark before and after each turn."""

    bos_token = None
    eos_token = END
    pad_token = None

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Any = None,
        tokenize: bool = False,
        add_generation_prompt: bool = False,
    ) -> str:
        """Turns in order; tools and their calls are no text and are left out."""
        del tools, tokenize
        turns = [
            MARKS.get(one["role"], OTHER) + (one.get("content") or "").translate(NOT_IN_TEXTS) + END
            for one in messages
        ]
        return "".join(turns) + (MARKS["assistant"] if add_generation_prompt else "")

    def __call__(self, text: str, *, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """Characters as numbers."""
        del add_special_tokens
        return {"input_ids": [ord(one) for one in text]}

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text; turns that follow each other are joined by a line break."""
        text = "".join(map(chr, token_ids))
        if not skip_special_tokens:
            return text
        for mark in (*MARKS.values(), OTHER):
            text = text.replace(END + mark, "\n")
        return text.translate(NOT_IN_TEXTS)

    def asked(self, token_ids: Sequence[int]) -> str:
        """What the user said last in the tokens of a prompt; everything when no user spoke."""
        text = "".join(map(chr, token_ids))
        _, mark, after = text.rpartition(MARKS["user"])
        return after.partition(END)[0] if mark else self.decode(token_ids)


PLAIN = PlainTokenizer()
