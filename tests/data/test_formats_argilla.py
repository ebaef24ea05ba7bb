from typing import Any

import pytest

from heedful.data.formats.argilla import parse
from heedful.data.formats.base import RowDropped


def record(**lists: Any) -> dict[str, Any]:
    row = {"form": "pairwise", "prompt": "q", "response_1": "a", "response_2": "b"}
    return row | {f"preferred.{name}": values for name, values in lists.items()}


def test_one_answer_needs_no_user() -> None:
    (answer,) = parse(record(responses=["response_1"])).answers
    assert (answer.annotator, answer.payload) == ("", {"preferred": "1"})


@pytest.mark.parametrize(
    ("lists", "seen"),
    [
        ({"responses": ["response_1", "response_2"]}, "2 answers of no users"),
        (
            {"responses": ["response_1", "tie"], "responses.users": ["ann", "ann"]},
            "2 answers of the same user twice",
        ),
        ({"responses": ["response_1", "tie"], "responses.users": ["ann"]}, "2 of 1 users"),
    ],
)
def test_answers_that_cannot_be_told_apart_are_dropped(lists: dict[str, Any], seen: str) -> None:
    with pytest.raises(RowDropped, match=f"uneven_lists.*{seen}"):
        parse(record(**lists))


def test_an_answer_that_cannot_be_read_is_left_out_alone() -> None:
    row = record(responses=["response_1", "tie"], **{"responses.users": ["ann", "ben"]})
    row |= {"comment.responses": ["\ud800"], "comment.responses.users": ["ben"]}
    found = parse(row)
    assert [one.annotator for one in found.answers] == ["ann"]
    assert [rule for rule, _ in found.left_out] == ["invalid_text"]


@pytest.mark.parametrize("user", ["a\0b", "\ud800"])
def test_a_user_whom_no_database_can_name_is_dropped(user: str) -> None:
    with pytest.raises(RowDropped, match=r"invalid_text.*preferred has a user that has"):
        parse(record(responses=["tie"], **{"responses.users": [user]}))


def test_answers_that_were_not_submitted_are_counted_by_their_status() -> None:
    lists: dict[str, Any] = {
        "responses": ["tie"] * 4,
        "responses.users": list("abcd"),
        "responses.status": ["draft", "submitted", "pending", "discarded"],
    }
    found = parse(record(**lists))
    assert [one.annotator for one in found.answers] == ["b"]
    assert [rule for rule, _ in found.left_out] == ["draft", "pending", "discarded"]
    lists["responses.status"][0] = "\ud800"
    with pytest.raises(RowDropped, match=r"unknown_status.*preferred has '.ud800'; known: submi"):
        parse(record(**lists))
