"""Text that a template has rendered is read as the conversation it came from."""

from typing import Any

import pytest

from heedful.data.chat import render
from heedful.errors import DataError
from heedful.model.tiny import build_tokenizer
from heedful.reward.reading import RenderedText, answers_tree
from heedful.types import Message, Prompt

ASKED = (
    Message(role="user", content="one"),
    Message(role="assistant", content="two"),
    Message(role="user", content="three"),
)
SAID = (Message(role="assistant", content="four "),)


@pytest.fixture
def tokenizer() -> Any:
    return build_tokenizer()


@pytest.mark.parametrize("tail", ["", "<|pad|><|pad|>", "\n", "<|end|><|end|>", " <|pad|>\n"])
def test_a_rendered_conversation_has_the_tokens_of_its_messages(tokenizer: Any, tail: str) -> None:
    text = render(tokenizer, [*ASKED, *SAID], answer_next=False)
    wanted = answers_tree(tokenizer, "t", Prompt(messages=ASKED), [SAID])
    assert RenderedText(tokenizer).tree("t", text + tail) == wanted


def test_an_answer_that_was_cut_gets_its_end_and_keeps_its_space(tokenizer: Any) -> None:
    text = render(tokenizer, ASKED, answer_next=True) + "four "
    wanted = answers_tree(tokenizer, "t", Prompt(messages=ASKED), [SAID])
    assert RenderedText(tokenizer).tree("t", text) == wanted


def test_a_prompt_that_is_given_says_where_the_answer_begins(tokenizer: Any) -> None:
    before = render(tokenizer, ASKED, answer_next=True)
    quoted = "I say <|assistant|> myself"
    wanted = len(before) + len(quoted)
    tree = RenderedText(tokenizer).tree("t", before + quoted, before)
    assert tokenizer.decode(tree.responses[0]) == quoted + "<|end|>"
    assert len(tokenizer.decode(tree.prompt)) + len(quoted) == wanted


def test_a_prompt_that_the_text_does_not_begin_with_is_not_believed(tokenizer: Any) -> None:
    before = render(tokenizer, ASKED, answer_next=True)
    tree = RenderedText(tokenizer).tree("t", before + "four ", "another prompt")
    assert tokenizer.decode(tree.prompt) == before


def test_a_first_token_that_was_left_out_comes_back(tokenizer: Any) -> None:
    tokenizer.bos_token = "<|user|>"
    text = render(tokenizer, [*ASKED, *SAID], answer_next=False)
    read = RenderedText(tokenizer)
    assert read.tree("t", text.removeprefix("<|user|>")) == read.tree("t", text)


def test_text_of_another_template_is_refused_with_what_is_missing(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"query\[3\] does not have '<|assistant|>'"):
        RenderedText(tokenizer).tree("query[3]", "Human: hello\n\nAssistant: hi")
