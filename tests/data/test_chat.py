import json
from typing import Any

import pytest

from heedful.data.chat import encode_prompt, encode_response, render
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
