"""Checked records to trees of token ids. What cannot be used is dropped by rule and counted."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

from heedful.data.chat import Turns, encode_prompt, encode_response, encode_turns
from heedful.data.collate import NOTHING, Said, Tree
from heedful.data.reading import compared
from heedful.errors import DataError
from heedful.registry import nearest
from heedful.types import Demonstration, Feedback, Message, Preference, Prompt, Scale


@dataclass(slots=True)
class Encoded:
    """Trees and the count of records dropped by each rule. Made by encoders, used by sources.

    ``pairs`` are the numbers of the rows behind what the trees' responses were said to be, in the
    order of the trees; of preferences they are the rows behind the trees' pairs. ``dropped`` are
    the numbers of the rows behind ``drops``, with their rules. ``annotators`` are the ids that the
    numbers in ``Said.annotator`` stand for; the trees themselves hold none.
    """

    trees: list[Tree] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)
    drops: Counter[str] = field(default_factory=Counter)
    dropped: list[tuple[int, str]] = field(default_factory=list)
    annotators: tuple[str, ...] = ()

    def drop(self, number: int, rule: str) -> None:
        """Count a row that was left out, or a part of it."""
        self.drops[rule] += 1
        self.dropped.append((number, rule))

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

    Pairs are orders of two; ``feedback_trees`` says what is dropped. For who learns to write: what
    an answer was given, such as results of tools, is marked (``Tree.given``).
    """
    rows = [preference.as_feedback() for preference in preferences]
    encoded = _trees(Encode(tokenizer, by_turns=True), rows, max_tokens, ())
    encoded.trees = [compared(tree) for tree in encoded.trees]
    return encoded


def feedback_trees(
    tokenizer: Any, rows: Sequence[Feedback], *, max_tokens: int, datasets: Sequence[str] = ()
) -> Encoded:
    """One tree per prompt: its distinct answers once, and everything that was said of them.

    A row whose conversation with an answer exceeds ``max_tokens`` loses that answer (rule
    ``too_long``); nothing is cut short. Orders that put the same text at two places are dropped:
    ``identical_sides`` of two, ``doubled_answer`` of more. ``datasets`` says of every row which set
    it is from, where there are several. Raises ``DataError`` for a row that is no statement, such
    as a ranking without a place for each answer. A reader scores all of an answer, so nothing is
    marked as given.
    """
    return _trees(Encode(tokenizer, by_turns=False), rows, max_tokens, datasets)


class Encode(NamedTuple):
    """How texts become tokens: an answer whole, or ``by_turns`` with what it was given marked."""

    tokenizer: Any
    by_turns: bool

    def prompt(self, prompt: Prompt) -> tuple[int, ...]:
        """What comes before the answer."""
        return encode_prompt(self.tokenizer, prompt)

    def answer(self, prompt: Prompt, answer: Sequence[Message]) -> Turns:
        """The answer's tokens."""
        if self.by_turns:
            return encode_turns(self.tokenizer, prompt, answer)
        return Turns(encode_response(self.tokenizer, prompt, answer), NOTHING)


def _trees(
    encode: Encode, rows: Sequence[Feedback], limit: int, datasets: Sequence[str]
) -> Encoded:
    by_prompt: dict[str, list[tuple[int, Feedback]]] = {}
    for number, row in enumerate(rows):
        check_feedback(row)
        by_prompt.setdefault(row.prompt.id, []).append((number, row))
    encoded = Encoded(annotators=tuple(sorted({row.annotator for row in rows})))
    numbers = {annotator: number for number, annotator in enumerate(encoded.annotators)}
    for prompt_id, group in by_prompt.items():
        tree = _tree(prompt_id, encode, group, limit, encoded, datasets, numbers)
        if tree is not None:
            encoded.trees.append(tree)
    return encoded


def check_feedback(row: Feedback) -> None:
    """Refuse a row that says nothing definite, with what is wrong."""
    place = f"feedback on prompt {row.prompt.id}"
    if row.scale not in get_args(Scale):
        raise DataError(f"{place} has scale {row.scale!r}; {nearest(row.scale, get_args(Scale))}")
    if len(row.values) != len(row.responses):
        raise DataError(
            f"{place} has {len(row.values)} values for {len(row.responses)} answers; "
            "give each answer exactly one"
        )
    least = 2 if row.scale == "order" else 1
    if len(row.responses) < least:
        raise DataError(
            f"{place} is a {row.scale} of {len(row.responses)} answers; it needs at least {least}"
        )
    if not all(map(math.isfinite, (*row.values, row.margin, row.weight))) or row.weight < 0:
        raise DataError(
            f"{place} has values {row.values}, margin {row.margin} and weight {row.weight}; "
            "give finite numbers and a weight of at least 0"
        )
    if row.scale == "flag" and (min(row.values) < 0 or not row.criterion):
        raise DataError(
            f"{place} is a flag {row.criterion!r} with severities {row.values}; name the flag and "
            "give severities of at least 0"
        )
    if row.scale == "thumb" and not set(row.values) <= {0.0, 1.0}:
        raise DataError(f"{place} has thumbs {row.values}; 1 is good and 0 is bad")
    if row.margin < 0 or (row.margin and (row.scale != "order" or len(row.responses) != 2)):
        raise DataError(
            f"{place} has margin {row.margin} on a {row.scale} of {len(row.responses)} answers; "
            "only an order of two has a strength, which is at least 0"
        )
    is_pair = row.scale == "order" and len(row.responses) == 2 and not row.margin
    if not 0.5 < row.probability <= 1 or (row.probability < 1 and not is_pair):
        raise DataError(
            f"{place} has probability {row.probability} on a {row.scale} of {len(row.responses)} "
            f"answers with margin {row.margin}; only an order of two without a strength has one, "
            "above 0.5 and at most 1"
        )


def _tree(
    prompt_id: str,
    encode: Encode,
    group: Sequence[tuple[int, Feedback]],
    limit: int,
    encoded: Encoded,
    datasets: Sequence[str],
    numbers: Mapping[str, int],
) -> Tree | None:
    """The tree of a prompt's feedback, or None; ``encoded`` is told which rows it has."""
    prompt = encode.prompt(group[0][1].prompt)
    responses: dict[Turns, int] = {}
    said = []
    for number, row in group:
        sides = [encode.answer(row.prompt, side) for side in row.responses]
        valued = [
            (side, value)
            for side, value in zip(sides, row.values, strict=True)
            if len(prompt) + len(side.tokens) <= limit
        ]
        if len(valued) < len(sides):
            encoded.drop(number, "too_long")
        if len(valued) < (2 if row.scale == "order" else 1):
            continue
        if row.scale == "order":
            valued = list(dict.fromkeys(valued))  # the same text twice at one place
            if len({side for side, _ in valued}) < max(len(valued), 2):
                rule = "identical_sides" if len(sides) == 2 else "doubled_answer"
                encoded.drop(number, rule)
                continue
        encoded.pairs.append(number)
        said.append(
            Said(
                scale=row.scale,
                responses=tuple(responses.setdefault(side, len(responses)) for side, _ in valued),
                values=tuple(value for _, value in valued),
                criterion=row.criterion,
                margin=row.margin,
                probability=row.probability,
                weight=row.weight,
                form=row.form,
                source=row.source,
                dataset=datasets[number] if datasets else "",
                annotator=numbers[row.annotator],
            )
        )
    if not said:
        return None
    return Tree(
        id=prompt_id,
        prompt=prompt,
        responses=tuple(one.tokens for one in responses),
        said=tuple(said),
        given=given_places(list(responses)),
    )


def given_places(answers: Sequence[Turns]) -> tuple[frozenset[int], ...]:
    """``Tree.given`` of answers: empty when their writer was given nothing."""
    return tuple(one.given for one in answers) if any(one.given for one in answers) else ()


def demonstration_trees(
    tokenizer: Any, demonstrations: Sequence[Demonstration], *, max_tokens: int
) -> Encoded:
    """One tree per demonstration; longer ones than ``max_tokens`` are dropped.

    Results of tools in a demonstration are marked as given.
    """
    encoded = Encoded()
    for row in demonstrations:
        prompt = encode_prompt(tokenizer, row.prompt)
        written = encode_turns(tokenizer, row.prompt, row.response)
        if len(prompt) + len(written.tokens) > max_tokens:
            encoded.drops["too_long"] += 1
            continue
        encoded.trees.append(
            Tree(
                id=row.prompt.id,
                prompt=prompt,
                responses=(written.tokens,),
                weights=(row.weight,),
                given=given_places([written]),
            )
        )
    return encoded


def last_user_text(prompt: Prompt) -> str:
    """What the user asked last, for display and for rules."""
    asked = [m.content for m in prompt.messages if m.role == "user"]
    return asked[-1] if asked else prompt.messages[-1].content


def answer(text: str) -> tuple[Message, ...]:
    """A one-message answer."""
    return (Message(role="assistant", content=text),)
