"""Which of two completions is better, and by how much; or what the right answer would be."""

from collections.abc import Mapping, Sequence

from heedful.errors import DataError
from heedful.forms.base import (
    BETTER,
    Comparison,
    Form,
    Judgement,
    Points,
    check_choice,
    check_number,
    check_payload,
    check_text,
    compared,
    imitated,
    judged,
    label_of,
    number_schema,
    payload_schema,
    text_schema,
    written_answer,
)
from heedful.types import JSON, Annotation, Completion, Demonstration, Feedback, Preference, Task

BOTH_BAD = "both_bad"
MAX_STRENGTH = 3  # 0 no statement, 1 slightly, 2 clearly, 3 far better


class Pairwise(Form):
    """Payload ``{"preferred": ID, "strength": 2, "written": "a better answer"}``.

    ``preferred`` is a completion id, null for a tie or ``"both_bad"``; ``strength`` (0 to 3,
    optional) becomes the margin and goes with a completion id only; ``written`` (optional) is
    better than both completions, whatever is preferred. Instead of a strength a completion id may
    have a ``probability`` (above 0.5 to 1) of being the better one, such as the share of several
    people.
    """

    name = "pairwise"
    question = "Which answer is better?"
    num_completions = (2, 2)

    def schema(self, completion_ids: Sequence[str]) -> JSON:
        """JSON Schema of a payload."""
        return payload_schema(
            {
                "preferred": {"enum": [*completion_ids, None, BOTH_BAD]},
                "strength": number_schema(0, MAX_STRENGTH),
                "probability": {"type": "number", "exclusiveMinimum": 0.5, "maximum": 1},
                "written": text_schema(),
            },
            required=["preferred"],
        )

    def examples(self, completion_ids: Sequence[str]) -> list[dict[str, JSON]]:
        """Left, right with a strength, likely left, tie, both bad, and with an answer written."""
        left, right = completion_ids
        return [
            {"preferred": left},
            {"preferred": right, "strength": 2},
            {"preferred": left, "probability": 0.7},
            {"preferred": None},
            {"preferred": BOTH_BAD},
            {"preferred": BOTH_BAD, "written": "Better."},
            {"preferred": left, "strength": 1, "written": "Better."},
        ]

    def validate(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> None:
        """Raise ``DataError`` for an unknown completion or key, a bad strength or an empty text."""
        check_payload(
            self.name,
            payload,
            ("preferred", "strength", "probability", "written"),
            required=["preferred"],
        )
        preferred, strength = payload["preferred"], payload.get("strength", 0)
        check_choice(self.name, "preferred", preferred, [*completion_ids, None, BOTH_BAD])
        check_number(self.name, "strength", strength, 0, MAX_STRENGTH)
        if strength and preferred not in completion_ids:
            raise DataError(
                f"pairwise answer has strength {strength} but prefers neither completion; "
                "leave strength out"
            )
        if "probability" in payload:
            _check_probability(payload["probability"])
            if strength or preferred not in completion_ids:
                raise DataError(
                    "pairwise answer has a probability and "
                    + ("a strength" if strength else "prefers neither completion")
                    + "; a probability goes with a preferred completion and without a strength"
                )
        if "written" in payload:
            check_text(self.name, "written", payload["written"])

    def renamed(self, payload: Mapping[str, JSON], names: Mapping[str, str]) -> dict[str, JSON]:
        """The same answer about completions of other names."""
        preferred = payload.get("preferred")
        if not isinstance(preferred, str) or preferred == BOTH_BAD:
            return dict(payload)
        return {**payload, "preferred": names.get(preferred, preferred)}

    def without_texts(self, payload: Mapping[str, JSON]) -> dict[str, JSON]:
        """The preference alone."""
        return {key: value for key, value in payload.items() if key not in ("comment", "written")}

    def agrees(self, payload: Mapping[str, JSON], other: Mapping[str, JSON]) -> bool:
        """The same side, tie or "both bad", however strongly."""
        return bool(payload["preferred"] == other["preferred"])

    def undecided(self, payload: Mapping[str, JSON]) -> str | None:
        """``tie`` or ``both_bad``, unless a better answer was written."""
        if "written" in payload:
            return None
        if payload["preferred"] is None:
            return "tie"
        return BOTH_BAD if payload["preferred"] == BOTH_BAD else None

    @property
    def order(self) -> tuple[str, ...]:
        """How good the first one is; both bad says nothing about that."""
        return BETTER

    def judgements(
        self, payload: Mapping[str, JSON], completion_ids: Sequence[str]
    ) -> list[Judgement]:
        """One label: first, second, tie or both bad."""
        found = self.points(payload, completion_ids)
        return [Judgement("", label_of(found[0].gained) if found else "both bad")]

    def points(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> list[Points]:
        """One comparison; none when both are bad."""
        preferred = payload["preferred"]
        if preferred == BOTH_BAD:
            return []
        return [Points(0, 1, 0.5 if preferred is None else float(preferred == completion_ids[0]))]

    def to_preferences(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Preference]:
        """The stated preference, and the written answer over both completions."""
        self.check(task, completions, annotation)
        payload = annotation.payload
        comparisons = []
        preferred = payload["preferred"]
        if preferred in task.completion_ids:
            (other,) = (one for one in task.completion_ids if one != preferred)
            comparisons.append(
                Comparison(
                    chosen=completions[preferred].messages,
                    rejected=completions[other].messages,
                    margin=float(payload.get("strength", 0)),
                    probability=float(payload.get("probability", 1)),
                )
            )
        if "written" in payload:
            written = written_answer(payload["written"])
            comparisons += [
                Comparison(written, completions[one].messages)
                for one in sorted(task.completion_ids)
            ]
        return compared(task, annotation, comparisons)

    def to_feedback(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Feedback]:
        """The pair or the tie, or two thumbs down for both bad; and what was written over both."""
        self.check(task, completions, annotation)
        payload = annotation.payload
        preferred = payload["preferred"]
        shown = {one: completions[one].messages for one in sorted(task.completion_ids)}
        margin, weight = float(payload.get("strength", 0)), 1 / 3 if "written" in payload else 1.0
        if preferred == BOTH_BAD:
            bad = [(messages, 0.0) for messages in shown.values()]
            rows = [judged(task, annotation, "thumb", bad, weight=weight)]
        else:
            places = [(shown[one], float(preferred not in (None, one))) for one in shown]
            places.sort(key=lambda place: place[1])
            likely = float(payload.get("probability", 1))
            rows = [
                judged(
                    task,
                    annotation,
                    "order",
                    places,
                    margin=margin,
                    probability=likely,
                    weight=weight,
                )
            ]
        if "written" in payload:
            best = (written_answer(payload["written"]), 0.0)
            rows += [
                judged(task, annotation, "order", [best, (messages, 1.0)], weight=weight)
                for messages in shown.values()
            ]
        return rows

    def to_demonstrations(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Demonstration]:
        """The written answer, or else the preferred one."""
        self.check(task, completions, annotation)
        payload = annotation.payload
        if "written" in payload:
            return imitated(task, annotation, [written_answer(payload["written"])])
        preferred = [one for one in task.completion_ids if one == payload["preferred"]]
        return imitated(task, annotation, [completions[one].messages for one in preferred])


def _check_probability(seen: JSON) -> None:
    if type(seen) not in (int, float) or not 0.5 < seen <= 1:
        raise DataError(
            f"pairwise answer has probability {seen!r:.80}; send a number above 0.5 and at most 1, "
            "that of the preferred completion being the better one"
        )
