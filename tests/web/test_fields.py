import pytest

from heedful.errors import DataError
from heedful.forms import FORMS
from heedful.web.fields import CONVERTERS, payload_of, with_completions

SHOWN = ("cmp_a", "cmp_b", "cmp_c")


@pytest.mark.parametrize(
    ("form", "num_shown", "fields", "wanted"),
    [
        ("pairwise", 2, {"choice": "1"}, {"preferred": "cmp_b"}),
        ("pairwise", 2, {"choice": "0+"}, {"preferred": "cmp_a", "strength": 3}),
        ("pairwise", 2, {"choice": "tie", "written": " W\r\nw "},
         {"preferred": None, "written": "W\nw"}),
        ("pairwise", 2, {"choice": "both_bad", "written": " "}, {"preferred": "both_bad"}),
        ("ranking", 3, {"rank.0": "2", "rank.1": "1", "rank.2": "2"},
         {"ranks": [["cmp_b"], ["cmp_a", "cmp_c"]]}),
        ("rating", 2, {"rating.0.kind": "5", "rating.1.kind": "1"},
         {"ratings": {"cmp_a": {"kind": 5}, "cmp_b": {"kind": 1}}}),
        ("flags", 2, {"flag.1.bias": "2", "note.1.bias": "why", "flag.0.toxic": "0"},
         {"flags": {"cmp_b": {"bias": {"severity": 2, "note": "why"}}}}),
        ("demonstration", 1, {"choice": "accept"}, {"accepted": "cmp_a"}),
        ("demonstration", 1, {"choice": "reject"}, {"accepted": None}),
        ("demonstration", 1, {"choice": "write", "written": "Better"}, {"written": "Better"}),
        ("demonstration", 1, {"choice": "write", "written": "As is\r\n", "shown": "As is"},
         {"accepted": "cmp_a"}),
        ("demonstration", 1, {"choice": "reject", "written": "As is", "shown": "As is"},
         {"accepted": None}),
        ("demonstration", 1, {"choice": "reject", "written": "", "shown": "As is"},
         {"accepted": None}),
        ("critique", 1, {"critique": "Vague"}, {"critique": "Vague"}),
        ("steps", 1, {"step.0": "1", "step.1": "-1"}, {"labels": [1, -1]}),
        ("steps", 1, {"step.0": "1", "step.1": "-1", "step.2": "1", "first_error": "1"},
         {"labels": [1, -1], "first_error": True}),
        ("steps", 1, {"step.0": "1", "first_error": "1"}, {"labels": [1]}),
    ],
)  # fmt: skip
def test_a_page_states_a_payload_that_its_form_accepts(
    form: str, num_shown: int, fields: dict[str, str], wanted: dict[str, object]
) -> None:
    shown = SHOWN[:num_shown]
    assert payload_of(form, fields, shown) == wanted
    commented = payload_of(form, fields | {"comment": "because"}, shown)
    assert commented == wanted | {"comment": "because"}
    FORMS[form].validate(commented, shown)


def test_a_step_without_a_label_is_named() -> None:
    fields = {"step.0": "1", "step.1": "", "step.2": "-1", "step.3": ""}
    with pytest.raises(DataError, match="2 of 4 steps have no label, step 2 first"):
        payload_of("steps", fields, ["cmp_a"])
    with pytest.raises(DataError, match="1 of 3 steps have no label, step 2 first"):
        payload_of("steps", fields | {"first_error": "1"}, ["cmp_a"])
    labelled = fields | {"step.1": "0", "first_error": "1"}
    found = payload_of("steps", labelled, ["cmp_a"])
    assert found == {"labels": [1, 0, -1], "first_error": True}


@pytest.mark.parametrize("form", list(CONVERTERS))
def test_nothing_stated_is_refused_or_means_nothing_wrong(form: str) -> None:
    shown = SHOWN[: max(1, FORMS[form].num_completions[0])]
    if form == "flags":
        assert payload_of(form, {}, shown) == {"flags": {}}
        return
    with pytest.raises(DataError):
        FORMS[form].validate(payload_of(form, {}, shown), shown)


@pytest.mark.parametrize(
    ("form", "fields"),
    [
        ("pairwise", {"choice": "2"}),
        ("pairwise", {"choice": "-1"}),
        ("ranking", {"rank.0": "1", "rank.1": "x"}),
        ("rating", {"rating.7.kind": "5"}),
        ("rating", {"rating.x.kind": "5"}),
        ("flags", {"flag.0.bias": "much"}),
        ("flags", {"flag.0.bias": "0", "note.0.bias": "a note"}),
        ("flags", {"note.0.bias": "a note"}),
        ("demonstration", {"choice": "reject", "written": "Better", "shown": "As is"}),
        ("demonstration", {"choice": "accept", "written": "Better", "shown": "As is"}),
        ("steps", {"step.0": ""}),
    ],
)
def test_fields_that_no_page_of_ours_sends_are_refused(form: str, fields: dict[str, str]) -> None:
    with pytest.raises(DataError):
        payload_of(form, fields, SHOWN[:2])


def test_every_form_has_a_page() -> None:
    assert set(CONVERTERS) == set(FORMS)


@pytest.mark.parametrize(
    ("payload", "wanted"),
    [
        ({"preferred": "1", "strength": 3}, {"preferred": "cmp_b", "strength": 3}),
        ({"preferred": "both_bad"}, {"preferred": "both_bad"}),
        ({"preferred": None, "written": "0"}, {"preferred": None, "written": "0"}),
        ({"accepted": "0", "comment": "1"}, {"accepted": "cmp_a", "comment": "1"}),
        ({"ranks": [["1"], ["0"]]}, {"ranks": [["cmp_b"], ["cmp_a"]]}),
        ({"ratings": {"0": {"kind": 1}}}, {"ratings": {"cmp_a": {"kind": 1}}}),
        (
            {"flags": {"1": {"unsafe": {"severity": 1, "note": "0"}}}},
            {"flags": {"cmp_b": {"unsafe": {"severity": 1, "note": "0"}}}},
        ),
        ({"preferred": "cmp_a"}, {"preferred": "cmp_a"}),
        ({"ranks": 7, "accepted": ["0", [["0"]]]}, {"ranks": 7, "accepted": ["cmp_a", [["0"]]]}),
    ],
)  # fmt: skip
def test_an_answer_of_the_api_names_candidates_by_their_places(payload, wanted) -> None:
    assert with_completions(payload, ("cmp_a", "cmp_b")) == wanted
