"""Conversations to token ids through the model's own chat template."""

import json
from collections.abc import Sequence
from typing import Any

from heedful.errors import DataError
from heedful.types import JSON, Message, Prompt, messages_json


def render(
    tokenizer: Any, messages: Sequence[Message], *, answer_next: bool, tools: Sequence[str] = ()
) -> str:
    """The template's text; ``answer_next`` ends it where the assistant starts to speak."""
    text: str = tokenizer.apply_chat_template(
        [for_template(row) for row in messages_json(tuple(messages))],
        tools=[unpacked(tool) for tool in tools] or None,
        tokenize=False,
        add_generation_prompt=answer_next,
    )
    return text


def for_template(row: dict[str, JSON]) -> dict[str, JSON]:
    """A message as templates expect it: calls of tools as objects."""
    if "tool_calls" not in row:
        return row
    return row | {"tool_calls": [unpacked(call) for call in row["tool_calls"]]}


def unpacked(text: str) -> JSON:
    """What a JSON text says, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def tokenize(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids without any added specials: the template has written them already."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode_prompt(tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
    """Everything the model sees before its answer."""
    return tokenize(
        tokenizer, render(tokenizer, prompt.messages, answer_next=True, tools=prompt.tools)
    )


def encode_response(tokenizer: Any, prompt: Prompt, response: Sequence[Message]) -> tuple[int, ...]:
    """The answer's tokens, ending with the end of its turn.

    Prompt and answer are tokenised apart, as in generation, so no token spans the seam. Raises
    ``DataError`` when the template does not render the prompt as a prefix of the conversation or
    drops the end of the turn.
    """
    before = render(tokenizer, prompt.messages, answer_next=True, tools=prompt.tools)
    everything = [*prompt.messages, *response]
    whole = render(tokenizer, everything, answer_next=False, tools=prompt.tools)
    if not whole.startswith(before):
        raise DataError(
            "the chat template does not render a prompt as a prefix of prompt and answer; "
            "train with a template that does, or answers would be scored at the wrong tokens"
        )
    answer = whole[len(before) :]
    end = answer.rfind(tokenizer.eos_token)
    if end < 0:
        raise DataError(
            f"the chat template writes no {tokenizer.eos_token!r} after an answer; the model "
            "could not learn to stop: use a template whose turns end with the eos token"
        )
    return tokenize(tokenizer, answer[: end + len(tokenizer.eos_token)])
