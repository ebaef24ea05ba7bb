"""Which steps of a completion are good, neutral or bad; all of them, or up to the first error."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from heedful.errors import DataError
from heedful.forms.base import Form, Judgement, check_number, check_payload, payload_schema
from heedful.types import JSON, Annotation, Completion, Message, Task

GOOD, NEUTRAL, BAD = 1, 0, -1
WORDS = ("bad", "neutral", "good")
_FENCE = re.compile(r"\s*`{3,}[^`]*$")  # opens or closes a block of code


class Steps(Form):
    """Payload ``{"labels": [1, 0, -1]}``: 1 good, 0 neutral, -1 bad, one label per step.

    ``{"labels": [1, -1], "first_error": true}``: labelling stopped at the first bad step, as in
    Lightman et al. 2023 (arXiv 2305.20050); what follows it is not labelled. ``split_steps`` says
    what the steps are. ``validate`` sees no texts, so ``check`` compares the number of labels with
    the number of steps.
    """

    name = "steps"
    question = "Is each step good, neutral or bad?"
    num_completions = (1, 1)

    def schema(self, completion_ids: Sequence[str]) -> JSON:  # noqa: ARG002 - a form's signature
        """JSON Schema of a payload."""
        labels = {"type": "array", "items": {"enum": [GOOD, NEUTRAL, BAD]}, "minItems": 1}
        return payload_schema(
            {"labels": labels, "first_error": {"type": "boolean"}}, required=["labels"]
        )

    def examples(
        self,
        completion_ids: Sequence[str],  # noqa: ARG002 - a form's signature
    ) -> list[dict[str, JSON]]:
        """All steps of three, then up to the first error."""
        return [
            {"labels": [GOOD, NEUTRAL, GOOD]},
            {"labels": [GOOD, BAD, GOOD]},
            {"labels": [GOOD, BAD], "first_error": True},
        ]

    def validate(
        self,
        payload: Mapping[str, JSON],
        completion_ids: Sequence[str],  # noqa: ARG002 - a form's signature
    ) -> None:
        """Raise ``DataError`` for a label other than 1, 0 and -1, or more after a first error."""
        check_payload(self.name, payload, ("labels", "first_error"), required=["labels"])
        labels, first_error = payload["labels"], payload.get("first_error", False)
        if not isinstance(labels, list) or not labels:
            raise DataError(
                f"steps answer has labels {labels!r:.80}; send a list with 1 (good), 0 (neutral) "
                "or -1 (bad) for each step"
            )
        for number, label in enumerate(labels, start=1):
            check_number(self.name, f"label {number}", label, BAD, GOOD)
        if not isinstance(first_error, bool):
            raise DataError(f"steps answer has first_error {first_error!r:.80}; send true or false")
        if first_error and BAD not in labels:
            raise DataError(
                f"steps answer has first_error but none of its {len(labels)} labels is -1; "
                "leave first_error out when no step is bad"
            )
        if first_error and labels.index(BAD) != len(labels) - 1:
            raise DataError(
                f"steps answer has first_error and {len(labels)} labels, but label "
                f"{labels.index(BAD) + 1} is -1 already; end the labels there"
            )

    @property
    def order(self) -> tuple[str, ...]:
        """How good a step is."""
        return WORDS

    def judgements(
        self,
        payload: Mapping[str, JSON],
        completion_ids: Sequence[str],  # noqa: ARG002 - a form's signature
    ) -> list[Judgement]:
        """A label for each labelled step."""
        return [
            Judgement(f"step {number}", WORDS[label - BAD])
            for number, label in enumerate(payload["labels"], start=1)
        ]

    def agrees(self, payload: Mapping[str, JSON], other: Mapping[str, JSON]) -> bool:
        """The same first bad step, or none in both."""
        return _first_bad(payload) == _first_bad(other)

    def check(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> None:
        """Raise ``DataError`` also when the labels are not as many as the steps."""
        super().check(task, completions, annotation)
        (shown,) = task.completion_ids
        labelled_steps(completions[shown], annotation)


def _first_bad(payload: Mapping[str, JSON]) -> int | None:
    return payload["labels"].index(BAD) if BAD in payload["labels"] else None


def labelled_steps(completion: Completion, annotation: Annotation) -> list[tuple[str, int]]:
    """The steps that a valid answer labels, with their labels; those after a first error are not.

    Raises ``DataError`` when the labels are not as many as the steps.
    """
    steps, labels = split_steps(completion.messages), annotation.payload["labels"]
    may_stop = annotation.payload.get("first_error", False)
    if len(labels) > len(steps) or (len(labels) < len(steps) and not may_stop):
        raise DataError(
            f"steps answer {annotation.id} has {len(labels)} labels for the {len(steps)} steps; "
            "label every step, or set first_error and end with the first bad one"
        )
    return list(zip(steps, labels, strict=False))


def split_steps(completion_messages: Sequence[Message]) -> tuple[str, ...]:
    """The steps of a completion as texts, in order: those of ``step_messages`` with their calls."""
    steps = step_messages(completion_messages)
    return tuple("\n".join(filter(None, (one.content, *one.tool_calls))) for one in steps)


def step_messages(completion_messages: Sequence[Message]) -> tuple[Message, ...]:
    """The steps of a completion, in order, each as a message.

    Of several messages of the assistant and its tools, each is a step: its text and its calls. Of
    a single one, the paragraphs and then each call are. Blank lines part paragraphs, but not
    inside a fenced block of code.
    """
    said = tuple(one for one in completion_messages if one.role in ("assistant", "tool"))
    if len(said) != 1:
        return said
    (whole,) = said
    paragraphs = (
        replace(whole, content=text, tool_calls=()) for text in _paragraphs(whole.content)
    )
    calls = (replace(whole, content="", tool_calls=(call,)) for call in whole.tool_calls)
    return (*paragraphs, *calls)


def _paragraphs(text: str) -> list[str]:
    paragraphs: list[list[str]] = [[]]
    is_fenced = False
    for line in text.split("\n"):
        is_fenced ^= _FENCE.match(line) is not None
        if line.strip() or is_fenced:
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    return ["\n".join(lines).strip("\r\n") for lines in paragraphs if lines]
