from typing import Any

import pytest

from heedful.errors import DataError
from heedful.forms.pairwise import Pairwise

FORM = Pairwise()
SIDES = ("a", "b")
TEXTS = {"a": "A", "b": "B"}


def compared(ask: Any, payload: dict) -> list[tuple[str, str, float]]:
    rows = FORM.to_preferences(*ask("pairwise", payload, TEXTS))
    return [(one.chosen[0].content, one.rejected[0].content, one.margin) for one in rows]


def imitated(ask: Any, payload: dict) -> list[str]:
    rows = FORM.to_demonstrations(*ask("pairwise", payload, TEXTS))
    return [one.response[0].content for one in rows]


def test_pairwise_strength_becomes_the_margin(ask: Any) -> None:
    task, completions, annotation = ask("pairwise", {"preferred": "b", "strength": 3}, TEXTS)
    (row,) = FORM.to_preferences(task, completions, annotation)
    assert (row.chosen[0].content, row.rejected[0].content, row.margin) == ("B", "A", 3.0)
    assert (row.weight, row.annotation_ids) == (1.0, (annotation.id,))


def test_pairwise_preferred_completion_is_a_demonstration(ask: Any) -> None:
    assert imitated(ask, {"preferred": "b"}) == ["B"]


@pytest.mark.parametrize(
    ("payload", "rule"), [({"preferred": None}, "tie"), ({"preferred": "both_bad"}, "both_bad")]
)
def test_pairwise_tie_and_both_bad_are_told_apart(payload: dict, rule: str) -> None:
    assert FORM.undecided(payload) == rule


@pytest.mark.parametrize("preferred", [None, "both_bad"])
def test_pairwise_written_answer_beats_both_sides_of_an_undecided_pair(
    ask: Any, preferred: object
) -> None:
    payload = {"preferred": preferred, "written": "W"}
    assert FORM.undecided(payload) is None
    assert compared(ask, payload) == [("W", "A", 0.0), ("W", "B", 0.0)]


def test_pairwise_written_answer_is_added_to_the_stated_preference(ask: Any) -> None:
    payload = {"preferred": "b", "strength": 2, "written": "W"}
    assert compared(ask, payload) == [("B", "A", 2.0), ("W", "A", 0.0), ("W", "B", 0.0)]
    rows = FORM.to_preferences(*ask("pairwise", payload, TEXTS))
    assert [one.weight for one in rows] == [1 / 3] * 3


@pytest.mark.parametrize("preferred", ["a", None, "both_bad"])
def test_pairwise_written_answer_is_the_only_demonstration(ask: Any, preferred: object) -> None:
    assert imitated(ask, {"preferred": preferred, "written": "W"}) == ["W"]


@pytest.mark.parametrize("strength", [4, -1, 1.0, "2", True, None, [1], float("nan")])
def test_pairwise_refuses_a_strength_that_is_no_whole_number_up_to_3(strength: object) -> None:
    with pytest.raises(DataError, match="whole number from 0 to 3"):
        FORM.validate({"preferred": "a", "strength": strength}, SIDES)


@pytest.mark.parametrize("preferred", [None, "both_bad"])
def test_pairwise_refuses_a_strength_without_a_preference(preferred: object) -> None:
    with pytest.raises(DataError, match="leave strength out"):
        FORM.validate({"preferred": preferred, "strength": 1}, SIDES)


def test_pairwise_key_with_a_typo_offers_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'preferred'"):
        FORM.validate({"prefered": None}, SIDES)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"preferred": "b", "strength": 2}, [("order", "BA", (0, 1), 2, 1)]),
        ({"preferred": None}, [("order", "AB", (0, 0), 0, 1)]),
        ({"preferred": "both_bad"}, [("thumb", "AB", (0, 0), 0, 1)]),
        (
            {"preferred": "both_bad", "written": "W"},
            [
                ("thumb", "AB", (0, 0), 0, 1 / 3),
                ("order", "WA", (0, 1), 0, 1 / 3),
                ("order", "WB", (0, 1), 0, 1 / 3),
            ],
        ),
    ],
)
def test_pairwise_feedback_keeps_pairs_ties_and_both_bad_apart(
    ask: Any, payload: dict, said: list[tuple]
) -> None:
    rows = FORM.to_feedback(*ask("pairwise", payload, TEXTS))
    assert [
        (
            one.scale,
            "".join(response[0].content for response in one.responses),
            one.values,
            one.margin,
            one.weight,
        )
        for one in rows
    ] == said
