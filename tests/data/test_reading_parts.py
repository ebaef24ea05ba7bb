"""Which parts a run learns, and what of the feedback it leaves out."""

import pytest

from heedful.config import RewardLoss
from heedful.data.collate import Said, Tree
from heedful.data.parts import about, without_flags
from heedful.data.reading import compared, learned, plan_reading, single_values, tally
from heedful.errors import DataError
from heedful.types import Feedback, Message, Part, Prompt


def said(scale: str, values: tuple[float, ...], criterion: str = "", weight: float = 1.0) -> Said:
    return Said(
        scale=scale,  # type: ignore[arg-type]
        responses=tuple(range(len(values))),
        values=values,
        criterion=criterion,
        weight=weight,
    )


def tree(*what: Said) -> Tree:
    return Tree(id="t", prompt=(1,), responses=((2,), (3,), (4,)), said=what)


ALL = tree(
    said("order", (0, 1)),
    said("rating", (1, 4), "polite"),
    said("rating", (5, 2), "honest"),
    said("rating", (3, 3), "terse"),
    said("rating", (2, 5)),
    said("flag", (0, 3, 1), "bias", 0.5),
    said("flag", (0, 0), "toxic"),
    said("flag", (1, 2), "refusal"),
)


def test_one_score_is_learned_unless_parts_are_asked_for() -> None:
    found = plan_reading(RewardLoss(), [ALL])
    assert found.parts == ()
    assert found.drops == {"flags_not_used": 3, "ratings_all_equal": 1}
    made = learned(ALL, found)
    assert made is not None
    assert (made.flags, set(made.ratings)) == ({}, {"", "honest", "polite"})


def test_criteria_and_flags_become_parts_and_the_rest_is_overall() -> None:
    found = plan_reading(RewardLoss(heads="criteria", flags="penalty"), [ALL])
    assert found.parts == (
        Part("overall", "score"), Part("honest", "score"), Part("polite", "score"),
        Part("bias", "flag"),
    )  # fmt: skip
    assert about(ALL, "overall", found.parts).said == (ALL.said[0], ALL.said[3], ALL.said[4])
    assert about(ALL, "bias", found.parts).said == (ALL.said[5],)


def test_flags_that_nobody_raised_or_everybody_did_are_counted_and_not_learned() -> None:
    found = plan_reading(RewardLoss(flags="veto"), [ALL])
    assert found.flags == {"bias": 2.0}
    assert found.drops["flag_toxic_never_raised"] == 1
    assert found.drops["flag_refusal_always_raised"] == 1
    made = learned(ALL, found)
    assert made is not None
    # severities in units of the mean one, where it was raised
    assert [mark[:3] for mark in made.flags["bias"]] == [
        (0, 0, 0.5),
        (1, 1.5, 0.5),
        (2, 0.5, 0.5),
    ]


def test_criteria_without_anything_else_have_no_overall_part() -> None:
    loss = RewardLoss(heads="criteria")
    found = plan_reading(loss, [tree(said("rating", (1, 4), "polite"))])
    assert found.parts == (Part("polite", "score"),)
    flags = plan_reading(RewardLoss(flags="penalty"), [tree(said("flag", (0, 1), "bias"))])
    assert flags.parts == (Part("bias", "flag"),)


def test_a_criterion_called_overall_is_the_overall_part() -> None:
    rated = tree(said("rating", (1, 4), "polite"), said("rating", (1, 4), "overall"))
    found = plan_reading(RewardLoss(heads="criteria"), [rated])
    assert [part.name for part in found.parts] == ["overall", "polite"]


@pytest.mark.parametrize(
    ("settings", "what", "match"),
    [
        ({"heads": "criteria"}, [said("order", (0, 1))], "no criterion has ratings that differ"),
        (
            {"heads": "criteria"},
            [said("order", (0, 1)), said("rating", (3, 3), "polite")],
            "no criterion has ratings that differ",
        ),
        (
            {"heads": "criteria", "flags": "penalty"},
            [said("rating", (1, 2), "bias"), said("flag", (0, 1), "bias")],
            "'bias' is a flag and a criterion",
        ),
        ({"flags": "penalty"}, [said("flag", (0, 0), "bias")], "1 flag_bias_never_raised"),
    ],
)
def test_parts_that_cannot_be_are_refused_with_the_reason(
    settings: dict, what: list[Said], match: str
) -> None:
    with pytest.raises(DataError, match=match):
        plan_reading(RewardLoss(**settings), [tree(*what)])


def test_flags_compare_nothing_and_rate_nothing() -> None:
    flagged = tree(said("flag", (0, 3, 1), "bias"))
    assert compared(flagged).pairs == ()
    assert single_values([flagged]) == {}
    assert tally([flagged]) == {"flags": 1}


def test_rows_of_flags_are_left_out_before_their_answers_are_read() -> None:
    row = Feedback(
        prompt=Prompt.of("hi"),
        responses=((Message(role="assistant", content="a"),),),
        scale="flag",
        values=(0.0,),
        criterion="bias",
    )
    assert without_flags([row, row], RewardLoss()) == ([], 2)
    assert without_flags([row], RewardLoss(flags="penalty")) == ([row], 0)
