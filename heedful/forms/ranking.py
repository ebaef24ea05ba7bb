"""The order of several completions, best first, with ties."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

from heedful.errors import DataError
from heedful.forms.base import (
    BETTER,
    MAX_SHOWN,
    Comparison,
    Form,
    Judgement,
    Points,
    check_choice,
    check_payload,
    compared,
    imitated,
    judged,
    label_of,
    payload_schema,
)
from heedful.types import JSON, Annotation, Completion, Demonstration, Feedback, Preference, Task


class RankingForm(Form):
    """Payload ``{"ranks": [[ID], [ID, ID], [ID]]}``: groups from best to worst.

    The completions of a group are tied; every completion is in exactly one group.
    """

    name = "ranking"
    question = "Order the answers from best to worst. Equally good ones share a place."
    num_completions = (2, MAX_SHOWN)

    def schema(self, completion_ids: Sequence[str]) -> JSON:
        """JSON Schema of a payload."""
        group = {
            "type": "array",
            "items": {"enum": list(completion_ids)},
            "minItems": 1,
            "uniqueItems": True,
        }
        ranks = {
            "type": "array",
            "items": group,
            "minItems": 1,
            "maxItems": len(completion_ids),
        }
        return payload_schema({"ranks": ranks}, required=["ranks"])

    def examples(self, completion_ids: Sequence[str]) -> list[dict[str, JSON]]:
        """A strict order, its opposite, one better than the rest, and all tied."""
        first, *others = completion_ids
        strict: list[list[str]] = [[one] for one in completion_ids]
        return [
            {"ranks": strict},
            {"ranks": strict[::-1]},
            {"ranks": [[first], others]},
            {"ranks": [list(completion_ids)]},
        ]

    def validate(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> None:
        """Raise ``DataError`` unless every completion is in exactly one group."""
        check_payload(self.name, payload, ("ranks",), required=["ranks"])
        groups = payload["ranks"]
        if not isinstance(groups, list):
            raise DataError(
                f"ranking answer has ranks {groups!r:.80}; send a list of groups, best first"
            )
        for group in groups:
            if not isinstance(group, list) or not group:
                raise DataError(
                    f"ranking answer has the group {group!r:.80} in its ranks; "
                    "a group is a list of one completion id, or of several that tie"
                )
            for one in group:
                check_choice(self.name, "ranks with", one, completion_ids)
        counted = Counter(itertools.chain.from_iterable(groups))
        for one in completion_ids:
            if counted[one] != 1:
                raise DataError(
                    f"ranking answer has {one} {counted[one]} times among "
                    f"{len(completion_ids)} completions; put each into exactly one group"
                )

    def renamed(self, payload: Mapping[str, JSON], names: Mapping[str, str]) -> dict[str, JSON]:
        """The same answer about completions of other names."""
        ranks = payload.get("ranks")
        if not isinstance(ranks, list) or not all(_is_group(group) for group in ranks):
            return dict(payload)
        return {**payload, "ranks": [[names.get(one, one) for one in group] for group in ranks]}

    def agrees(self, payload: Mapping[str, JSON], other: Mapping[str, JSON]) -> bool:
        """The same first place, and no pair in opposite orders; a tie opposes nothing."""
        mine, theirs = _places(payload), _places(other)
        opposed = any(
            (mine[a] - mine[b]) * (theirs[a] - theirs[b]) < 0
            for a, b in itertools.combinations(mine, 2)
        )
        return not opposed and set(payload["ranks"][0]) == set(other["ranks"][0])

    def undecided(self, payload: Mapping[str, JSON]) -> str | None:
        """``tie`` when all completions share one place."""
        return "tie" if len(payload["ranks"]) == 1 else None

    @property
    def order(self) -> tuple[str, ...]:
        """How good the first one of a pair is."""
        return BETTER

    def judgements(
        self, payload: Mapping[str, JSON], completion_ids: Sequence[str]
    ) -> list[Judgement]:
        """A label for each pair: first, second or tie."""
        return [
            Judgement(f"{one.first + 1} and {one.second + 1}", label_of(one.gained))
            for one in self.points(payload, completion_ids)
        ]

    def points(self, payload: Mapping[str, JSON], completion_ids: Sequence[str]) -> list[Points]:
        """Every pair of completions."""
        place = {one: rank for rank, group in enumerate(payload["ranks"]) for one in group}
        ranks = [place[one] for one in completion_ids]
        return [
            Points(i, j, 0.5 if ranks[i] == ranks[j] else float(ranks[i] < ranks[j]))
            for i, j in itertools.combinations(range(len(ranks)), 2)
        ]

    def to_preferences(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Preference]:
        """Every pair of different places, better over worse; ties give none."""
        self.check(task, completions, annotation)
        return compared(
            task,
            annotation,
            [
                Comparison(completions[chosen].messages, completions[rejected].messages)
                for better, worse in itertools.combinations(annotation.payload["ranks"], 2)
                for chosen in sorted(better)
                for rejected in sorted(worse)
            ],
        )

    def to_feedback(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Feedback]:
        """The whole order, ties included, as one statement."""
        self.check(task, completions, annotation)
        places = [
            (completions[one].messages, float(place))
            for place, group in enumerate(annotation.payload["ranks"])
            for one in sorted(group)
        ]
        return [judged(task, annotation, "order", places)]

    def to_demonstrations(
        self, task: Task, completions: Mapping[str, Completion], annotation: Annotation
    ) -> list[Demonstration]:
        """The completions of the first place, unless all share it."""
        self.check(task, completions, annotation)
        if self.undecided(annotation.payload):
            return []
        best = sorted(annotation.payload["ranks"][0])
        return imitated(task, annotation, [completions[one].messages for one in best])


def _is_group(group: JSON) -> bool:
    return isinstance(group, list) and all(isinstance(one, str) for one in group)


def _places(payload: Mapping[str, JSON]) -> dict[str, int]:
    return {one: place for place, group in enumerate(payload["ranks"]) for one in group}
