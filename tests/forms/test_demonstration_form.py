from typing import Any

import pytest

from heedful.errors import DataError
from heedful.forms.demonstration import DemonstrationForm
from heedful.types import Message

FORM = DemonstrationForm()


def test_written_answer_is_imitated_and_beats_the_shown_one(ask: Any) -> None:
    task, completions, annotation = ask("demonstration", {"written": "W"}, {"a": "A"})
    (demonstration,) = FORM.to_demonstrations(task, completions, annotation)
    assert demonstration.response == (Message(role="assistant", content="W"),)
    (preference,) = FORM.to_preferences(task, completions, annotation)
    assert (preference.chosen, preference.rejected) == (
        demonstration.response,
        completions["a"].messages,
    )
    assert (preference.weight, preference.margin) == (1.0, 0.0)


def test_accepted_answer_is_imitated_and_compared_with_nothing(ask: Any) -> None:
    asked = ask("demonstration", {"accepted": "a"}, {"a": "A"})
    (demonstration,) = FORM.to_demonstrations(*asked)
    assert demonstration.response[0].content == "A"
    assert FORM.to_preferences(*asked) == []


def test_rejected_answer_teaches_nothing_by_a_named_rule(ask: Any) -> None:
    asked = ask("demonstration", {"accepted": None}, {"a": "A"})
    assert FORM.undecided({"accepted": None}) == "not_accepted"
    assert FORM.to_demonstrations(*asked) == FORM.to_preferences(*asked) == []


@pytest.mark.parametrize(
    ("payload", "keys"),
    [({}, r"\[\]"), ({"accepted": "a", "written": "W"}, r"\['accepted', 'written'\]")],
)
def test_accepting_and_writing_exclude_each_other(payload: dict, keys: str) -> None:
    with pytest.raises(DataError, match=f"keys {keys}; send exactly one"):
        FORM.validate(payload, ["a"])


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"accepted": "a"}, [("thumb", (1,))]),
        ({"accepted": None}, [("thumb", (0,))]),
        ({"written": "W"}, [("order", (0, 1))]),
    ],
)
def test_demonstration_feedback_is_a_thumb_or_the_written_answer_over_the_shown(
    ask: Any, payload: dict, said: list[tuple]
) -> None:
    rows = FORM.to_feedback(*ask("demonstration", payload, {"a": "A"}))
    assert [(one.scale, one.values) for one in rows] == said
