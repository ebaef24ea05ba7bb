"""Conversations to token ids through the model's own chat template."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

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
    return tokenize(tokenizer, _answer_text(tokenizer, prompt, response))


class Turns(NamedTuple):
    """An answer's tokens, and the places of those that its writer was given: results of tools and
    what the template writes around them."""

    tokens: tuple[int, ...]
    given: frozenset[int]


def encode_turns(tokenizer: Any, prompt: Prompt, response: Sequence[Message]) -> Turns:
    """``encode_response`` for who learns to write: what the assistant wrote apart from the rest.

    Every turn of the assistant is tokenised by itself, as in generation. A text of another role
    is read and not learned. Raises ``DataError`` as ``encode_response`` does, also for a turn in
    the middle that the template renders otherwise once others follow.
    """
    text = _answer_text(tokenizer, prompt, response)
    if len(response) == 1:
        return Turns(tokenize(tokenizer, text), frozenset())
    tokens: list[int] = []
    given: list[int] = []
    for part, is_written in _parts(tokenizer, prompt, response, text):
        found = tokenize(tokenizer, part)
        if not is_written:
            given += range(len(tokens), len(tokens) + len(found))
        tokens += found
    return Turns(tuple(tokens), frozenset(given))


def _answer_text(tokenizer: Any, prompt: Prompt, response: Sequence[Message]) -> str:
    """What the template writes for the answer, up to the end of its last turn."""
    before = render(tokenizer, prompt.messages, answer_next=True, tools=prompt.tools)
    everything = [*prompt.messages, *response]
    answer = _after(before, render(tokenizer, everything, answer_next=False, tools=prompt.tools))
    end = answer.rfind(tokenizer.eos_token)
    if end < 0:
        raise DataError(
            f"the chat template writes no {tokenizer.eos_token!r} after an answer; the model "
            "could not learn to stop: use a template whose turns end with the eos token"
        )
    return answer[: end + len(tokenizer.eos_token)]


def _after(before: str, whole: str) -> str:
    """What a rendered conversation adds to its rendered beginning."""
    if not whole.startswith(before):
        raise DataError(
            "the chat template does not render a prompt as a prefix of prompt and answer; "
            "train with a template that does, or answers would be scored at the wrong tokens"
        )
    return whole[len(before) :]


def _parts(
    tokenizer: Any, prompt: Prompt, response: Sequence[Message], text: str
) -> Iterator[tuple[str, bool]]:
    """The answer's text in parts, and whether the assistant wrote each."""

    def rendered(num_turns: int, *, answer_next: bool) -> str:
        turns = [*prompt.messages, *response[:num_turns]]
        return render(tokenizer, turns, answer_next=answer_next, tools=prompt.tools)

    asked = rendered(0, answer_next=True)
    whole, place = asked + text, len(asked)
    for number, message in enumerate(response):
        if message.role != "assistant":
            continue
        before = rendered(number, answer_next=True)
        until = rendered(number + 1, answer_next=False)
        end = until.rfind(tokenizer.eos_token, len(before))
        until = until if end < 0 else until[: end + len(tokenizer.eos_token)]
        _after(before, until)
        _after(until, whole)
        yield whole[place : len(before)], False
        yield whole[len(before) : len(until)], True
        place = len(until)
    yield whole[place:], False
