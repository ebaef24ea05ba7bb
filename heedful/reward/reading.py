"""What a reward model is asked about, as trees: conversations, and text of its chat template."""

from collections.abc import Sequence
from typing import Any

from heedful.data.chat import encode_prompt, encode_response, render, tokenize
from heedful.data.collate import Tree
from heedful.errors import DataError
from heedful.types import Message, Prompt


def answers_tree(
    tokenizer: Any, id: str, prompt: Prompt, answers: Sequence[Sequence[Message]]
) -> Tree:
    """A prompt and its answers in order, as training reads them; ``DataError`` by the template."""
    return Tree(
        id=id,
        prompt=encode_prompt(tokenizer, prompt),
        responses=tuple(encode_response(tokenizer, prompt, answer) for answer in answers),
    )


class RenderedText:
    """Reads conversations that somebody has put through the chat template already.

    ``opening`` is what the template writes before an answer, ``start`` what it writes first of all
    when that is a token that tokenisers add on their own, and which callers therefore leave out.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        asked = (Message(role="user", content="Hello"),)
        before = render(tokenizer, asked, answer_next=False)
        whole = render(tokenizer, asked, answer_next=True)
        self.opening = whole[len(before) :] if whole.startswith(before) else ""
        first = tokenizer.bos_token or ""
        self.start = first if whole.startswith(first) else ""
        # what may follow an answer; padding is often the end of turn itself
        self.ends = (tokenizer.eos_token, tokenizer.pad_token or tokenizer.eos_token)

    def tree(self, id: str, text: str, prompt: str | None = None) -> Tree:
        """The last answer of a conversation; an answer without an end gets one, as in training.

        ``prompt`` is the text before the answer, where the caller knows it. Raises ``DataError``
        when it is not told where the answer begins and the text does not say it either.
        """
        text = self._whole(text)
        prompt = self._whole(prompt) if prompt else None
        if prompt is None or not text.startswith(prompt):
            at = text.rfind(self.opening) if self.opening else -1
            if at < 0:
                raise DataError(
                    f"{id} does not have {self.opening!r}, which the chat template writes before "
                    "an answer; send text of this model's template, or messages"
                )
            prompt = text[: at + len(self.opening)]
        answer = self._without_end(text[len(prompt) :]) + self.tokenizer.eos_token
        return Tree(
            id=id,
            prompt=tokenize(self.tokenizer, prompt),
            responses=(tokenize(self.tokenizer, answer),),
        )

    def as_it_stands(self, id: str, text: str) -> Tree:
        """A conversation in one piece, for a model that reads what a classifier of transformers
        would: nothing is added but the first token that callers leave out.

        Raises ``DataError`` for a text without a token.
        """
        ids = tokenize(self.tokenizer, self._whole(text))
        if not ids:
            raise DataError(f"{id} is empty; send text of this model's template, or messages")
        return Tree(id=id, prompt=(), responses=(ids,))

    def _whole(self, text: str) -> str:
        return text if text.startswith(self.start) else self.start + text

    def _without_end(self, answer: str) -> str:
        cut = at = len(answer)
        while at:
            mark = next((one for one in self.ends if answer.endswith(one, 0, at)), "")
            if mark:
                cut = at = at - len(mark)
            elif answer[at - 1].isspace():
                at -= 1
            else:
                break
        return answer[:cut]
