"""Turns of a conversation with their tool calls."""

import json

import pytest
from reading import parsed

from heedful.types import Message
from heedful.web.render import conversation


def test_turns_have_the_names_of_their_roles() -> None:
    turns = conversation(
        [
            Message(role="system", content="Be **brief**."),
            Message(role="user", content="Hello"),
            Message(role="assistant", content=""),
            Message(role="tool", content="*x*", name="search"),
        ]
    )
    assert [turn.label for turn in turns] == ["System", "Person", "Assistant", "Tool search"]
    assert turns[0].body == '<p dir="auto">Be <strong>brief</strong>.</p>\n'
    assert turns[2].body == ""
    assert turns[3].body == '<pre class="plain" dir="auto">\n*x*</pre>'


def test_a_tool_call_shows_its_name_and_indented_arguments() -> None:
    call = {"name": "search", "arguments": '{"query": "<b>", "tags": ["é"], "n": 2}'}
    text = json.dumps({"id": "call_1", "type": "function", "function": call})
    messages = [
        Message(role="assistant", content="", tool_calls=(text,)),
        Message(role="tool", content="none", tool_call_id="call_1"),
    ]
    turns = conversation(messages)
    (shown_call,) = turns[0].tool_calls
    assert shown_call.name == "search"
    code = "".join(parsed(f"<pre>{shown_call.arguments}</pre>").itertext())
    assert code.strip() == '{\n  "query": "<b>",\n  "tags": [\n    "é"\n  ],\n  "n": 2\n}'
    assert '<span class="nt">' in shown_call.arguments
    assert turns[1].label == "Tool search"


def test_arguments_may_be_an_object() -> None:
    text = json.dumps({"function": {"name": "f", "arguments": {"x": [1]}}})
    (call,) = conversation([Message(role="assistant", content="", tool_calls=(text,))])[
        0
    ].tool_calls
    assert "".join(parsed(call.arguments).itertext()).split() == ["{", '"x":', "[", "1", "]", "}"]


@pytest.mark.parametrize(
    "text",
    [
        "not <json>",
        "[]",
        "null",
        '{"function": {"name": 1, "arguments": "{}"}}',
        '{"function": {"name": "f", "arguments": "{}"}, "note": "seen"}',
        '{"function": {"name": "f", "arguments": "{}", "note": "seen"}}',
        '{"function": {"name": "f", "arguments": "{}", "name": "g"}}',
        "[" * 100_000,
        '{"a":' * 5_000,
    ],
)
def test_malformed_calls_are_shown_as_they_are(text: str) -> None:
    (call,) = conversation([Message(role="assistant", content="", tool_calls=(text,))])[
        0
    ].tool_calls
    assert call.name == "?"
    assert "".join(parsed(f"<p>{call.arguments}</p>").itertext()) == text


@pytest.mark.parametrize(
    "arguments",
    [
        "query: cats",
        '{"x": 1, "x": 2}',
        '{"x": 1e999}',
        "[" * 5_000 + "]" * 5_000,
        "[" * 400 + "0," * 9_000 + "0" + "]" * 400,
        '{"x": ' + "9" * 5_000 + "}",
    ],
)
def test_arguments_that_json_would_change_are_shown_as_they_are(arguments: str) -> None:
    text = json.dumps({"function": {"name": "f", "arguments": arguments}})
    (call,) = conversation([Message(role="assistant", content="", tool_calls=(text,))])[
        0
    ].tool_calls
    assert call.name == "f"
    assert "".join(parsed(f"<p>{call.arguments}</p>").itertext()) == arguments
