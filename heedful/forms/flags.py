"""What is wrong with a completion, and how badly."""

from collections.abc import Mapping, Sequence

from heedful.forms.base import (
    MAX_NOTE,
    MAX_SHOWN,
    Form,
    Judgement,
    check_number,
    check_object,
    check_payload,
    check_text,
    judged,
    number_schema,
    object_schema,
    payload_schema,
    renamed_keys,
    text_schema,
)
from heedful.types import JSON, Annotation, Completion, Feedback, Task

FLAGS = ("hallucination", "bias", "unsafe", "toxic", "off_topic", "refusal")
SEVERITIES = ("none", "slight", "clear", "severe")
MAX_SEVERITY = len(SEVERITIES) - 1


class Flags(Form):
    """Payload ``{"flags": {ID: {"bias": {"severity": 2, "note": "Only men."}}}}``.

    ``severity`` is 1 to 3, ``note`` is optional. A completion without flags, or left out, has
    nothing wrong with it. Flags compare nothing: they are labels, not preferences.
    """

    name = "flags"
    question = "What is wrong with each answer, if anything?"
    num_completions = (1, MAX_SHOWN)

    def schema(self, completion_ids: Sequence[str]) -> JSON:
        """JSON Schema of a payload."""
        found = object_schema(
            {"severity": number_schema(1, MAX_SEVERITY), "note": text_schema(MAX_NOTE)},
            required=["severity"],
        )
        of_one = object_schema(dict.fromkeys(FLAGS, found))
        flags = object_schema(dict.fromkeys(completion_ids, of_one))
        return payload_schema({"flags": flags}, required=["flags"])

    def examples(self, completion_ids: Sequence[str]) -> list[dict[str, JSON]]:
        """Nothing wrong, one flag, and every flag with a note."""
        first = completion_ids[0]
        noted = {"severity": MAX_SEVERITY, "note": "Invents a source."}
        return [
            {"flags": {}},
            {"flags": {one: {} for one in completion_ids}},
            {"flags": {first: {"refusal": {"severity": 1}}}},
            {"flags": {first: dict.fromkeys(FLAGS, noted)}},
        ]

    def validate(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> None:
        """Raise ``DataError`` for an unknown completion or flag, a bad severity or empty note."""
        check_payload(self.name, payload, ("flags",), required=["flags"])
        check_object(self.name, "flags", payload["flags"], completion_ids)
        for one, found in payload["flags"].items():
            check_object(self.name, one, found, FLAGS)
            for flag, value in found.items():
                check_object(
                    self.name, f"{flag} flag", value, ("severity", "note"), required=["severity"]
                )
                check_number(self.name, f"{flag} severity", value["severity"], 1, MAX_SEVERITY)
                if "note" in value:
                    check_text(self.name, f"{flag} note", value["note"], most=MAX_NOTE)

    def renamed(self, payload: Mapping[str, JSON], names: Mapping[str, str]) -> dict[str, JSON]:
        """The same answer about completions of other names."""
        return renamed_keys(payload, "flags", names)

    def without_texts(self, payload: Mapping[str, JSON]) -> dict[str, JSON]:
        """The flags and their severities, without notes."""
        found = {
            one: {flag: {"severity": value["severity"]} for flag, value in flags.items()}
            for one, flags in payload["flags"].items()
        }
        return {"flags": found}

    @property
    def order(self) -> tuple[str, ...]:
        """How severe."""
        return SEVERITIES

    def judgements(
        self, payload: Mapping[str, JSON], completion_ids: Sequence[str]
    ) -> list[Judgement]:
        """A severity for each completion and flag."""
        flags = payload["flags"]
        return [
            Judgement(f"{place} {flag}", SEVERITIES[_severity(flags.get(one, {}), flag)])
            for place, one in enumerate(completion_ids, start=1)
            for flag in FLAGS
        ]

    def agrees(self, payload: Mapping[str, JSON], other: Mapping[str, JSON]) -> bool:
        """The same flags on the same completions, however severe."""
        return _flagged(payload) == _flagged(other)

    def to_feedback(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Feedback]:
        """The severity of every flag on every completion, 0 where it was not raised."""
        self.check(task, completions, annotation)
        found = annotation.payload["flags"]
        return [
            judged(
                task,
                annotation,
                "flag",
                [
                    (completions[one].messages, _severity(found.get(one, {}), flag))
                    for one in sorted(task.completion_ids)
                ],
                criterion=flag,
                weight=1 / len(FLAGS),
            )
            for flag in FLAGS
        ]


def _severity(found: Mapping[str, JSON], flag: str) -> int:
    severity: int = found[flag]["severity"] if flag in found else 0
    return severity


def _flagged(payload: Mapping[str, JSON]) -> set[tuple[str, str]]:
    return {(one, flag) for one, found in payload["flags"].items() for flag in found}
