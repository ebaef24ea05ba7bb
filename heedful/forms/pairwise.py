"""Which of two completions is better, and by how much."""

from collections.abc import Mapping, Sequence

from heedful.errors import DataError
from heedful.forms.base import check_choice, check_keys
from heedful.types import JSON, Annotation, Completion, Demonstration, Preference, Task

BOTH_BAD = "both_bad"
MAX_STRENGTH = 3  # 0 no statement, 1 slightly, 2 clearly, 3 far better


class Pairwise:
    """Payload ``{"preferred": ID, "strength": 2}``.

    ``preferred`` is a completion id, null for a tie or ``"both_bad"``; ``strength`` (0 to 3,
    optional) becomes the margin and goes with a completion id only.
    """

    name = "pairwise"
    question = "Which answer is better?"
    num_completions = (2, 2)

    def schema(self, completion_ids: Sequence[str]) -> JSON:
        """JSON Schema of a payload."""
        return {
            "type": "object",
            "properties": {
                "preferred": {"enum": [*completion_ids, None, BOTH_BAD]},
                "strength": {"type": "integer", "minimum": 0, "maximum": MAX_STRENGTH},
            },
            "required": ["preferred"],
            "additionalProperties": False,
        }

    def examples(self, completion_ids: Sequence[str]) -> list[dict[str, JSON]]:
        """Left, right with a strength, tie and both bad."""
        left, right = completion_ids
        return [
            {"preferred": left},
            {"preferred": right, "strength": 2},
            {"preferred": None},
            {"preferred": BOTH_BAD},
        ]

    def validate(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> None:
        """Raise ``DataError`` for an unknown completion, a bad strength or an unknown key."""
        check_keys(self.name, payload, ("preferred", "strength"))
        if "preferred" not in payload:
            raise DataError(
                "pairwise answer has no 'preferred'; "
                f"send a completion id, null for a tie, or {BOTH_BAD!r}"
            )
        preferred, strength = payload["preferred"], payload.get("strength", 0)
        check_choice(self.name, "preferred", preferred, [*completion_ids, None, BOTH_BAD])
        if type(strength) is not int or not 0 <= strength <= MAX_STRENGTH:
            raise DataError(
                f"pairwise answer has strength {strength!r:.80}; "
                f"send a whole number from 0 to {MAX_STRENGTH}"
            )
        if strength and preferred not in completion_ids:
            raise DataError(
                f"pairwise answer has strength {strength} but prefers neither completion; "
                "leave strength out"
            )

    def undecided(self, payload: Mapping[str, JSON]) -> str | None:
        """``tie`` or ``both_bad``."""
        if payload["preferred"] is None:
            return "tie"
        return BOTH_BAD if payload["preferred"] == BOTH_BAD else None

    def to_preferences(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Preference]:
        """One preference, or none for a tie or two bad answers."""
        self.validate(annotation.payload, task.completion_ids)
        if self.undecided(annotation.payload):
            return []
        preferred = annotation.payload["preferred"]
        (other,) = (one for one in task.completion_ids if one != preferred)
        return [
            Preference(
                prompt=task.prompt,
                chosen=completions[preferred].messages,
                rejected=completions[other].messages,
                margin=float(annotation.payload.get("strength", 0)),
                annotation_ids=(annotation.id,),
            )
        ]

    def to_demonstrations(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Demonstration]:
        """The chosen side of the preference."""
        return [
            Demonstration(prompt=one.prompt, response=one.chosen, annotation_ids=one.annotation_ids)
            for one in self.to_preferences(task, completions, annotation)
        ]
