from typing import Any

import pytest

from heedful.errors import DataError
from heedful.forms.flags import FLAGS, Flags

FORM = Flags()


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("severity", [1, 2, 3])
def test_flag_of_each_kind_is_accepted_at_each_severity(flag: str, severity: int) -> None:
    FORM.validate({"flags": {"b": {flag: {"severity": severity}}}}, ["a", "b"])


def test_flags_are_the_six_that_people_are_asked_about() -> None:
    asked = {"hallucination", "bias", "unsafe", "toxic", "off_topic", "refusal"}
    assert set(FLAGS) == asked


def test_flag_on_one_of_two_answers_prefers_neither(ask: Any) -> None:
    payload = {"flags": {"a": {"toxic": {"severity": 3}}}}
    asked = ask("flags", payload, {"a": "A", "b": "B"})
    assert FORM.to_preferences(*asked) == []
    assert FORM.to_demonstrations(*asked) == []
    assert FORM.undecided(payload) is None


def test_flags_feedback_is_every_flag_on_every_answer_looked_for_or_found(ask: Any) -> None:
    payload = {"flags": {"b": {"toxic": {"severity": 3}, "bias": {"severity": 1}}}}
    rows = FORM.to_feedback(*ask("flags", payload, {"a": "A", "b": "B"}))
    assert [row.criterion for row in rows] == list(FLAGS)
    assert {row.scale for row in rows} == {"flag"}
    values = {row.criterion: row.values for row in rows}
    assert values.pop("toxic") == (0.0, 3.0)
    assert values.pop("bias") == (0.0, 1.0)
    assert set(values.values()) == {(0.0, 0.0)}


@pytest.mark.parametrize("payload", [{"flags": {}}, {"flags": {"a": {}, "b": {}}}])
def test_nothing_wrong_is_an_answer(payload: dict) -> None:
    FORM.validate(payload, ["a", "b"])
    assert FORM.undecided(payload) is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"x": {}}, "unknown key 'x'; choose from: a, b"),
        ({"a": ["bias"]}, r"answer's a is \['bias'\]; send a JSON object"),
        ({"a": {"toxicity": {"severity": 1}}}, "'toxicity'; did you mean 'toxic'"),
        ({"a": {"bias": 2}}, "bias flag is 2; send a JSON object"),
        ({"a": {"bias": {}}}, "bias flag has no 'severity'"),
        ({"a": {"bias": {"severity": 0}}}, "bias severity 0; send a whole number from 1 to 3"),
        ({"a": {"bias": {"severity": 4}}}, "bias severity 4; send a whole number from 1 to 3"),
        ({"a": {"bias": {"severity": True}}}, "bias severity True; send a whole number"),
        ({"a": {"bias": {"severity": 1, "note": ""}}}, "bias note ''; send a text"),
        ({"a": {"bias": {"severity": 1, "note": "x" * 4001}}}, "shorten it to at most 4000"),
        ({"a": {"bias": {"severity": 1, "why": "x"}}}, "bias flag has an unknown key 'why'"),
    ],
)
def test_flags_refusal_names_the_flag_and_what_is_allowed(flags: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FORM.validate({"flags": flags}, ["a", "b"])
