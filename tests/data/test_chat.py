import json
from typing import Any

import pytest

from heedful.data.chat import Turns, encode_prompt, encode_response, encode_turns, render
from heedful.errors import DataError
from heedful.model.tiny import build_tokenizer
from heedful.types import Message, Prompt

TEMPLATE = (
    "{% for tool in tools or [] %}<tool {{ tool.name }}>{% endfor %}"
    "{% for m in messages %}<{{ m.role }}{% if m.tool_call_id %} {{ m.tool_call_id }}{% endif %}>"
    "{{ m.content }}{% for call in m.tool_calls or [] %}[{{ call.name }}]{% endfor %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
CALL = Message(role="assistant", content="", tool_calls=(json.dumps({"name": "add"}),))
RESULT = Message(role="tool", content="7", tool_call_id="c1", name="add")


@pytest.fixture
def tokenizer() -> Any:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_tools_and_their_calls_reach_the_template(tokenizer: Any) -> None:
    end = tokenizer.eos_token
    prompt = Prompt(
        messages=(Message(role="user", content="3 + 4?"), CALL, RESULT),
        tools=('{"name": "add"}', '{"name": "mul"}'),
    )
    text = render(tokenizer, prompt.messages, answer_next=True, tools=prompt.tools)
    assert text == (
        f"<tool add><tool mul><user>3 + 4?{end}<assistant>[add]{end}<tool c1>7{end}<assistant>"
    )
    assert tokenizer.decode(encode_prompt(tokenizer, prompt)) == text
    answer = encode_response(tokenizer, prompt, (Message(role="assistant", content="7"),))
    assert tokenizer.decode(answer) == f"7{end}"


def test_without_tools_the_template_sees_none(tokenizer: Any) -> None:
    text = render(tokenizer, (Message(role="user", content="hi"),), answer_next=True)
    assert text == f"<user>hi{tokenizer.eos_token}<assistant>"


LAST = Message(role="assistant", content="7.")
ASKED = Prompt(messages=(Message(role="user", content="3 + 4?"),), tools=('{"name": "add"}',))


def by_writer(tokenizer: Any, answer: Turns) -> tuple[str, str]:
    """What the assistant wrote and what it was given."""
    written = [one for place, one in enumerate(answer.tokens) if place not in answer.given]
    given = [one for place, one in enumerate(answer.tokens) if place in answer.given]
    return tokenizer.decode(written), tokenizer.decode(given)


def test_the_assistant_wrote_its_turns_and_was_given_what_tools_said(tokenizer: Any) -> None:
    end = tokenizer.eos_token
    answer = encode_turns(tokenizer, ASKED, (CALL, RESULT, CALL, RESULT, LAST))
    assert tokenizer.decode(answer.tokens) == (
        f"[add]{end}<tool c1>7{end}<assistant>[add]{end}<tool c1>7{end}<assistant>7.{end}"
    )
    written, given = by_writer(tokenizer, answer)
    assert written == f"[add]{end}[add]{end}7.{end}"
    assert given == 2 * f"<tool c1>7{end}<assistant>"


def test_an_answer_of_one_turn_is_the_same_for_readers_and_writers(tokenizer: Any) -> None:
    tokens = encode_response(tokenizer, ASKED, (LAST,))
    assert encode_turns(tokenizer, ASKED, (LAST,)) == Turns(tokens, frozenset())


def test_what_a_user_says_in_the_middle_is_given_too(tokenizer: Any) -> None:
    end = tokenizer.eos_token
    more = Message(role="user", content="And 5?")
    answer = encode_turns(tokenizer, ASKED, (LAST, more, LAST))
    written, given = by_writer(tokenizer, answer)
    assert (written, given) == (2 * f"7.{end}", f"<user>And 5?{end}<assistant>")


def test_what_follows_the_last_turn_of_the_assistant_is_given(tokenizer: Any) -> None:
    answer = encode_turns(tokenizer, ASKED, (CALL, RESULT))
    assert by_writer(tokenizer, answer)[1] == f"<tool c1>7{tokenizer.eos_token}"


def test_a_template_that_renders_earlier_turns_otherwise_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE.replace(
        "{{ m.content }}", "{{ m.content if loop.last else m.content | upper }}"
    )
    first = Message(role="assistant", content="one moment")
    with pytest.raises(DataError, match="does not render a prompt as a prefix"):
        encode_turns(tokenizer, ASKED, (first, RESULT, LAST))
