"""Is this completion worth imitating, or how should it have read?"""

from collections.abc import Mapping, Sequence

from heedful.errors import DataError
from heedful.forms.base import check_choice, check_keys, is_text
from heedful.types import JSON, Annotation, Completion, Demonstration, Message, Preference, Task

REJECTED = "not_accepted"


class DemonstrationForm:
    """Payload ``{"accepted": ID}``, ``{"accepted": null}`` or ``{"written": "a better answer"}``.

    The task shows one completion; ``written`` replaces its text.
    """

    name = "demonstration"
    question = "Is this a good answer? Accept it, or write a better one."
    num_completions = (1, 1)

    def schema(self, completion_ids: Sequence[str]) -> JSON:
        """JSON Schema of a payload."""
        return {
            "type": "object",
            "properties": {
                "accepted": {"enum": [*completion_ids, None]},
                "written": {"type": "string", "pattern": r"\S"},
            },
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        }

    def examples(self, completion_ids: Sequence[str]) -> list[dict[str, JSON]]:
        """Accepted, rejected and rewritten."""
        return [{"accepted": completion_ids[0]}, {"accepted": None}, {"written": "Better."}]

    def validate(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> None:
        """Raise ``DataError`` unless exactly one of ``accepted`` and ``written`` is stated."""
        check_keys(self.name, payload, ("accepted", "written"))
        if len(payload) != 1:
            raise DataError(
                f"demonstration answer has keys {sorted(payload)}; "
                "send exactly one of 'accepted' and 'written'"
            )
        if "accepted" in payload:
            check_choice(self.name, "accepted", payload["accepted"], [*completion_ids, None])
        elif not is_text(payload["written"]):
            raise DataError(
                f"demonstration answer has written {payload['written']!r:.80}; "
                "send a text that is not empty, or 'accepted'"
            )

    def undecided(self, payload: Mapping[str, JSON]) -> str | None:
        """``not_accepted`` when the completion was turned down without a better one."""
        return None if payload.get("accepted") or "written" in payload else REJECTED

    def to_preferences(
        self,
        task: Task,
        completions: Mapping[str, Completion],  # noqa: ARG002 - a form's signature
        annotation: Annotation,
    ) -> list[Preference]:
        """None: one answer is compared with nothing."""
        self.validate(annotation.payload, task.completion_ids)
        return []

    def to_demonstrations(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Demonstration]:
        """The accepted or the written answer."""
        self.validate(annotation.payload, task.completion_ids)
        accepted = annotation.payload.get("accepted")
        if accepted:
            response = completions[accepted].messages
        elif "written" in annotation.payload:
            response = (Message(role="assistant", content=annotation.payload["written"]),)
        else:
            return []
        return [
            Demonstration(prompt=task.prompt, response=response, annotation_ids=(annotation.id,))
        ]
