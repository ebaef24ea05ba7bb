"""Untrusted text as safe HTML."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

from heedful.types import Message

LABELS = {"user": "Person", "assistant": "Assistant", "system": "System", "tool": "Tool"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call as a page shows it."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message as a page shows it."""

    role: str
    label: str
    body: Markup
    tool_calls: tuple[ToolCall, ...]


@cache
def parser() -> MarkdownIt:
    """CommonMark with tables; HTML is text and images are links."""
    return (
        MarkdownIt("commonmark", {"html": False})
        .enable(["table", "strikethrough"])
        .disable("image")
    )


def markdown(text: str) -> Markup:
    """Markdown as sanitised HTML."""
    return Markup(nh3.clean(parser().render(text)))  # noqa: S704 - sanitised


def masked(text: str, phrases: Sequence[str]) -> str:
    """The text with every phrase hidden, whole words, whatever their case."""
    words = "|".join(re.escape(one) for one in sorted(phrases, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{words})(?!\w)", "█████", text, flags=re.IGNORECASE)


def conversation(messages: Sequence[Message]) -> list[Turn]:
    """The messages as turns of a page."""
    return [
        Turn(
            role=one.role,
            label=" ".join(filter(None, (LABELS[one.role], one.name))),
            body=markdown(one.content),
            tool_calls=tuple(tool_call(text) for text in one.tool_calls),
        )
        for one in messages
    ]


def tool_call(text: str) -> ToolCall:
    """A call from its JSON; as it stands when it is none."""
    try:
        call = json.loads(text)
        function = call.get("function", call)
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        return ToolCall(name=str(function["name"]), arguments=json.dumps(arguments, indent=2))
    except (ValueError, AttributeError, KeyError):
        return ToolCall(name="?", arguments=text)
