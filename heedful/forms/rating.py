"""Scores from 1 to 5 on named criteria."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from heedful.errors import DataError
from heedful.forms.base import (
    MAX_SHOWN,
    Comparison,
    Form,
    Judgement,
    Points,
    check_number,
    check_object,
    check_payload,
    compared,
    judged,
    number_schema,
    object_schema,
    payload_schema,
    renamed_keys,
)
from heedful.types import JSON, Annotation, Completion, Feedback, Preference, Task

LOWEST, HIGHEST = 1, 5
MAX_CRITERIA = 20
DEFAULT_CRITERIA = ("helpful", "honest", "harmless")  # of a project that names none
CRITERION = "[a-z][a-z0-9_-]{0,39}"


class RatingForm(Form):
    """Payload ``{"ratings": {ID: {"helpful": 4, "honest": 5}}}``; 1 is the worst, 5 the best.

    Criteria are free names; every completion is rated on the same ones. Which ones a project asks
    for is the project's matter.
    """

    name = "rating"
    question = "How good is each answer? 1 is poor, 5 is excellent."
    num_completions = (1, MAX_SHOWN)

    def schema(self, completion_ids: Sequence[str]) -> JSON:
        """JSON Schema of a payload."""
        scores = {
            "type": "object",
            "propertyNames": {"pattern": f"^{CRITERION}$"},
            "additionalProperties": number_schema(LOWEST, HIGHEST),
            "minProperties": 1,
            "maxProperties": MAX_CRITERIA,
        }
        ratings = object_schema(dict.fromkeys(completion_ids, scores), required=completion_ids)
        return payload_schema({"ratings": ratings}, required=["ratings"])

    def examples(self, completion_ids: Sequence[str]) -> list[dict[str, JSON]]:
        """All alike, the first one better on a criterion, and a trade-off between criteria."""
        first, *others = completion_ids
        plain = {"helpful": 4, "honest": 3}
        rest = dict.fromkeys(others, plain)
        return [
            {"ratings": {first: plain} | rest},
            {"ratings": {first: plain | {"honest": HIGHEST}} | rest},
            {"ratings": {first: {"helpful": LOWEST, "honest": HIGHEST}} | rest},
        ]

    def validate(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> None:
        """Raise ``DataError`` unless every completion has a score on the same criteria."""
        check_payload(self.name, payload, ("ratings",), required=["ratings"])
        ratings = payload["ratings"]
        check_object(self.name, "ratings", ratings, completion_ids, required=completion_ids)
        first = ratings[completion_ids[0]]
        if not isinstance(first, Mapping):
            raise DataError(
                f"rating answer rates {completion_ids[0]} with {first!r:.80}; "
                'send an object such as {"helpful": 4}'
            )
        check_criteria(first)
        for one in completion_ids:
            check_object(self.name, one, ratings[one], list(first), required=list(first))
            for criterion, score in ratings[one].items():
                check_number(self.name, f"{criterion} of {one}", score, LOWEST, HIGHEST)

    def renamed(self, payload: Mapping[str, JSON], names: Mapping[str, str]) -> dict[str, JSON]:
        """The same answer about completions of other names."""
        return renamed_keys(payload, "ratings", names)

    @property
    def order(self) -> tuple[str, ...]:
        """The scores."""
        return tuple(map(str, range(LOWEST, HIGHEST + 1)))

    def judgements(
        self, payload: Mapping[str, JSON], completion_ids: Sequence[str]
    ) -> list[Judgement]:
        """A score for each completion and criterion."""
        return [
            Judgement(f"{place} {criterion}", str(score))
            for place, one in enumerate(completion_ids, start=1)
            for criterion, score in sorted(payload["ratings"][one].items())
        ]

    def points(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> list[Points]:
        """Pairs where one is better on all criteria, or alike on all; not what trades them."""
        scores = [payload["ratings"][one] for one in completion_ids]
        return [
            Points(i, j, 0.5 if scores[i] == scores[j] else float(_dominates(scores[i], scores[j])))
            for i, j in itertools.combinations(range(len(scores)), 2)
            if scores[i] == scores[j]
            or _dominates(scores[i], scores[j])
            or _dominates(scores[j], scores[i])
        ]

    def agrees(self, payload: Mapping[str, JSON], other: Mapping[str, JSON]) -> bool:
        """The same criteria, and no score further than 1 from the other's."""
        mine, theirs = payload["ratings"], other["ratings"]
        return all(
            set(mine[one]) == set(theirs[one])
            and all(abs(score - theirs[one][name]) <= 1 for name, score in mine[one].items())
            for one in mine
        )

    def to_preferences(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Preference]:
        """A completion over another when no criterion is worse and at least one is better.

        Scores that trade one criterion for another state no preference: how much a criterion
        weighs is not the annotator's answer. The scores' distance is no margin either.
        """
        self.check(task, completions, annotation)
        ratings = annotation.payload["ratings"]
        return compared(
            task,
            annotation,
            [
                Comparison(completions[better].messages, completions[worse].messages)
                for better, worse in itertools.permutations(sorted(ratings), 2)
                if _dominates(ratings[better], ratings[worse])
            ],
        )

    def to_feedback(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Feedback]:
        """The ratings on every criterion; an answer's weights over its criteria sum to 1."""
        self.check(task, completions, annotation)
        ratings = annotation.payload["ratings"]
        criteria = sorted(ratings[task.completion_ids[0]])
        return [
            judged(
                task,
                annotation,
                "rating",
                [(completions[one].messages, ratings[one][name]) for one in sorted(ratings)],
                criterion=name,
                weight=1 / len(criteria),
            )
            for name in criteria
        ]


def check_rates(payload: Mapping[str, JSON], criteria: Sequence[str]) -> None:
    """Refuse a valid answer that rates what was not asked."""
    rated = {name for scores in payload["ratings"].values() for name in scores}
    if others := sorted(rated - set(criteria)):
        raise DataError(
            f"rating answer rates {others[0]!r:.60}; the project asks for {', '.join(criteria)}"
        )


def check_criteria(names: Iterable[object]) -> None:
    """Refuse no or too many criteria, and names that are no slugs; also for a project's list."""
    seen = list(names)
    if not 1 <= len(seen) <= MAX_CRITERIA:
        raise DataError(f"rating has {len(seen)} criteria; name 1 to {MAX_CRITERIA} of them")
    for name in seen:
        if not isinstance(name, str) or not re.fullmatch(CRITERION, name):
            raise DataError(
                f"rating has the criterion {name!r:.80}; a name starts with a small letter and has "
                "at most 40 small letters, digits, '_' and '-', such as brand_voice"
            )


def _dominates(better: Mapping[str, int], worse: Mapping[str, int]) -> bool:
    return better != worse and all(better[name] >= worse[name] for name in better)
