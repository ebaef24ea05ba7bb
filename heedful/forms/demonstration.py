"""Is this completion worth imitating, or how should it have read?"""

from collections.abc import Mapping, Sequence

from heedful.errors import DataError
from heedful.forms.base import (
    Comparison,
    Form,
    Judgement,
    check_choice,
    check_payload,
    check_text,
    compared,
    imitated,
    judged,
    payload_schema,
    text_schema,
    written_answer,
)
from heedful.types import JSON, Annotation, Completion, Demonstration, Feedback, Preference, Task

REJECTED = "not_accepted"
VERDICTS = ("not accepted", "accepted")


class DemonstrationForm(Form):
    """Payload ``{"accepted": ID}``, ``{"accepted": null}`` or ``{"written": "a better answer"}``.

    The task shows one completion; ``written`` is that completion edited, or another answer in its
    place, and better than it.
    """

    name = "demonstration"
    question = "Is this a good answer? Accept it, edit it or write a better one."
    num_completions = (1, 1)

    def schema(self, completion_ids: Sequence[str]) -> JSON:
        """JSON Schema of a payload."""
        properties = {"accepted": {"enum": [*completion_ids, None]}, "written": text_schema()}
        either = [{"required": [key]} for key in properties]
        return payload_schema(properties, required=[]) | {"oneOf": either}

    def examples(self, completion_ids: Sequence[str]) -> list[dict[str, JSON]]:
        """Accepted, rejected and rewritten."""
        return [{"accepted": completion_ids[0]}, {"accepted": None}, {"written": "Better."}]

    def validate(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> None:
        """Raise ``DataError`` unless exactly one of ``accepted`` and ``written`` is stated."""
        check_payload(self.name, payload, ("accepted", "written"))
        if ("accepted" in payload) == ("written" in payload):
            raise DataError(
                f"demonstration answer has keys {sorted(payload)}; "
                "send exactly one of 'accepted' and 'written'"
            )
        if "accepted" in payload:
            check_choice(self.name, "accepted", payload["accepted"], [*completion_ids, None])
        else:
            check_text(self.name, "written", payload["written"])

    def renamed(self, payload: Mapping[str, JSON], names: Mapping[str, str]) -> dict[str, JSON]:
        """The same answer about a completion of another name."""
        accepted = payload.get("accepted")
        if not isinstance(accepted, str):
            return dict(payload)
        return {**payload, "accepted": names.get(accepted, accepted)}

    def without_texts(self, payload: Mapping[str, JSON]) -> dict[str, JSON] | None:
        """Accepted or not; None for an answer that was written."""
        return None if "written" in payload else super().without_texts(payload)

    def agrees(self, payload: Mapping[str, JSON], other: Mapping[str, JSON]) -> bool:
        """Both accept the completion, or neither does; what was written instead may differ."""
        return bool(payload.get("accepted")) == bool(other.get("accepted"))

    def undecided(self, payload: Mapping[str, JSON]) -> str | None:
        """``not_accepted`` when the completion was turned down without a better one."""
        return None if payload.get("accepted") or "written" in payload else REJECTED

    @property
    def order(self) -> tuple[str, ...]:
        """Whether it is good as it is."""
        return VERDICTS

    def judgements(
        self,
        payload: Mapping[str, JSON],
        completion_ids: Sequence[str],  # noqa: ARG002 - a form's signature
    ) -> list[Judgement]:
        """Accepted as it is, or not; what is written in its place is no label."""
        return [Judgement("", VERDICTS[bool(payload.get("accepted"))])]

    def to_preferences(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Preference]:
        """The written answer over the shown one."""
        self.check(task, completions, annotation)
        (shown,) = task.completion_ids
        if "written" not in annotation.payload:
            return []
        written = written_answer(annotation.payload["written"])
        return compared(task, annotation, [Comparison(written, completions[shown].messages)])

    def to_feedback(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Feedback]:
        """A thumb up or down, or the written answer over the shown one."""
        self.check(task, completions, annotation)
        payload = annotation.payload
        shown = completions[task.completion_ids[0]].messages
        if "written" in payload:
            order = [(written_answer(payload["written"]), 0.0), (shown, 1.0)]
            return [judged(task, annotation, "order", order)]
        is_good = float(payload["accepted"] is not None)
        return [judged(task, annotation, "thumb", [(shown, is_good)])]

    def to_demonstrations(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Demonstration]:
        """The accepted or the written answer."""
        self.check(task, completions, annotation)
        if self.undecided(annotation.payload):
            return []
        if "written" in annotation.payload:
            return imitated(task, annotation, [written_answer(annotation.payload["written"])])
        return imitated(task, annotation, [completions[annotation.payload["accepted"]].messages])
