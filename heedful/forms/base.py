"""What a feedback form is: a question, the answers it allows, and what they mean for training.

A form is one file: a class that extends ``Form`` and one line in ``FORMS``. The contract suite
in ``tests/contracts/test_forms.py`` then tests it. Checks that several forms make live here.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from heedful.errors import DataError
from heedful.registry import nearest
from heedful.types import (
    JSON,
    Annotation,
    Completion,
    Demonstration,
    Feedback,
    Message,
    Preference,
    Scale,
    Task,
)

MAX_TEXT = 20_000  # characters of an answer or critique that a person wrote
MAX_NOTE = 4_000  # characters of a comment or note, which is read beside the answer
MAX_SHOWN = 9  # completions of a task: the most that InstructGPT showed, one digit key each
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL and lone surrogates


class Judgement(NamedTuple):
    """One label in an answer. ``item`` says what was judged, within the task; empty: the task."""

    item: str
    label: str


class Points(NamedTuple):
    """What completion ``first`` gains against ``second``: 1 better, 0 worse, 0.5 a tie.

    Both are places in the task's completions, ``first`` the lower one.
    """

    first: int
    second: int
    gained: float


FIRST, SECOND, TIE = "first", "second", "tie"
BETTER = (SECOND, TIE, FIRST)  # how good the first of two is, from least to most


def label_of(gained: float) -> str:
    """The label of a comparison's points."""
    return TIE if gained == 0.5 else (FIRST if gained else SECOND)


class Form(Protocol):
    """A kind of task. Used by pages (question, schema), the store (validate) and snapshots.

    A form extends this class and states the first six members; the others have the meaning of a
    form that judges without comparing. Forms keep no state.
    """

    @property
    def name(self) -> str:
        """The key in ``FORMS`` and in ``Task.form``."""
        ...

    @property
    def question(self) -> str:
        """What the annotator is asked."""
        ...

    @property
    def num_completions(self) -> tuple[int, int]:
        """The least and the largest number of completions that a task shows."""
        ...

    def schema(self, completion_ids: Sequence[str]) -> JSON:
        """JSON Schema of the payloads allowed for a task with these completions.

        It accepts all that ``validate`` accepts; rules between two values are only in ``validate``.
        """
        ...

    def examples(self, completion_ids: Sequence[str]) -> list[dict[str, JSON]]:
        """One valid payload of every kind; for documentation and the contract suite.

        Where a completion has steps, the examples are about one of three.
        """
        ...

    def validate(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> None:
        """Raise ``DataError`` that says what was seen and what is allowed."""
        ...

    def check(
        self,
        task: Task,
        completions: Mapping[str, Completion],  # noqa: ARG002 - for forms that look at the text
        annotation: Annotation,
    ) -> None:
        """Like ``validate``, with the completions at hand; every conversion calls it.

        Who has the completions calls it before an answer is stored.
        """
        self.validate(annotation.payload, task.completion_ids)

    def renamed(
        self,
        payload: Mapping[str, JSON],
        names: Mapping[str, str],  # noqa: ARG002 - for forms whose payloads name completions
    ) -> dict[str, JSON]:
        """The same answer about completions of other names; a name that is not listed stays."""
        return dict(payload)

    def without_texts(self, payload: Mapping[str, JSON]) -> dict[str, JSON] | None:
        """The judgement without what its author wrote; None when it is nothing but a text."""
        return {key: value for key, value in payload.items() if key != "comment"}

    def agrees(
        self,
        payload: Mapping[str, JSON],  # noqa: ARG002 - as above
        other: Mapping[str, JSON],  # noqa: ARG002 - as above
    ) -> bool | None:
        """Do two valid answers say the same? None when no two answers of the form can be compared.

        Symmetric; comments and where the completions stood do not matter. A form that says None
        has no known answers and no disagreements.
        """
        return None

    @property
    def gives_points(self) -> bool:
        """Does an answer say which of the shown completions is better?"""
        return type(self).points is not Form.points

    @property
    def is_comparable(self) -> bool:
        """Can two answers say the same, so that there are known answers?"""
        shown = [str(number) for number in range(self.num_completions[0])]
        example = self.examples(shown)[0]
        return self.agrees(example, example) is not None

    def undecided(self, payload: Mapping[str, JSON]) -> str | None:  # noqa: ARG002 - as above
        """Why a valid payload teaches nothing (the rule it is dropped by), or None."""
        return None

    @property
    def order(self) -> tuple[str, ...]:
        """The labels of ``judgements`` from least to most; a label outside it has no place."""
        return ()

    def judgements(
        self,
        payload: Mapping[str, JSON],  # noqa: ARG002 - for forms that can be agreed on
        completion_ids: Sequence[str],  # noqa: ARG002 - the same
    ) -> list[Judgement]:
        """What a valid payload says, so that two people can be compared; empty for free text."""
        return []

    def points(
        self,
        payload: Mapping[str, JSON],  # noqa: ARG002 - for forms that compare
        completion_ids: Sequence[str],  # noqa: ARG002 - the same
    ) -> list[Points]:
        """What a valid payload says of pairs of the shown completions, ties included."""
        return []

    def to_preferences(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Preference]:
        """The comparisons that the answer states; empty when it states none."""
        self.check(task, completions, annotation)
        return []

    def to_feedback(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Feedback]:
        """Everything that the answer says of how good completions are, ties and ratings included.

        Empty when it says nothing of that.
        """
        self.check(task, completions, annotation)
        return []

    def to_demonstrations(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Demonstration]:
        """The answers that the annotator found worth imitating; empty when there are none."""
        self.check(task, completions, annotation)
        return []


class Comparison(NamedTuple):
    """One side is better than the other. Made by forms, used by ``compared``."""

    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    margin: float = 0.0
    probability: float = 1.0


def compared(
    task: Task, annotation: Annotation, comparisons: Sequence[Comparison]
) -> list[Preference]:
    """The comparisons of one answer as preferences; their weights sum to 1.

    A ranking of nine thus counts as much as one pair: the loss is the mean over the pairs that a
    prompt's ranking implies (InstructGPT, arXiv 2203.02155, equation 1), here without its ties.
    """
    return [
        Preference(
            prompt=task.prompt,
            chosen=one.chosen,
            rejected=one.rejected,
            margin=one.margin,
            probability=one.probability,
            weight=1 / len(comparisons),
            annotation_ids=(annotation.id,),
        )
        for one in comparisons
    ]


def judged(
    task: Task,
    annotation: Annotation,
    scale: Scale,
    values: Sequence[tuple[tuple[Message, ...], float]],
    *,
    criterion: str = "",
    margin: float = 0.0,
    probability: float = 1.0,
    weight: float = 1.0,
) -> Feedback:
    """One statement of an answer: a value on ``scale`` for each of some responses."""
    return Feedback(
        prompt=task.prompt,
        responses=tuple(response for response, _ in values),
        scale=scale,
        values=tuple(float(value) for _, value in values),
        criterion=criterion,
        margin=margin,
        probability=probability,
        weight=weight,
        form=task.form,
        source=annotation.source,
        annotator=annotation.annotator,
        annotation_ids=(annotation.id,),
    )


def imitated(
    task: Task, annotation: Annotation, responses: Iterable[tuple[Message, ...]]
) -> list[Demonstration]:
    """The responses that one answer found worth imitating, as demonstrations."""
    return [
        Demonstration(prompt=task.prompt, response=one, annotation_ids=(annotation.id,))
        for one in responses
    ]


def written_answer(text: str) -> tuple[Message, ...]:
    """What an annotator wrote, as a completion's messages."""
    return (Message(role="assistant", content=text),)


def renamed_keys(
    payload: Mapping[str, JSON], key: str, names: Mapping[str, str]
) -> dict[str, JSON]:
    """The payload with other names for the completions that are the keys under ``key``."""
    named = payload.get(key)
    if not isinstance(named, Mapping):
        return dict(payload)
    return {**payload, key: {names.get(one, one): value for one, value in named.items()}}


def payload_schema(properties: Mapping[str, JSON], *, required: Sequence[str]) -> dict[str, JSON]:
    """JSON Schema of a payload: these properties and the ``comment`` that every form takes."""
    return object_schema({**properties, "comment": text_schema(MAX_NOTE)}, required=required)


def object_schema(
    properties: Mapping[str, JSON], *, required: Sequence[str] = ()
) -> dict[str, JSON]:
    """JSON Schema of an object without other keys."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def text_schema(most: int = MAX_TEXT) -> dict[str, JSON]:
    """JSON Schema of what ``check_text`` accepts."""
    return {"type": "string", "pattern": r"\S", "maxLength": most}


def number_schema(low: int, high: int) -> dict[str, JSON]:
    """JSON Schema of what ``check_number`` accepts."""
    return {"type": "integer", "minimum": low, "maximum": high}


def check_payload(
    form: str, payload: Mapping[str, JSON], allowed: Sequence[str], *, required: Sequence[str] = ()
) -> None:
    """Refuse a payload with a missing or an unknown key, or a ``comment`` that is no short text."""
    check_object(form, "", payload, (*allowed, "comment"), required=required)
    if "comment" in payload:
        check_text(form, "comment", payload["comment"], most=MAX_NOTE)


def check_object(
    form: str, place: str, seen: JSON, allowed: Collection[str], *, required: Sequence[str] = ()
) -> None:
    """Refuse what is no object, has a key outside ``allowed`` or lacks one of ``required``.

    ``place`` is the key under which it stands, empty for the payload itself.
    """
    what = f"{form} answer's {place}" if place else f"{form} answer"
    if not isinstance(seen, Mapping):
        raise DataError(f"{what} is {seen!r:.80}; send a JSON object")
    for key in seen:
        if not isinstance(key, str) or key not in allowed:
            raise DataError(f"{what} has an unknown key {key!r:.80}; {_hint(key, allowed)}")
    for key in required:
        if key not in seen:
            raise DataError(
                f"{what} has no {key!r} among its {len(seen)} keys; it needs {', '.join(required)}"
            )


def check_choice(form: str, key: str, seen: JSON, allowed: Sequence[str | None]) -> None:
    """Refuse a value of ``key`` outside ``allowed`` (completion ids, words or None)."""
    if (seen is None or isinstance(seen, str)) and seen in allowed:
        return
    names = ", ".join("null" if name is None else name for name in allowed)
    raise DataError(f"{form} answer has {key} {seen!r:.80}; choose from: {names}")


def check_number(form: str, key: str, seen: JSON, low: int, high: int) -> None:
    """Refuse what is no whole number from ``low`` to ``high``; true and 1.0 are none."""
    if type(seen) is not int or not low <= seen <= high:
        raise DataError(
            f"{form} answer has {key} {seen!r:.80}; send a whole number from {low} to {high}"
        )


def check_text(form: str, key: str, seen: JSON, *, most: int = MAX_TEXT) -> None:
    """Refuse what is no text, blank, longer than ``most`` or not storable as UTF-8 text."""
    if not isinstance(seen, str) or not seen.strip():
        raise DataError(
            f"{form} answer has {key} {seen!r:.80}; send a text that is not empty, or no {key}"
        )
    if len(seen) > most:
        raise DataError(
            f"{form} answer has {key} of {len(seen)} characters; shorten it to at most {most}"
        )
    if found := _UNSTORABLE.search(seen):
        raise DataError(
            f"{form} answer has {key} with the character {found.group()!r}, which a database "
            "cannot hold; remove it"
        )


def _hint(key: object, allowed: Iterable[str]) -> str:
    return nearest(key, allowed) if isinstance(key, str) else "keys are strings"
