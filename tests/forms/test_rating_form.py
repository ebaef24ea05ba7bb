import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import DataError
from heedful.forms.rating import RatingForm, check_criteria

FORM = RatingForm()
CRITERIA = ("helpful", "honest", "harmless")


def pairs(ask: Any, ratings: dict[str, dict[str, int]]) -> set[tuple[str, str]]:
    """What the form makes of ratings of completions that say their own ids."""
    rows = FORM.to_preferences(*ask("rating", {"ratings": ratings}, {one: one for one in ratings}))
    assert {row.margin for row in rows} <= {0.0}
    found = {(row.chosen[0].content, row.rejected[0].content) for row in rows}
    assert len(found) == len(rows)
    return found


SCORES = st.lists(st.integers(1, 5), min_size=3, max_size=3)


@given(st.lists(SCORES, min_size=1, max_size=9))
def test_rating_prefers_what_is_nowhere_worse_and_somewhere_better(
    ask: Any, scores: list[list[int]]
) -> None:
    expected = set()
    for one, other in itertools.permutations(range(len(scores)), 2):
        differences = [a - b for a, b in zip(scores[one], scores[other], strict=True)]
        if min(differences) >= 0 and sum(differences) > 0:
            expected.add((f"c{one}", f"c{other}"))
    ratings = {
        f"c{number}": dict(zip(CRITERIA, row, strict=True)) for number, row in enumerate(scores)
    }
    assert pairs(ask, ratings) == expected


def test_rating_on_one_criterion_orders_all_different_scores(ask: Any) -> None:
    ratings = {"a": {"overall": 5}, "b": {"overall": 2}, "c": {"overall": 2}}
    assert pairs(ask, ratings) == {("a", "b"), ("a", "c")}


def test_rating_that_trades_criteria_states_no_preference(ask: Any) -> None:
    ratings = {"a": {"helpful": 5, "honest": 4}, "b": {"helpful": 1, "honest": 5}}
    assert pairs(ask, ratings) == set()
    assert FORM.undecided({"ratings": ratings}) is None


def test_rating_is_never_a_demonstration(ask: Any) -> None:
    ratings = {"a": {"overall": 5}, "b": {"overall": 1}}
    assert FORM.to_demonstrations(*ask("rating", {"ratings": ratings}, {"a": "A", "b": "B"})) == []


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ({"a": {"h": 1}}, "ratings has no 'b' among its 1 keys; it needs a, b"),
        ({"a": {"h": 1}, "b": {"h": 1}, "x": {"h": 1}}, "unknown key 'x'; choose from: a, b"),
        ({"a": {"h": 1}, "b": {}}, "answer's b has no 'h'"),
        ({"a": {"h": 1}, "b": {"h": 1, "tone": 2}}, "answer's b has an unknown key 'tone'"),
        ({"a": {}, "b": {}}, "rating has 0 criteria; name 1 to 20"),
        ({"a": 3, "b": 3}, "rates a with 3; send an object"),
        ({"a": {"h": 1}, "b": 3}, "answer's b is 3; send a JSON object"),
        ({"a": {"h": 0}, "b": {"h": 1}}, "h of a 0; send a whole number from 1 to 5"),
        ({"a": {"h": 1}, "b": {"h": 6}}, "h of b 6; send a whole number from 1 to 5"),
        ({"a": {"h": 1}, "b": {"h": "5"}}, "h of b '5'; send a whole number"),
        ({"a": {"h": True}, "b": {"h": 1}}, "h of a True; send a whole number"),
        ({"a": {"h": 4.5}, "b": {"h": 1}}, "h of a 4.5; send a whole number"),
    ],
)
def test_rating_refuses_what_is_not_every_completion_on_the_same_criteria(
    ratings: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        FORM.validate({"ratings": ratings}, ["a", "b"])


@pytest.mark.parametrize("name", ["a", "brand_voice", "level-2", "x" * 40])
def test_criterion_names_are_slugs(name: str) -> None:
    check_criteria([name])


@pytest.mark.parametrize("name", ["", "Brand", "2nd", "a b", "a\n", "é", "x" * 41, 7, None])
def test_other_criterion_names_are_refused(name: object) -> None:
    with pytest.raises(DataError, match="such as brand_voice"):
        check_criteria([name])


def test_at_most_twenty_criteria_are_rated() -> None:
    check_criteria(f"c{number}" for number in range(20))
    with pytest.raises(DataError, match="rating has 21 criteria"):
        check_criteria(f"c{number}" for number in range(21))


def test_rating_feedback_is_every_score_by_criterion(ask: Any) -> None:
    ratings = {"a": {"helpful": 4, "honest": 1}, "b": {"helpful": 2, "honest": 5}}
    rows = FORM.to_feedback(*ask("rating", {"ratings": ratings}, {"a": "A", "b": "B"}))
    said = [(one.scale, one.criterion, one.values, one.weight) for one in rows]
    assert said == [("rating", "helpful", (4, 2), 0.5), ("rating", "honest", (1, 5), 0.5)]
